"""Draw the rooms and their floors, from the import contracts in pyproject.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from svg import STYLE

ROOT = Path(__file__).resolve().parents[2]
BOX, GAP, PAD, WIDTH = 30, 8, 16, 760
MORE = (
    ".room{fill:none;stroke:#9aa1ab;stroke-dasharray:3 4}.box{fill:#eef6f5;stroke:#b7d6d2}"
    ".name{font:600 13px system-ui,sans-serif;fill:#1c2127}"
    "@media(prefers-color-scheme:dark){.room{stroke:#6b737d}"
    ".box{fill:#20302f;stroke:#3a5a57}.name{fill:#eef1f4}}"
)
Floors = tuple[tuple[str, ...], ...]


def rooms() -> dict[str, Floors]:
    """Room -> its floors from the top, each with the packages that stand side by side on it."""
    return {
        contract["containers"][0]: floors_of(contract["layers"])
        for contract in _contracts()
        if "containers" in contract
    }


def order_of_rooms() -> Floors:
    """Which rooms stand on which, from the top."""
    (found,) = (c for c in _contracts() if c["type"] == "layers" and "containers" not in c)
    return floors_of(found["layers"])


def floors_of(layers: list[str]) -> Floors:
    """`["a | b", "c"]` as (("a", "b"), ("c",)). What Python itself names is left out."""
    floors = (tuple(name.strip() for name in layer.split("|")) for layer in layers)
    kept = (tuple(name for name in floor if not name.startswith("__")) for floor in floors)
    return tuple(floor for floor in kept if floor)


@dataclass(frozen=True)
class Drawing:
    """An SVG file, as `svg.Picture` is one."""

    text: str

    def drawn(self) -> str:
        return self.text


def draw_house() -> Drawing:
    """The upper rooms side by side, what they stand on below them."""
    floors = rooms()
    parts: list[str] = []
    top = 78
    for row in order_of_rooms():
        width = (WIDTH - 2 * PAD - GAP * (len(row) - 1)) / len(row)
        height = max(_height(floors[room]) for room in row)
        for place, room in enumerate(row):
            parts += _room(room, floors[room], PAD + place * (width + GAP), top, width, height)
        top += height + 2 * GAP
    return Drawing(_framed(parts, top + PAD - 2 * GAP))


def _height(floors: Floors) -> float:
    return 34 + len(floors) * (BOX + GAP) + GAP


def _room(
    name: str, floors: Floors, left: float, top: float, width: float, height: float
) -> list[str]:
    parts = [
        _rect("room", left, top, width, height),
        _text("title", left + 12, top + 22, f"{name}/", "start"),
    ]
    y = top + height - GAP - BOX  # from the ground up: rooms of unlike height stand on one line
    for floor in reversed(floors):
        wide = (width - 2 * GAP - GAP * (len(floor) - 1)) / len(floor)
        for place, package in enumerate(floor):
            x = left + GAP + place * (wide + GAP)
            parts += [
                _rect("box", x, y, wide, BOX),
                _text("name", x + wide / 2, y + 20, package, "middle"),
            ]
        y -= BOX + GAP
    return parts


def _framed(parts: list[str], height: float) -> str:
    title = "The house: a package may import only what stands below it"
    about = "; ".join(
        f"{room}, from the top: " + ", ".join(" beside ".join(floor) for floor in floors)
        for room, floors in rooms().items()
    )
    under = "Packages side by side don't know each other. Held by make lint."
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(about)}</desc><style>{STYLE}{MORE}</style>"
        + _rect("card", 0.5, 0.5, WIDTH - 1, height - 1)
        + _text("title", 20, 30, title, "start")
        + _text("", 20, 54, under, "start")
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
        f'height="{height:.1f}" rx="6"/>'
    )


def _text(kind: str, x: float, y: float, text: str, anchor: str) -> str:
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _contracts() -> list[Mapping[str, object]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return project["tool"]["importlinter"]["contracts"]
