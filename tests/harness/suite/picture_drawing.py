"""Draws the pictures of `suites/pictures.yaml`, and writes the questions about them.

`python -m tests.harness.suite.picture_drawing` writes both where they lie. The same seed draws the
same pixels.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

SUITES = Path(__file__).parents[3] / "suites"
SIZE = 128
COLORS = {
    "red": ("红色", (220, 30, 30)),
    "blue": ("蓝色", (30, 60, 220)),
    "green": ("绿色", (20, 150, 50)),
    "yellow": ("黄色", (240, 210, 20)),
    "black": ("黑色", (0, 0, 0)),
}
SHAPES = {"circle": "圆形", "square": "正方形", "triangle": "三角形"}
SIDES = {"left": "左边", "right": "右边"}
IN_ONE_WORD, IN_ZH = "Answer in one word.", "只回答答案本身。"

Drawn = tuple[Image.Image, list[tuple[str, str, str]]]
"""A picture, and (language, question, right answer)."""


def _shape(draw: ImageDraw.ImageDraw, kind: str, at: tuple[int, int], r: int, fill: Any) -> None:
    x, y = at
    if kind == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif kind == "square":
        draw.rectangle((x - r, y - r, x + r, y + r), fill=fill)
    else:
        draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=fill)


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
    return image, ImageDraw.Draw(image)


def _color(rng: random.Random, number: int) -> Drawn:
    name = list(COLORS)[number % len(COLORS)]
    zh, fill = COLORS[name]
    image, draw = _canvas()
    _shape(draw, rng.choice(list(SHAPES)), (rng.randint(44, 84), rng.randint(44, 84)), 32, fill)
    return image, [
        ("en", f"What color is the shape: {', '.join(COLORS)}? {IN_ONE_WORD}", name),
        ("zh", f"图中的形状是什么颜色：{'、'.join(zh for zh, _ in COLORS.values())}？{IN_ZH}", zh),
    ]


def _kind(rng: random.Random, number: int) -> Drawn:
    name = list(SHAPES)[number % len(SHAPES)]
    image, draw = _canvas()
    fill = rng.choice(list(COLORS.values()))[1]
    _shape(draw, name, (rng.randint(44, 84), rng.randint(44, 84)), 34, fill)
    return image, [
        ("en", f"Is it a circle, a square or a triangle? {IN_ONE_WORD}", name),
        ("zh", f"这是圆形、正方形还是三角形？{IN_ZH}", SHAPES[name]),
    ]


def _count(rng: random.Random, number: int) -> Drawn:
    count = number % 5 + 1
    places = rng.sample([(x, y) for x in (24, 64, 104) for y in (24, 64, 104)], count)
    image, draw = _canvas()
    fill = rng.choice(list(COLORS.values()))[1]
    for place in places:
        _shape(draw, "circle", place, 14, fill)
    return image, [
        ("en", "How many circles are there? Answer with a digit.", str(count)),
        ("zh", "图中有几个圆？只用一个阿拉伯数字回答。", str(count)),
    ]


def _side(rng: random.Random, number: int) -> Drawn:
    side = list(SIDES)[number % 2]
    one, other = rng.sample(list(COLORS), 2)
    image, draw = _canvas()
    here, there = ((32, 64), (96, 64)) if side == "left" else ((96, 64), (32, 64))
    _shape(draw, "square", here, 20, COLORS[one][1])
    _shape(draw, "square", there, 20, COLORS[other][1])
    return image, [
        ("en", f"Is the {one} square on the left or on the right? {IN_ONE_WORD}", side),
        ("zh", f"{COLORS[one][0]}的正方形在左边还是右边？{IN_ZH}", SIDES[side]),
    ]


MAKERS: dict[str, Callable[[random.Random, int], Drawn]] = {
    "color": _color,
    "shape": _kind,
    "count": _count,
    "side": _side,
}
EACH = 6


def drawn() -> tuple[dict[str, Image.Image], list[dict[str, Any]]]:
    """The pictures by the name of their file, and the rows of questions."""
    pictures: dict[str, Image.Image] = {}
    rows: list[dict[str, Any]] = []
    for kind, make in MAKERS.items():
        for number in range(EACH):
            rng = random.Random(f"{kind}{number}")
            name = f"{kind}-{number + 1}"
            image, questions = make(rng, number)
            pictures[f"pictures/{name}.png"] = image
            rows += [
                {
                    "id": f"{name}-{language}",
                    "picture": f"pictures/{name}.png",
                    "question": question,
                    "answer": answer,
                    "language": language,
                    "about": kind,
                    "drawn": name,
                }
                for language, question, answer in questions
            ]
    return pictures, rows


def main() -> None:
    pictures, rows = drawn()
    (SUITES / "data" / "pictures").mkdir(exist_ok=True)
    for name, image in pictures.items():
        image.save(SUITES / "data" / name, optimize=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (SUITES / "data" / "pictures.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
