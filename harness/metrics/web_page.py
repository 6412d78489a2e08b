"""Static checks of HTML and CSS: whether it parses, is well formed, and has what it refers to."""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.encoders import readable_text
from harness.metrics.support.items import Outcome, score_each

_FENCED = re.compile(r"```(?:html|HTML|xml)?[ \t]*\r?\n(.*?)\n[ \t]*```", re.DOTALL)
_URL_TO_ID = re.compile(r"url\(\s*['\"]?#([^'\")\s]+)")
_ID_LISTS = (
    "for",
    "aria-labelledby",
    "aria-describedby",
    "aria-controls",
    "headers",
    "list",
    "form",
)
_EMPTY = ("there is no element",)
_LEGACY = frozenset(
    ("big", "blink", "center", "font", "frame", "frameset", "marquee", "noframes", "strike", "tt")
)


@dataclass(frozen=True, slots=True)
class PageReport:
    """What is wrong with a page, by kind; each list is empty on a good one."""

    parse_errors: tuple[str, ...]
    css_errors: tuple[str, ...]
    structure: tuple[str, ...]
    dead_references: tuple[str, ...]

    @property
    def score(self) -> float:
        """Share of the four kinds without any fault: 0, ¼, ½, ¾ or 1; higher is better."""
        kinds = (self.parse_errors, self.css_errors, self.structure, self.dead_references)
        return sum(not faults for faults in kinds) / len(kinds)


def check_page(page: str) -> PageReport:
    """Check one HTML document (or the one ```html fence that an answer contains).

    - parse errors: those of the HTML standard's parser, as html5lib names them
    - CSS errors: what tinycss2 can't parse in <style> and style="…"
    - structure: a title, a language on <html>, ids that differ, alt on images, headings that
      begin at 1 and skip no level, no element that the standard dropped
    - dead references: href="#x", for, aria-…, headers, url(#x) and the like, to an id that the
      page lacks. Other files aren't looked for: nothing is fetched.

    A text without any element is not a page and has every kind of fault.
    """
    import html5lib  # type: ignore[import-untyped]

    fenced = _FENCED.search(page)
    source = readable_text(fenced.group(1) if fenced else page)
    parser = html5lib.HTMLParser(tree=html5lib.getTreeBuilder("etree"), namespaceHTMLElements=False)
    root = parser.parse(source)
    elements = [element for element in root.iter() if isinstance(element.tag, str)]
    # The parser makes these three itself, even of plain text.
    if all(element.tag in ("html", "head", "body") for element in elements):
        return PageReport(_EMPTY, _EMPTY, _EMPTY, _EMPTY)
    styles = list(_styles(elements))
    return PageReport(
        tuple(f"line {line}: {code}" for (line, _), code, _ in parser.errors),
        tuple(_css_errors(styles)),
        tuple(_structure(root, elements)),
        tuple(_dead_references(elements, styles)),
    )


def _styles(elements: Sequence[Any]) -> Iterator[tuple[str, bool]]:
    """(CSS, whether it is a whole stylesheet) of every <style> and style attribute."""
    for element in elements:
        if element.tag == "style":
            yield "".join(element.itertext()), True
        if "style" in element.attrib:
            yield element.attrib["style"], False


def _css_errors(styles: Sequence[tuple[str, bool]]) -> Iterator[str]:
    import tinycss2  # type: ignore[import-untyped]

    for css, whole in styles:
        rules = (
            tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
            if whole
            else tinycss2.parse_declaration_list(css, skip_comments=True, skip_whitespace=True)
        )
        for rule in rules:
            yield from _faults(rule)


def _faults(rule: Any) -> Iterator[str]:
    import tinycss2  # type: ignore[import-untyped]

    if rule.type == "error":
        yield f"line {rule.source_line}: {rule.message}"
    elif rule.type == "qualified-rule":
        for inner in tinycss2.parse_blocks_contents(
            rule.content, skip_comments=True, skip_whitespace=True
        ):
            yield from _faults(inner)
    elif (
        rule.type == "at-rule"
        and rule.content is not None
        and rule.lower_at_keyword
        in (
            "media",
            "supports",
            "layer",
            "container",
        )
    ):
        for inner in tinycss2.parse_rule_list(
            rule.content, skip_comments=True, skip_whitespace=True
        ):
            yield from _faults(inner)


def _structure(root: Any, elements: Sequence[Any]) -> Iterator[str]:
    title = root.find("head/title")
    if title is None or not "".join(title.itertext()).strip():
        yield "no title"
    if not root.attrib.get("lang", "").strip():
        yield "no language on <html>"
    ids = Counter(e.attrib["id"] for e in elements if "id" in e.attrib)
    yield from (f"the id {name!r} occurs {n} times" for name, n in ids.items() if n > 1)
    yield from (
        "an image without alt" for e in elements if e.tag == "img" and "alt" not in e.attrib
    )
    yield from (f"<{e.tag}> is no longer HTML" for e in elements if e.tag in _LEGACY)
    level = 0
    for heading in (e.tag for e in elements if re.fullmatch("h[1-6]", e.tag)):
        if int(heading[1]) > level + 1:
            yield f"<{heading}> follows a heading of level {level}"
        level = int(heading[1])


def _dead_references(elements: Sequence[Any], styles: Sequence[tuple[str, bool]]) -> Iterator[str]:
    from urllib.parse import unquote

    known = {e.attrib["id"] for e in elements if "id" in e.attrib}
    known |= {e.attrib["name"] for e in elements if e.tag == "a" and "name" in e.attrib}
    for element in elements:
        target = element.attrib.get("href", "")
        # `#` and `#top` mean the top of the page by the standard.
        inside = target.startswith("#") and target.lower() not in ("#", "#top")
        if inside and known.isdisjoint((target[1:], unquote(target[1:]))):
            yield f"href={target}"
        for name in _ID_LISTS:
            for wanted in element.attrib.get(name, "").split():
                if wanted not in known:
                    yield f"{name}={wanted}"
    for css, _ in styles:
        yield from (f"url(#{name})" for name in _URL_TO_ID.findall(css) if name not in known)


@dataclass(frozen=True, slots=True)
class WebPage:
    """Mean share of the four static checks that a response's page passes (see `check_page`)."""

    def __post_init__(self) -> None:
        for package in ("html5lib", "tinycss2"):
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"the metric web_page needs {package}", hint="pip install html5lib tinycss2"
                )

    @property
    def spec(self) -> MetricSpec:
        stats = ("parse_errors", "css_errors", "structure", "dead_references")
        return MetricSpec("web_page", "higher", version="2", stats=stats)

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, _page)


def _page(_: Sample, response: Response) -> Outcome:
    try:
        report = check_page(response.text)
    except RecursionError:
        return Evidence.unscored(None, "the page is nested too deeply to be parsed")
    faults = (report.parse_errors, report.css_errors, report.structure, report.dead_references)
    return Evidence(None, report.score, stats=tuple(float(len(kind)) for kind in faults))
