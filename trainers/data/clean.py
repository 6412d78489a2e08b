"""Steps that tidy texts: mended encodings, one way of writing, no mark-up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

from trainers.data.rows import Done, Placed, Why, each_said, said
from trainers.data.step import Context, Step, each_row

_BREAKS = re.compile(r"\r\n?|[\u2028\u2029\x85]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9]*(?:\s[^<>]*)?/?>|&(?:#\d+|#x[0-9a-fA-F]+|[A-Za-z]+);")
_BLOCKS = frozenset(
    (
        *("p", "div", "br", "li", "ul", "ol", "tr", "table", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("pre", "blockquote", "section", "article", "hr"),
    )
)
_UNREAD = frozenset(("script", "style", "template", "noscript", "head"))


class Clean(Step):
    """Mojibake mended (`ftfy`), NFC, one kind of line end, no control characters, no blanks at the
    ends; with `html` mark-up becomes text, with `simplified` traditional characters become
    simplified ones. Nothing else: punctuation, code and full-width signs stay.
    """

    LIBRARIES: ClassVar[tuple[str, ...]] = ("ftfy", "html5lib", "opencc")
    mojibake: bool = True
    html: bool = False
    simplified: bool = False

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        def look(placed: Placed) -> Placed | Why:
            row = each_said(placed.row, self._tidy)
            return placed.saying(row) if said(row) else Why("no text is left")

        return each_row(name, rows, context, look)

    def _tidy(self, text: str) -> str:
        if self.mojibake and not text.isascii():
            text = _mended(text)
        if self.html and _TAG.search(text):
            text = text_of_html(text)
        text = _CONTROL.sub("", _BREAKS.sub("\n", text)).strip()
        if text.isascii():
            return text
        text = unicodedata.normalize("NFC", text)
        return str(_simplifier().convert(text)) if self.simplified else text


def _mended(text: str) -> str:
    import ftfy

    # The encoding alone: quotes, ligatures and widths are how somebody chose to write.
    return ftfy.fix_encoding(text)


@lru_cache(maxsize=1)
def _simplifier() -> Any:
    import opencc

    return opencc.OpenCC("t2s")


def text_of_html(markup: str) -> str:
    """What a reader sees of HTML: blocks on lines of their own, no scripts, entities as signs."""
    import html5lib

    parts: list[str] = []
    _gather(html5lib.parse(markup, treebuilder="etree", namespaceHTMLElements=False), parts, False)
    lines = "".join(parts).split("\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.strip() for line in lines)).strip()


def _gather(element: Any, parts: list[str], pre: bool) -> None:
    tag = element.tag if isinstance(element.tag, str) else ""
    if tag in _UNREAD or not tag:
        return
    pre = pre or tag == "pre"
    block = tag in _BLOCKS
    parts.append("\n" if block else "")
    parts.append(_flowed(element.text, pre))
    for child in element:
        _gather(child, parts, pre)
        parts.append(_flowed(child.tail, pre))
    parts.append("\n" if block and tag != "br" else "")


def _flowed(text: str | None, pre: bool) -> str:
    return text or "" if pre else re.sub(r"\s+", " ", text or "")


class StripPunctuation(Step):
    """Takes out everything but letters, digits, `_` and white space. It destroys code, numbers with
    a point, and the ends of sentences: only for bags of words.
    """

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        def look(placed: Placed) -> Placed | Why:
            row = each_said(placed.row, lambda text: re.sub(r"[^\w\s]", "", text))
            return placed.saying(row) if said(row) else Why("no text is left")

        return each_row(name, rows, context, look)
