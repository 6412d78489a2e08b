"""How fast every page is over 10,000 runs, 10 million scores and 10 million observations, and whom
the pages hold up.

Each page is run as the server runs it, by Streamlit's own AppTest, with nothing cached. `ratio` is
ours over the goal's seconds; for appends it is p95 beside ten open pages over p95 with none, by
turns in the same run, each the median of the turns.
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

from tests.benchmarks.dashboard_history import (
    ANSWERED,
    CHECKPOINTS,
    COPIES,
    DAYS,
    METRICS,
    SAMPLES,
    STEPS,
    TRAINING,
    VOTES,
    fill,
)

ROOT = Path(__file__).parents[2]
AGAIN = [sys.executable, "-m", "tests.benchmarks.bench_dashboard"]
MEMORY_MB = 1_024.0
FIRST_GOAL_S, GOAL_S = 1.0, 2.0
PAUSE_S = 5.0
"""Between two looks of one open page, as the view of a running training has it."""

OPEN = (*["trainings"] * 5, "overview", "trend", "heatmap", "drift", "watch")
"""Ten pages: half of them live, the others of people who click every PAUSE_S."""

SHOWN = {
    "overview": "the first page",
    "verdict": "of 200 to choose from",
    "explain": "the last one in doubt",
    "watch": f"a day out of {DAYS}",
    "trend": "200 runs",
    "heatmap": "40 runs",
    "forgetting": f"{ANSWERED} runs by language",
    "drift": f"{ANSWERED} runs and their answers",
    "humans": f"{VOTES:,} votes rated",
    "runs": "one page of 50",
    "compare": "two runs",
    "samples": "regressed first, one page",
    "trainings": f"{STEPS:,} steps, {CHECKPOINTS} checkpoints",
    "promotions": "one line's versions",
    "calibrations": f"{COPIES:,} of them",
}


def run(quick: bool = False) -> list[dict[str, object]]:
    """All rows. `quick` takes a hundredth of the history and says so in the notes."""
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    runs, observations = (100, 100_000) if quick else (10_000, 10_000_000)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.at(Path(folder) / ".ratchet")
        with Store(workspace) as store:
            fill(store, runs, observations)
        rows = _views_apart(workspace.home, rounds=1 if quick else 3)
        turns = (1.0, 3) if quick else (4.0, 5)
        rows.append(appends(workspace.home, *turns))
    scores = runs * SAMPLES * len(METRICS)
    note = f"{runs:,} runs, {scores:,} scores, {observations:,} observations"
    return [row | {"note": f"{note}; {row['note']}"} for row in rows]


def _views_apart(home: Path, rounds: int) -> list[dict[str, object]]:
    """`views` in a process of its own, so that its memory is that of the views alone."""
    command = [*AGAIN, "views", str(home), str(rounds)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    rows: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def views(home: str, rounds: int, only: Sequence[str] = ()) -> list[dict[str, object]]:
    """Seconds until each page stands, the median of `rounds` after one to warm up; and the most
    memory that this process ever held.
    """
    import streamlit as st

    from dashboard.app import page as frame
    from dashboard.app.navigation import FIRST, VIEWS
    from harness.core.workspace import HOME_VARIABLE

    os.environ[HOME_VARIABLE] = home
    rows = []
    for title, view in [(name, view) for part in VIEWS.values() for view, name in part.items()]:
        if only and view not in only:
            continue
        look(view)
        took = []
        for _ in range(rounds):
            st.cache_data.clear()
            with _overheard() as asked:
                took.append(_timed(lambda view=view: look(view)))
        goal = FIRST_GOAL_S if view == FIRST else GOAL_S
        note = (
            f"warm, nothing cached; {len(asked)} questions, {sum(asked):.2f} s, "
            f"the longest {max(asked):.2f} s"
        )
        page = statistics.median(took)
        what = f"{title}: {SHOWN[view]}"
        rows.append(_row(what, f"{page:.2f} s", f"{goal:g} s (goal)", page / goal, "≤ 1", note))
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = f"of the process that showed all of these pages; DuckDB may take {frame.MEMORY_MB} MB"
    ratio = held / MEMORY_MB
    rows.append(_row("peak memory", f"{held:,.0f} MB", "1,024 MB (goal)", ratio, "≤ 1", note))
    return rows


def look(view: str) -> None:
    """Run one page from its bare address, as a browser that opens it."""
    from streamlit.testing.v1 import AppTest

    def script(first: str) -> None:
        from dashboard.app.main import run

        run(first)

    page = AppTest.from_function(script, default_timeout=300, args=(view,))
    if view == "trainings":
        page.query_params["training"] = TRAINING
    page.run()
    if page.exception or page.error or page.info:
        said = [part.value for part in (*page.exception, *page.error, *page.info)]
        raise AssertionError(f"{view} shows no figures: {said}")


@contextmanager
def _overheard() -> Iterator[list[float]]:
    """The seconds of each question that is put to a store meanwhile."""
    from harness.store.store import Store

    took: list[float] = []
    ask = Store.query

    def timed(store: Store, *question: Any) -> Any:
        began = time.perf_counter()
        try:
            return ask(store, *question)
        finally:
            took.append(time.perf_counter() - began)

    with patch.object(Store, "query", timed):
        yield took


def appends(home: Path, seconds: float, rounds: int) -> dict[str, object]:
    """p95 of one-row appends beside ten open pages, over the same while all are closed."""
    alone: list[list[float]] = []
    beside: list[list[float]] = []
    with subprocess.Popen(
        [*AGAIN, "serve", str(home)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        _tell(server.stdin, server.stdout, "open")  # once, after its imports
        _tell(server.stdin, server.stdout, "close")
        for _ in range(rounds):
            alone.append(_appended(home, seconds))
            _tell(server.stdin, server.stdout, "open")
            beside.append(_appended(home, seconds))
            _tell(server.stdin, server.stdout, "close")
        server.stdin.close()
    slow, quiet = (
        statistics.median(1e3 * statistics.quantiles(took, n=20)[-1] for took in turns)
        for turns in (beside, alone)
    )
    half = [1e3 * statistics.median(chain.from_iterable(turns)) for turns in (beside, alone)]
    return _row(
        f"p95 of an append beside {len(OPEN)} open pages",
        f"{slow:.1f} ms",
        f"{quiet:.1f} ms (no page)",
        slow / quiet,
        "≤ 1.5",
        f"one server; five live trainings and five others, each page every {PAUSE_S:g} s; "
        f"{sum(map(len, beside)):,} appends beside them, median {half[0]:.1f} ms against "
        f"{half[1]:.1f} ms",
    )


def _tell(ear: IO[str], mouth: IO[str], word: str) -> None:
    """Say it to the server, and wait until it is so."""
    ear.write(f"{word}\n")
    ear.flush()
    if mouth.readline() != f"{word}\n":
        raise AssertionError("the server of the pages has ended")


def _appended(home: Path, seconds: float) -> list[float]:
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    took: list[float] = []
    end = time.monotonic() + seconds
    with Store(Workspace.at(home)) as store:
        while time.monotonic() < end:
            row = {"training_id": TRAINING, "step": STEPS + len(took) + 1, "loss": 0.5}
            took.append(_timed(lambda row=row: store.append("training_steps", [row])))
            time.sleep(0.02)
    return took


def _serve(home: str) -> None:
    """The ten pages, one after the other, between the lines `open` and `close`."""
    from threading import Event, Thread

    from dashboard.app.settings import give_way
    from harness.core.workspace import HOME_VARIABLE

    give_way()
    os.environ[HOME_VARIABLE] = home
    opened = Event()

    def show() -> None:
        while opened.is_set():
            for view in OPEN:
                began = time.monotonic()
                if opened.is_set():
                    look(view)
                time.sleep(max(0.0, PAUSE_S / len(OPEN) - (time.monotonic() - began)))

    for view in dict.fromkeys(OPEN):
        look(view)
    pages: list[Thread] = []
    for line in sys.stdin:
        if line == "open\n":
            opened.set()
            pages.append(Thread(target=show))
            pages[-1].start()
        else:
            opened.clear()
            pages.pop().join()
        print(line, end="", flush=True)


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
    match sys.argv[1:]:
        case ["views", home, rounds, *only]:
            print(json.dumps(views(home, int(rounds), only)))
        case ["serve", home]:
            _serve(home)
