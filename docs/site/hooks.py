"""MkDocs calls these: the generated pages come in, and links out of `docs/` stay whole.

The pages are Markdown files that read well in the repository too, so they link to files beside
`docs/` (`../action.yml`). Such a file is copied into the site under `files/`.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
HOMES = {
    "index.md": "README.md",
    "index.zh.md": "README.zh.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
WRAPPED = re.compile(r"(?<=[\u3000-\u9fff\uff00-\uffef])\n(?=[\u3000-\u9fff\uff00-\uffef])")
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages beside `docs/`, the reference, the house as it is now, and linked files."""
    sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "site")]
    from house import draw_house
    from reference import pages

    for name, origin in HOMES.items():
        files.append(File.generated(config, name, content=(ROOT / origin).read_text("utf-8")))
    files.remove(files.src_uris["images/house.svg"])
    files.append(File.generated(config, "images/house.svg", content=draw_house().drawn()))
    for name, text in pages():
        files.append(File.generated(config, name, content=text))
    for target in sorted({t for page in files.documentation_pages() for t in _linked(page)}):
        path = f"files/{target.as_posix()}"
        if _inside(target) is None and (ROOT / target).is_file() and path not in files.src_uris:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Point each link at where its file is in the site; join Chinese lines without a space."""
    here = posixpath.dirname(page.file.src_uri)

    def moved(link: re.Match[str]) -> str:
        target = _resolve(page.file, link[1])
        inside = _inside(target)
        place = inside if inside is not None else f"files/{target.as_posix()}"
        return posixpath.relpath(place, here or ".")

    return LINK.sub(moved, WRAPPED.sub("", markdown))


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Say in which language a page is: screen readers and hyphenation go by it."""
    chinese = page.file.src_uri.endswith(".zh.md")
    return output.replace('<html lang="en"', '<html lang="zh-CN"', 1) if chinese else output


def _linked(page: File) -> Iterator[Path]:
    for link in LINK.findall(page.content_string):
        yield _resolve(page, link)


def _resolve(page: File, link: str) -> Path:
    """A link's target, relative to the repository's root."""
    origin = HOMES.get(page.src_uri, f"docs/{page.src_uri}")
    return Path(posixpath.normpath(posixpath.join(posixpath.dirname(origin), link)))


def _inside(target: Path) -> str | None:
    """The target's name in the site, where it is one of its pages or pictures."""
    homes = {origin: name for name, origin in HOMES.items()}
    if target.as_posix() in homes:
        return homes[target.as_posix()]
    return target.relative_to("docs").as_posix() if target.is_relative_to("docs") else None
