"""Code with other names: kept where its tests pass, and told where they don't."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from trainers.data.rename import Rename, renamed_code
from trainers.data.rows import Placed
from trainers.data.step import Context

pytest.importorskip("libcst")

CODE = '''def total(prices, rate=0.5):
    """The sum of prices."""
    result = 0  # so far
    for price in prices:
        result += price.real * rate
    return round(result, ndigits=2)
'''
TESTS = "def check(candidate):\n    assert candidate([2, 4]) == 3.0\n"


def run(row: dict[str, Any], seed: int = 0) -> tuple[list[Placed], list[str]]:
    placed = Placed("f", 1, "r1", row)
    kept, drops = Rename(minimum="C").run("rename", [placed], Context(Path(), seed))
    assert kept[0] == placed
    return kept[1:], [f"{drop.reason}: {drop.detail}" for drop in drops]


def test_the_names_are_others_and_all_else_stays() -> None:
    found = renamed_code(CODE, random.Random(0))
    assert found is not None
    assert found == renamed_code(CODE, random.Random(0))
    without = found.replace("The sum of prices", "")
    assert all(name not in without for name in ("price", "result", "rate"))
    for stays in ("def total(", "The sum of prices.", "# so far", ".real", "ndigits=2", "round("):
        assert stays in found


@pytest.mark.parametrize("code", ["no python at all (", "x = 1\n", "def f():\n    return 1\n", ""])
def test_what_has_nothing_to_rename_is_left(code: str) -> None:
    assert renamed_code(code, random.Random(0)) is None


def test_a_row_is_kept_if_its_tests_pass() -> None:
    (child,), drops = run({"completion": f"Here:\n```python\n{CODE}```\n", "tests": TESTS})
    assert not drops
    assert child.parent == "r1"
    assert child.row["completion"].startswith("Here:\n```python\ndef total(")
    assert "prices," not in child.row["completion"]
    # What calls a parameter by its name breaks.
    named = "def check(candidate):\n    assert candidate(prices=[2, 4]) == 3.0\n"
    made, drops = run({"completion": CODE, "tests": named})
    assert not made
    assert drops == ["its tests don't pass: fail:tests"]
    assert run({"completion": CODE}) == ([], [])
