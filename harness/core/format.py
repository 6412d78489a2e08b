"""Numbers as a person reads them: digits, signs, percentages."""

from __future__ import annotations

import math
import re

MINUS = "−"
_ENDLESS = 1e9  # from here on nobody counts the digits: a model that has exploded is e+304 of them
# The old word for the best checkpoint, only where stored sentences used it so.
_CREST = re.compile(r"\bcrest\b(?= \(step \d+\)| of step \d+|')")


def number(value: float | None, *, signed: bool = False) -> str:
    """About four significant digits: 0.0012, 1.234, 12.34, 123.4, 12,345; 1e+12.

    With a true minus sign (U+2212), and a plus sign where `signed`. `–` for None, NaN and
    infinities.
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    digits = 3 if size < 10 else 2 if size < 100 else 1 if size < 10_000 else 0
    if 0 < size < 0.01:
        digits = 4 if size >= 0.001 else 5
    text = f"{size:,.{digits}f}" if size < _ENDLESS else f"{size:.3g}"
    return _signed(text, value, signed)


def _signed(text: str, value: float, signed: bool) -> str:
    """The text with its sign; a number that rounds to 0 has none."""
    if float(text.replace(",", "")) == 0:
        return text
    return (MINUS if value < 0 else "+" if signed else "") + text


def percent(value: float | None, *, signed: bool = False) -> str:
    """A share (1.0 is 100%) as a percentage: one decimal below 10%, none from there on."""
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value) * 100
    text = f"{size:,.1f}" if size < 9.95 else f"{size:,.0f}" if size < _ENDLESS else f"{size:.3g}"
    return _signed(text, value, signed) + "%"


def share(value: float) -> str:
    """A share (1.0 is 100%) as a percentage that was set, such as a margin: 5%, 12%, 7.5%."""
    return f"{value * 100:.1f}".removesuffix(".0") + "%"


def opponent_name(stored: str) -> str:
    """What a candidate was compared with, or what happened to it, in today's words.

    The store says `crest` for a training's best checkpoint, the word that was used at first.
    """
    return "best checkpoint" if stored == "crest" else stored


def in_todays_words(stored: str) -> str:
    """A sentence that an older version wrote into the store, in today's words."""
    return _CREST.sub("best checkpoint", stored)
