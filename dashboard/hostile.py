"""Text that nobody vouches for, made safe to look at: what hides or reorders is shown by name.

What a model wrote is data for a reader. Escaping it for HTML is the page's business; this is
about characters that a page shows as nothing, or that change how their neighbours are shown.
"""

from __future__ import annotations

_BIDI = {
    0x061C: "ALM",
    0x200E: "LRM",
    0x200F: "RLM",
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
}
_HIDDEN = {
    0x00AD: "SHY",
    0x200B: "ZWSP",
    0x2028: "LS",
    0x2029: "PS",
    0x2060: "WJ",
    0xFEFF: "BOM",
}
# Blank but not space: fillers, invisible operators, annotations, tags, variation selectors.
_RANGES = (
    (0x0080, 0x009F),
    (0x115F, 0x1160),
    (0x2061, 0x2065),
    (0x206A, 0x206F),
    (0x3164, 0x3164),
    (0xD800, 0xDFFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFFB),
    (0xE0000, 0xE01EF),
)


def _table() -> dict[int, str]:
    shown = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    shown[0x7F] = "␡"
    shown |= {code: f"⟦{name}⟧" for code, name in (_BIDI | _HIDDEN).items()}
    for first, last in _RANGES:
        shown |= {code: f"⟦U+{code:04X}⟧" for code in range(first, last + 1)}
    return shown


_SHOWN = _table()


def visible(text: str) -> str:
    """The text with every control and invisible character replaced by a mark that names it.

    Controls become their pictures (ESC is ␛, so an ANSI sequence reads as `␛[31m`),
    bidirectional ones their names (`⟦RLO⟧`), others their code points (`⟦U+E0041⟧`). Line breaks
    and tabs stay, CR LF counts as one break. The joiners U+200C and U+200D stay: Persian, Hindi
    and emoji are written with them. Idempotent; the result never needs special rendering.
    """
    return text.replace("\r\n", "\n").translate(_SHOWN)
