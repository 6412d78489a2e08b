"""A text whose pieces are colored by a number each, as one SVG file: plain text, no script."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from html import escape

from harness.core.escape import visible

WIDTH, SIDE, CHARACTER, ROW = 720, 16, 8.5, 30
UP, DOWN = "#0072B2", "#D55E00"
"""Blue for what helps the candidate, orange for what hurts it: told apart by color-blind eyes."""


def picture(
    title: str,
    pieces: Sequence[tuple[str, float]],
    notes: Sequence[str],
    *,
    signed: bool = True,
    unit: str = "nats",
) -> str:
    """An SVG with `title`, the pieces (text, value) in reading order and `notes` under them.

    The darker, the further a value is from 0, by the largest among them; blue is > 0, orange < 0.
    """
    most = max((abs(value) for _, value in pieces), default=0.0) or 1.0
    boxes, bottom = [], 56.0
    for text, value, x, y, width in _laid_out(pieces):
        share = abs(value) / most
        color = UP if value >= 0 else DOWN
        boxes.append(
            f'<g><title>{value:+.4f}</title><rect x="{x:.1f}" y="{y - 17:.1f}" '
            f'width="{width:.1f}" height="24" rx="3" fill="{color}" fill-opacity="{share:.3f}"/>'
            f'<text x="{x + 3:.1f}" y="{y:.1f}"{_ink(share)}>{escape(text)}</text></g>'
        )
        bottom = max(bottom, y)
    lines = []
    for line in (_legend(most, signed, unit), *(part for note in notes for part in _wrapped(note))):
        bottom += 22
        lines.append(f'<text class="quiet" x="{SIDE}" y="{bottom + 14:.1f}">{escape(line)}</text>')
    height = bottom + 36
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'role="img" aria-label="{escape(visible(title), quote=True)}">'
        "<style>text{font:14px ui-monospace,monospace;white-space:pre}"
        ".quiet{font:12px system-ui,sans-serif;fill:#555}.title{font:600 15px system-ui,sans-serif}"
        "</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>'
        f'<text class="title" x="{SIDE}" y="28">{escape(_short(visible(title)))}</text>'
        f"{''.join(boxes)}{''.join(lines)}</svg>\n"
    )


def _legend(most: float, signed: bool, unit: str) -> str:
    if not signed:
        return f"white is 0, the darkest {most:.3g}"
    more = "for the answer, orange: against it" if unit == "nats" else "more of it, orange: less"
    return f"blue: {more}; the darkest is {most:.3g} {unit}"


def _ink(share: float) -> str:
    return ' fill="#fff"' if share > 0.6 else ""


def _laid_out(
    pieces: Sequence[tuple[str, float]],
) -> Iterator[tuple[str, float, float, float, float]]:
    """(text, value, x, y, width) of each piece, in lines that fit."""
    x, y = float(SIDE), 66.0
    for raw, value in pieces:
        for part in _parts(visible(raw.replace("\n", "⏎").replace("\t", "⇥"))):
            width = _cells(part) * CHARACTER + 6
            if x + width > WIDTH - SIDE and x > SIDE:
                x, y = float(SIDE), y + ROW
            yield part, value, x, y, width
            x += width + 2


def _parts(text: str) -> Iterator[str]:
    """A piece, cut where it is wider than a line."""
    most = int((WIDTH - 2 * SIDE) / CHARACTER / 2) - 2
    for first in range(0, max(1, len(text)), most):
        yield text[first : first + most] or "·"


def _cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"


def _wrapped(note: str) -> Iterator[str]:
    import textwrap

    yield from textwrap.wrap(visible(note), 100)
