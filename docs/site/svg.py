"""Just enough SVG: axes, lines, dots and words on a card that is light or dark as the reader is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

Point = tuple[float, float]

STYLE = """
text{font:13px system-ui,sans-serif;fill:#454b54}.title{font-weight:600;font-size:15px;fill:#1c2127}
.card{fill:#fff;stroke:#dfe3e8}.axis{stroke:#9aa1ab}.grid{stroke:#e9ecf0}
.good{--c:#00796b}.bad{--c:#c0392b}.dull{--c:#7b838e}.mild{--c:#a86a00}
.line{fill:none;stroke:var(--c);stroke-width:2.5;stroke-linejoin:round}.dash{stroke-dasharray:6 5}
.dot{fill:var(--c)}.word{fill:var(--c);font-weight:600}.area{fill:var(--c);opacity:.15}
@media(prefers-color-scheme:dark){
text{fill:#c3c9d1}.title{fill:#eef1f4}.card{fill:#1b1f24;stroke:#373d45}.axis{stroke:#6b737d}
.grid{stroke:#2b3037}.good{--c:#4db6ac}.bad{--c:#ef7d70}.dull{--c:#98a0aa}.mild{--c:#e0a43a}}
""".replace("\n", "")


@dataclass
class Picture:
    """A plot in a box; `x` and `y` are the ranges of its axes, as they are counted by a reader."""

    title: str
    about: str
    x: Point
    y: Point
    width: int = 720
    height: int = 360
    left: int = 64
    right: int = 150
    top: int = 52
    bottom: int = 52
    parts: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """Where a point of the plot is on the page, in pixels."""
        wide = self.width - self.left - self.right
        high = self.height - self.top - self.bottom
        return (
            self.left + wide * (x - self.x[0]) / (self.x[1] - self.x[0]),
            self.top + high * (1 - (y - self.y[0]) / (self.y[1] - self.y[0])),
        )

    def axes(
        self, xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]], below: str
    ) -> None:
        """Ticks with their words, a quiet line for each of `ys`, and what the x axis counts."""
        for value, word in ys:
            (x0, y), (x1, _) = self.at(self.x[0], value), self.at(self.x[1], value)
            self._line((x0, y), (x1, y), "grid")
            self._text((x0 - 8, y + 4), word, "", "end")
        for value, word in xs:
            x, y = self.at(value, self.y[0])
            self._line((x, y), (x, y + 5), "axis")
            self._text((x, y + 20), word, "", "middle")
        (x0, y), (x1, _) = self.at(self.x[0], self.y[0]), self.at(self.x[1], self.y[0])
        self._line((x0, y), (x1, y), "axis")
        self._text(((x0 + x1) / 2, y + 40), below, "", "middle")

    def line(self, points: Sequence[Point], kind: str) -> None:
        placed = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*p) for p in points))
        self.parts.append(f'<polyline class="line {kind}" points="{placed}"/>')

    def band(self, low: Point, high: Point, kind: str) -> None:
        (x0, y1), (x1, y0) = self.at(*low), self.at(*high)
        self.parts.append(
            f'<rect class="area {kind}" x="{x0:.1f}" y="{y0:.1f}" '
            f'width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>'
        )

    def dot(self, point: Point, kind: str, size: float = 5) -> None:
        x, y = self.at(*point)
        self.parts.append(f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>')

    def word(
        self,
        point: Point,
        text: str,
        kind: str,
        *,
        anchor: str = "start",
        dx: float = 0,
        dy: float = 4,
    ) -> None:
        x, y = self.at(*point)
        self._text((x + dx, y + dy), text, f"word {kind}", anchor)

    def drawn(self) -> str:
        """The whole file. `title` and `desc` are what a screen reader says."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'role="img"><title>{escape(self.title)}</title><desc>{escape(self.about)}</desc>'
            f"<style>{STYLE}</style>"
            f'<rect class="card" x=".5" y=".5" width="{self.width - 1}" height="{self.height - 1}" '
            'rx="8"/>'
            f'<text class="title" x="20" y="30">{escape(self.title)}</text>'
        )
        return "\n".join([head, *self.parts, "</svg>"]) + "\n"

    def _line(self, start: Point, end: Point, kind: str) -> None:
        (x0, y0), (x1, y1) = start, end
        self.parts.append(
            f'<line class="{kind}" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}"/>'
        )

    def _text(self, at: Point, text: str, kind: str, anchor: str) -> None:
        shown = f' class="{kind}"' if kind else ""
        self.parts.append(
            f'<text{shown} x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}">'
            f"{escape(text)}</text>"
        )
