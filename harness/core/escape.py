"""Makes untrusted text safe to display: invisible and reordering characters are named.

What a model wrote is data for a reader. Escaping it for HTML or Markdown is the page's business;
what remains are characters that a page shows as nothing, or that change how their neighbours are
shown.
"""

from __future__ import annotations

SHOWN_CHARACTERS = 20_000
"""Characters of one answer that a page shows; the rest is in the data."""

# Blank but no space: bidirectional controls, fillers, invisible operators, annotations, tags,
# variation selectors of the second plane. U+200C and U+200D stay: Persian, Hindi and emoji are
# written with them.
_UNSEEN = (
    (0x0080, 0x009F),
    (0x00AD, 0x00AD),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x180E, 0x180E),
    (0x200B, 0x200B),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xD800, 0xF8FF),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0xE0000, 0xE01EF),
    (0xF0000, 0x10FFFF),
)


class _Shown(dict[int, str]):
    """A table for `str.translate` that is filled as characters are met."""

    def __missing__(self, code: int) -> str:
        if code < 0x20 and chr(code) not in "\n\t":
            shown = chr(0x2400 + code)  # Unicode has a picture of each, from U+2400 on
        elif code == 0x7F:
            shown = "␡"
        elif any(first <= code <= last for first, last in _UNSEEN):
            shown = f"⟨U+{code:04X}⟩"
        else:
            shown = chr(code)
        self[code] = shown
        return shown


_SHOWN = _Shown()


def visible(text: str, limit: int | None = SHOWN_CHARACTERS) -> str:
    """The text with every character that would hide or reorder others written out.

    Controls become their pictures (ESC is ␛, so an ANSI sequence reads as `␛[31m`), all others
    their code points (`⟨U+202E⟩`). Line breaks and tabs stay, CR LF counts as one break. What is
    beyond `limit` characters is cut, and said so; None cuts nothing.
    """
    text = text.replace("\r\n", "\n")
    shown = text[:limit].translate(_SHOWN)
    more = 0 if limit is None else len(text) - limit
    return shown if more <= 0 else f"{shown}\n… ({more:,} characters more)"
