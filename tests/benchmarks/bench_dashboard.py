"""How fast the views' queries are on 10,000 runs and 10 million scores, and whom they hold up.

`ratio` is ours over the goal's seconds for the views; for appends it is p95 beside a server with
ten open pages, over p95 with none, in the same run.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.dashboard_history import (
    ANSWERED,
    LINE,
    METRICS,
    SAMPLES,
    STEPS,
    SUITE,
    VOTES,
    fill,
)

ROOT = Path(__file__).parents[2]
AGAIN = [sys.executable, "-m", "tests.benchmarks.bench_dashboard"]
MEMORY_MB = 1_024.0
READERS = 10
PAUSE_S = 5.0
"""Between two questions of one open page, as the view of a running training has it."""


def run(quick: bool = False) -> list[dict[str, object]]:
    """All rows. `quick` takes a hundredth of the runs and says so in the notes."""
    from harness.store import Store
    from harness.workspace import Workspace

    runs = 100 if quick else 10_000
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.at(Path(folder) / ".ratchet")
        with Store(workspace) as store:
            fill(store, runs)
        rows = _views_apart(workspace.home)
        rows.append(appends(workspace.home, seconds=3.0 if quick else 10.0))
    note = f"{runs:,} runs, {runs * SAMPLES * len(METRICS):,} scores"
    return [row | {"note": f"{note}; {row['note']}"} for row in rows]


def _views_apart(home: Path) -> list[dict[str, object]]:
    """`views` in a process of its own, so that its memory is that of the views alone."""
    done = subprocess.run(
        [*AGAIN, "views", str(home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def views(store: Any, rounds: int = 3) -> list[dict[str, object]]:
    """Seconds of all queries of a view, warm: the median of `rounds` after one to warm up; and
    the most memory that this process ever held.
    """
    from dashboard import comparing, measures, outputs, queries
    from dashboard.attention import attention, forecasts, margins

    history = queries.runs_of(store, SUITE)
    ids = [row["run_id"] for row in history]
    first, last = ids[0], ids[-1]
    whole = queries.run(store, last)
    assert whole is not None
    declared = queries.declared(whole)
    name = METRICS[0]

    def overview() -> None:
        queries.is_empty(store)
        queries.is_synthetic(store)
        queries.lines(store)
        attention(store)
        forecasts(margins(store, LINE))
        queries.verdicts(store, 8)

    def trend() -> None:
        queries.scopes(store, SUITE)
        queries.runs_of(store, SUITE, queries.OUTSIDE)
        measures.values(store, [first], declared, name)
        measures.changes(store, first, ids, {name: declared[name]})

    recent = [row["run_id"] for row in history[-ANSWERED:]]
    digests = {task: comparing.task_digest(whole, task) for task in ("alpha", "beta")}

    def drift() -> None:
        outputs.lengths(store, [*recent, first], "alpha")
        texts = outputs.texts(store, [*recent, first], "alpha")
        for run in recent:
            outputs.wording(texts[run], texts[last])
        outputs.measured(store, last, recent, "alpha")
        forecasts(margins(store, LINE))

    def verdict() -> None:
        found = queries.verdicts(store)
        shown = queries.verdict(store, found[0]["verdict_id"])
        assert shown is not None
        queries.run(store, shown.candidate_run)

    def humans() -> None:
        _rated(queries.votes(store))

    def trainings() -> None:
        queries.trainings(store)
        queries.training_steps(store, "long")
        queries.training_events(store, "long")

    asked: dict[str, tuple[float, Callable[[], Any]]] = {
        "first page": (1.0, overview),
        f"verdict, of {len(history):,} to choose from": (2.0, verdict),
        "trend of 200 runs": (2.0, trend),
        "heat map of 40 runs": (2.0, lambda: measures.changes(store, first, ids[-40:], declared)),
        "compare two runs": (2.0, lambda: comparing.tallies(store, first, last)),
        "samples, one page": (
            2.0,
            lambda: comparing.pairs(store, first, last, name, declared[name]),
        ),
        f"forgetting, {ANSWERED} runs by language": (
            2.0,
            lambda: measures.changes(store, first, recent, declared, "language", digests),
        ),
        f"drift of {ANSWERED} runs": (2.0, drift),
        f"humans, {VOTES:,} votes rated": (2.0, humans),
        f"a training of {STEPS:,} steps": (2.0, trainings),
        "1,000 calibrations": (2.0, lambda: queries.calibrations(store)),
    }
    rows = []
    for view, (goal, ask) in asked.items():
        ask()
        took = statistics.median(_timed(ask) for _ in range(rounds))
        note = "queries alone, warm, nothing cached"
        rows.append(
            _row(f"{view}", f"{took:.2f} s", f"{goal:g} s (goal)", took / goal, "≤ 1", note)
        )
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = "the process that asked all of the above, one after the other"
    ratio = held / MEMORY_MB
    rows.append(_row("peak memory", f"{held:,.0f} MB", "1,024 MB (goal)", ratio, "≤ 1", note))
    return rows


def _rated(votes: list[dict[str, Any]]) -> None:
    import pandas as pd

    from harness.metrics.elo import rate

    names = {"left": "left_name", "right": "right_name", "choice": "choice", "rater": "rater"}
    frame = pd.DataFrame({name: [vote[column] for vote in votes] for name, column in names.items()})
    rate(frame.assign(prompt=[f"{vote['task']}/{vote['sample_id']}" for vote in votes]))


def appends(home: Path, seconds: float) -> dict[str, object]:
    """p95 of one-row appends beside ten readers, over the same without any."""
    alone = _p95(home, seconds)
    server = subprocess.Popen([*AGAIN, "serve", str(home), str(seconds + 8)], cwd=ROOT)
    time.sleep(5.0)  # after its imports
    beside = _p95(home, seconds)
    server.wait()
    return _row(
        f"p95 of an append beside {READERS} open pages",
        f"{beside * 1e3:.1f} ms",
        f"{alone * 1e3:.1f} ms (no page)",
        beside / alone,
        "≤ 1.5",
        f"one server, each page asks every {PAUSE_S:g} s through the server's cache of 2 s",
    )


def _p95(home: Path, seconds: float) -> float:
    from harness.store import Store
    from harness.workspace import Workspace

    took, end = [], time.monotonic() + seconds
    with Store(Workspace.at(home)) as store:
        while time.monotonic() < end:
            row = {"training_id": "bench", "step": len(took) + 1, "loss": 0.5}
            took.append(_timed(lambda row=row: store.append("training_steps", [row])))
            time.sleep(0.02)
    return statistics.quantiles(took, n=20)[-1]


def _serve(home: str, seconds: float) -> None:
    """What ten open pages of a running training ask of the one server's store."""
    from threading import Thread

    from dashboard import queries
    from dashboard.frame import recent
    from harness.workspace import HOME_VARIABLE

    os.environ[HOME_VARIABLE] = home
    end = time.monotonic() + seconds

    def page() -> None:
        while time.monotonic() < end:
            recent(queries.trainings)
            recent(queries.training_steps, "bench")
            recent(queries.training_events, "bench")
            time.sleep(PAUSE_S)

    pages = [Thread(target=page) for _ in range(READERS)]
    for thread in pages:
        thread.start()
    for thread in pages:
        thread.join()


def _timed(ask: Callable[[], Any]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def _row(what: str, ours: str, peer: str, ratio: float, goal: str, note: str) -> dict[str, object]:
    return {
        "what": what,
        "ours": ours,
        "peer": peer,
        "ratio": ratio,
        "goal": goal,
        "note": note,
    }


if __name__ == "__main__":
    if sys.argv[1] == "views":
        from harness.store import Store
        from harness.workspace import Workspace

        with Store(Workspace.at(sys.argv[2])) as opened:
            print(json.dumps(views(opened)))
    else:
        _serve(sys.argv[2], float(sys.argv[3]))
