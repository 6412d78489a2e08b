"""docs/architecture.md says what the contracts and the code say."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def contracts() -> dict[str, list[str]]:
    """Room -> its packages, as the import contracts have them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        one["containers"][0]: [
            n.strip() for layer in one["layers"] for n in layer.split("|") if "__" not in n
        ]
        for one in project["tool"]["importlinter"]["contracts"]
        if "containers" in one
    }


def test_the_picture_shows_every_package_where_its_contract_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    from house import draw_house

    drawn = draw_house().drawn()
    kept = (ROOT / "docs" / "images" / "house.svg").read_text(encoding="utf-8")
    assert drawn == kept, "python docs/site/pictures.py draws it again"
    boxes = re.findall(r'<rect class="box" x="[\d.]+" y="([\d.]+)".*\n.*>(\w+)</text>', drawn)
    for room, packages in contracts().items():
        assert f">{room}/</text>" in drawn
        assert set(packages) <= {name for _, name in boxes}
    assert len(boxes) == sum(map(len, contracts().values()))
    heights = [float(y) for y, name in boxes if name in ("core", "gate", "suite", "report")]
    assert heights == sorted(heights, reverse=True), "core lies lowest"


@pytest.mark.parametrize("room", contracts())
def test_every_package_has_its_paragraph(room: str) -> None:
    section = PAGE.split(f"\n## {room}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| .{30,} \|$", section, re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(contracts()[room])


def test_every_function_that_the_page_names_is_there() -> None:
    names = set(re.findall(r"`((?:harness|trainers|dashboard)(?:\.\w+)+)`", PAGE))
    assert len(names) >= 14
    for name in names:
        assert callable(_named(name)), name
    for path in re.findall(r"`(tests/[\w/]+\.py)`", PAGE):
        assert (ROOT / path).is_file()


def _named(name: str) -> object:
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: object = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"nothing is called {name}")
