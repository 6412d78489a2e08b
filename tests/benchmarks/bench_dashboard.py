"""How fast the views' queries are on 10,000 runs and 10 million scores, and whom they hold up.

`ratio` is ours over the goal's seconds for the views; for appends it is p95 beside a server with
ten open pages, over p95 with none, in the same run.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SUITE = "bench"
METRICS = ("alpha/match", "alpha/valid", "beta/match", "beta/valid")
SAMPLES = 250
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
            rows = views(store, runs, rounds=3)
        rows.append(appends(workspace.home, seconds=3.0 if quick else 10.0))
    note = f"{runs:,} runs, {runs * SAMPLES * len(METRICS):,} scores"
    return [row | {"note": f"{note}; {row['note']}"} for row in rows]


def fill(store: Any, runs: int) -> None:
    """Write the history by SQL into the file itself: the store has no door for inventions."""
    import json

    import duckdb

    store.drain()
    says = {
        "signature": "match|v:1",
        "direction": "higher",
        "scale": "ratio",
        "form": "mean",
        "unit": "share",
        "low": 0.0,
        "high": 1.0,
        "stats": [],
        "aggregate": None,
    }
    protocol: dict[str, Any] = {}
    for name in METRICS:
        task, _, metric = name.partition("/")
        protocol.setdefault(task, {"data": "x", "generate": None, "metrics": {}})
        protocol[task]["metrics"][metric] = says
    with duckdb.connect(str(store.workspace.database)) as connection:
        connection.execute(
            "INSERT INTO runs BY NAME SELECT md5(i::VARCHAR)[:16] AS run_id, "
            "'model ' || i AS model, "
            "md5('d' || i) AS model_digest, ? AS suite, '0' AS suite_digest, 0 AS seed, 0 AS draw, "
            "?::JSON AS protocol, '{}'::JSON AS subject, '{}'::JSON AS provenance, "
            "TIMESTAMP '2026-01-01' + INTERVAL (i) MINUTE AS started_at, i AS seq "
            "FROM generate_series(1, ?) g(i)",
            [SUITE, json.dumps(protocol), runs],
        )
        connection.execute(
            "INSERT INTO run_events BY NAME SELECT run_id, 'finished' AS event, started_at AS "
            "happened_at, seq + ? AS seq FROM runs",
            [runs],
        )
        for number, name in enumerate(METRICS):
            task, _, metric = name.partition("/")
            connection.execute(
                "INSERT INTO scores BY NAME SELECT r.run_id, ? AS task, ? AS metric, 's' || j AS "
                "sample_id, 0 AS response_index, 0 AS draw, 'scored' AS outcome, "
                "(hash(j, r.seq // 50) % 100 < 80)::INTEGER::DOUBLE AS value, 'match|v:1' AS "
                "signature, r.started_at AS scored_at, r.seq * 4000 + ? * 1000 + j AS seq "
                f"FROM runs r, generate_series(1, {SAMPLES}) g(j) ORDER BY r.seq",
                [task, metric, number],
            )
        connection.execute("SET enable_progress_bar = false")
        connection.execute("UPDATE store_order SET next_seq = 1000000000")
        connection.execute("CHECKPOINT")


def views(store: Any, runs: int, rounds: int) -> list[dict[str, object]]:
    """Seconds of all queries of a view, warm: the median of `rounds` after one to warm up."""
    from dashboard import comparing, measures, queries
    from dashboard.attention import attention

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
        queries.verdicts(store, 8)

    def trend() -> None:
        queries.scopes(store, SUITE)
        queries.runs_of(store, SUITE, queries.OUTSIDE)
        measures.values(store, [first], declared, name)
        measures.changes(store, first, ids, {name: declared[name]})

    asked: dict[str, tuple[float, Callable[[], Any]]] = {
        "first page": (1.0, overview),
        "trend of 200 runs": (2.0, trend),
        "heat map of 40 runs": (2.0, lambda: measures.changes(store, first, ids[-40:], declared)),
        "compare two runs": (2.0, lambda: comparing.tallies(store, first, last)),
        "samples, one page": (
            2.0,
            lambda: comparing.pairs(store, first, last, name, declared[name]),
        ),
    }
    rows = []
    for view, (goal, ask) in asked.items():
        ask()
        took = statistics.median(_timed(ask) for _ in range(rounds))
        note = "queries alone, warm, nothing cached"
        rows.append(
            _row(f"{view}", f"{took:.2f} s", f"{goal:g} s (goal)", took / goal, "≤ 1", note)
        )
    return rows


def appends(home: Path, seconds: float) -> dict[str, object]:
    """p95 of one-row appends beside ten readers, over the same without any."""
    alone = _p95(home, seconds)
    server = subprocess.Popen([sys.executable, __file__, str(home), str(seconds + 8)], cwd=ROOT)
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
    sys.path.insert(0, str(ROOT))
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
    _serve(sys.argv[1], float(sys.argv[2]))
