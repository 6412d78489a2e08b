"""A model's layers beside other work: how long they take, and how much of it is waiting.

Both sides do the same steps with two threads, one with OpenMP's own way of waiting and one with
ours (`harness.core.threads`), taking turns: alone, and beside processes that never rest. Where
others have the cores, a program can't be faster than its share; what it can avoid is to burn that
share by waiting, which shows as processor seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from harness.core.threads import SPINS

THREADS = 2
LAYERS = 20
LOAD = 4
LONGEST_S = 300.0
WAYS = {"ours": {"GOMP_SPINCOUNT": SPINS}, "peer": {}}


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for docs/benchmarks.md: alone, and beside `LOAD` busy processes."""
    rows = []
    for beside, steps in ((0, 20 if quick else 100), (LOAD, 4 if quick else 20)):
        taken: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        with _busy(beside):
            for _ in range(1 if quick else 3):
                for way, variables in WAYS.items():
                    taken[way].append(_taken(steps, variables))
        rows.append(_row(beside, steps, taken))
    return rows


def _row(beside: int, steps: int, taken: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    def middle(way: str, what: str) -> float:
        return statistics.median(one[what] for one in taken[way])

    ours, peer = middle("ours", "seconds"), middle("peer", "seconds")
    used = {way: f"{middle(way, 'processor_seconds'):.1f}" for way in WAYS}
    return {
        "what": f"{steps} steps of {LAYERS} layers, beside {beside} busy processes",
        "ours": f"{ours:.1f} s",
        "peer": f"{peer:.1f} s, torch as it comes",
        "ratio": f"{ours / peer:.2f}",
        "goal": "<= 1.10" if beside == 0 else "<= 0.33",
        "note": f"processor seconds {used['ours']} and {used['peer']}; {THREADS} threads",
    }


@contextlib.contextmanager
def _busy(count: int) -> Iterator[None]:
    """That many processes that never rest, each in a session of its own, as other users' are."""
    others = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _taken(steps: int, variables: dict[str, str]) -> dict[str, float]:
    """Seconds of one process, which is stopped, and counted as that long, after `LONGEST_S`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, __file__, str(steps)]
    try:
        done = subprocess.run(
            command, env={**kept, **variables}, capture_output=True, check=True, timeout=LONGEST_S
        )
    except subprocess.TimeoutExpired:
        return {"seconds": LONGEST_S, "processor_seconds": float("nan")}
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _work(steps: int) -> None:
    """The steps, in the shapes of a batch of 64 answers of SmolLM2; prints its seconds."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    hidden = torch.randn(64, 576)
    layers = [(torch.randn(576, 1536), torch.randn(1536, 576)) for _ in range(LAYERS)]

    def step() -> None:
        state = hidden
        for up, down in layers:
            state = torch.nn.functional.silu(state @ up) @ down
            state = state / state.norm(dim=-1, keepdim=True)

    step()
    began, used = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    taken = {
        "seconds": time.perf_counter() - began,
        "processor_seconds": time.process_time() - used,
    }
    print(json.dumps(taken))


if __name__ == "__main__":
    _work(int(sys.argv[1]))
