"""How fast the store is, each as a ratio against a named peer in the same run.

`ratio` is ours over the peer's, in the unit of the row.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

TABLE = "training_steps"
INSERT = f"INSERT INTO {TABLE} (training_id, step, loss, seq) VALUES (?, ?, 0.5, 1)"
COUNT = f"SELECT count(*) AS n FROM {TABLE}"
GATE = "SELECT task, metric, sample_id, value, stats FROM current_scores WHERE run_id = ?"


def run(quick: bool = False) -> list[dict[str, object]]:
    """All rows. `quick` takes a tenth of the data and says so in the notes."""
    from tests.benchmarks.peers import python_of

    with tempfile.TemporaryDirectory() as folder:
        rows = [
            *one_row_commits(Path(folder), seconds=1.5 if quick else 5.0, rounds=1 if quick else 3),
            bulk(Path(folder), rows=100_000 if quick else 1_000_000, rounds=3),
            pushed(Path(folder), rows=100_000 if quick else 1_000_000),
            gate_query(Path(folder), runs=1_000 if quick else 10_000),
        ]
        # The skinny package logs to SQLite by the same code, without the server and its UI.
        mlflow = python_of("mlflow", ("mlflow-skinny", "sqlalchemy", "alembic"))
        if mlflow is not None:
            rows.append(against_mlflow(mlflow, Path(folder), seconds=1.5 if quick else 4.0))
    if quick:
        rows = [row | {"note": f"{row['note']}; quick: a tenth of the data"} for row in rows]
    return rows


# Four writers beside a reader.


def one_row_commits(folder: Path, seconds: float, rounds: int) -> list[dict[str, object]]:
    """Acknowledged rows per second and their p95, journals against connect-insert-close."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    for number in range(rounds):
        for side in found:
            found[side].append(_contest(side, folder / f"{side}-{number}", seconds))
    rate = {side: statistics.median(r["rate"] for r in found[side]) for side in found}
    p95 = {side: statistics.median(r["p95_ms"] for r in found[side]) for side in found}
    read = {side: statistics.median(r["read_ms"] for r in found[side]) for side in found}
    peer = "connect, insert, close, retry"
    reading = f"the reader's median: ours {read['ours']:.0f} ms, peer {read['plain']:.0f} ms"
    return [
        _row(
            "4 writers of one-row commits beside a reader, acknowledged rows/s",
            f"{rate['ours']:.0f}",
            f"{rate['plain']:.1f} ({peer})",
            rate["ours"] / rate["plain"],
            "at least 50",
            reading,
        ),
        _row(
            "the same, p95 of one commit",
            f"{p95['ours']:.1f} ms",
            f"{p95['plain']:.0f} ms ({peer})",
            p95["ours"] / p95["plain"],
            "below 1",
            "every acknowledged row was found afterwards",
        ),
    ]


def _contest(side: str, home: Path, seconds: float) -> dict[str, float]:
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    with Store(Workspace.at(home)) as store:
        store.drain()
    begin = time.time() + 2.0  # after everybody's imports
    roles = [f"{side}-writer"] * 4 + [f"{side}-reader"]
    programs = [
        subprocess.Popen(
            [sys.executable, __file__, role, str(home), str(number), str(begin), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for number, role in enumerate(roles)
    ]
    *writers, reader = (json.loads(program.communicate()[0]) for program in programs)
    acknowledged = [latency for writer in writers for latency in writer]
    with Store(Workspace.at(home)) as store:
        kept = store.query(COUNT)[0]["n"]
    if kept != len(acknowledged):
        raise AssertionError(f"{len(acknowledged)} rows acknowledged, {kept} kept")
    return {
        "rate": len(acknowledged) / seconds,
        "p95_ms": 1e3 * statistics.quantiles(acknowledged, n=20)[-1],
        "read_ms": 1e3 * statistics.median(reader),
    }


def _work(role: str, home: str, number: str, begin: str, seconds: str) -> None:
    """One writer's or reader's loop; prints its latencies in seconds."""
    import duckdb

    from harness.core.workspace import Workspace
    from harness.store.store import Store

    workspace = Workspace.at(home)
    store = Store(workspace)
    chance = random.Random(number)

    def plain(sql: str, params: list[Any]) -> None:
        while True:
            try:
                with duckdb.connect(str(workspace.database)) as connection:
                    connection.execute(sql, params).fetchall()
                return
            except duckdb.IOException:
                time.sleep(chance.uniform(0.001, 0.01))

    acts: dict[str, Callable[[int], None]] = {
        "ours-writer": lambda n: store.append(
            TABLE, [{"training_id": number, "step": n, "loss": 0.5}]
        ),
        "ours-reader": lambda _: store.query(COUNT) and None,
        "plain-writer": lambda n: plain(INSERT, [number, n]),
        "plain-reader": lambda _: plain(COUNT, []),
    }
    time.sleep(max(0.0, float(begin) - time.time()))
    latencies = []
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        began = time.perf_counter()
        acts[role](len(latencies))
        latencies.append(time.perf_counter() - began)
        if role.endswith("reader"):
            time.sleep(0.05)
    print(json.dumps(latencies))


# Many rows at once.


def bulk(folder: Path, rows: int, rounds: int) -> dict[str, object]:
    """A million scores through `append_together`, against DuckDB's COPY from Parquet."""
    import pyarrow.parquet as parquet

    from harness.core.workspace import Workspace
    from harness.store.store import Store

    data = _scores(rows)
    source = folder / "scores.parquet"
    parquet.write_table(data, source)
    ours, peer = [], []
    for number in range(rounds):
        store = Store(Workspace.at(folder / f"bulk-{number}"))
        store.drain()
        ours.append(_timed(lambda s=store: s.append_together({"scores": data})))
        peer.append(_timed(lambda n=number: _copy(folder / f"copy-{n}.duckdb", source)))
        store.close()
    return _row(
        f"{rows:,} scores appended",
        f"{statistics.median(ours):.2f} s",
        f"{statistics.median(peer):.2f} s (DuckDB's COPY from Parquet)",
        statistics.median(ours) / statistics.median(peer),
        "at most 4",
        "ours checks every value, numbers the rows and is one transaction",
    )


def pushed(folder: Path, rows: int) -> dict[str, object]:
    """A run of so many scores sent to a bucket on loopback, against writing and sending it bare."""
    import pyarrow.parquet as parquet
    from moto.server import ThreadedMotoServer

    from harness.core.workspace import Workspace
    from harness.store.share.place import open_place
    from harness.store.share.push import push
    from harness.store.store import Store

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    data, run_id = _scores(rows), "pushed"
    for name, values in (("run_id", [run_id] * rows), ("sample_id", list(map(str, range(rows))))):
        data = data.set_column(data.schema.get_field_index(name), name, [values])
    try:
        with Store(Workspace.at(folder / "pushed")) as store:
            store.append("runs", [{"run_id": run_id, "model": "m", "protocol": {}}])
            store.append("run_events", [{"run_id": run_id, "event": "finished"}])
            store.append_together({"scores": data})
            import fsspec

            bucket = fsspec.filesystem("s3", skip_instance_cache=True)
            bucket.mkdir("bench")
            place = open_place("s3://bench/ours")
            ours = _timed(lambda: push(store, place))
            plain = folder / "plain.parquet"

            def bare() -> None:
                found = store.query_arrow("SELECT * FROM scores WHERE run_id = ?", [run_id])
                parquet.write_table(found, plain, compression="zstd")
                bucket.put_file(str(plain), "bench/plain")

            peer = _timed(bare)
    finally:
        server.stop()
    return _row(
        f"ratchet push of {rows:,} scores to S3 (moto, loopback)",
        f"{ours:.2f} s",
        f"{peer:.2f} s (one query, pyarrow, s3fs)",
        ours / peer,
        "at most 10 s",
        "ours leaves out what was rescored, sums the run up, and digests every file",
    )


def _copy(path: Path, source: Path) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE scores AS SELECT * FROM '{source}' LIMIT 0")
        connection.execute(f"COPY scores FROM '{source}' (FORMAT parquet)")


def _scores(rows: int) -> Any:
    import duckdb

    from harness.store.tables import BY_NAME

    names = ", ".join(column.name for column in BY_NAME["scores"].columns)
    sql = f"SELECT {names.replace('slice', 'NULL::VARCHAR AS slice')} FROM ({_history(rows)})"
    table = duckdb.connect().sql(sql).to_arrow_table()
    return table.cast(BY_NAME["scores"].arrow)


def _history(rows: int) -> str:
    """Runs of 1,000 scores: 4 tasks with a metric each, 250 samples."""
    return f"""
        SELECT md5((i // 1000)::VARCHAR) AS run_id, 'task' || (i // 250) % 4 AS task,
            'metric' || (i // 250) % 4 AS metric, 'sample-' || i % 250 AS sample_id,
            0::INTEGER AS response_index, 0::INTEGER AS draw, 'scored' AS outcome,
            (hash(i) % 1000) / 1000.0::DOUBLE AS value, NULL::VARCHAR AS reason,
            [1.0::DOUBLE] AS stats, NULL::VARCHAR AS cluster, NULL::JSON AS slice,
            'metric|v:1' AS signature, TIMESTAMP '2026-01-01' AS scored_at, i + 1 AS seq
        FROM range({rows}) t(i)
    """


# What the gate asks.


def gate_query(folder: Path, runs: int) -> dict[str, object]:
    """The scores of two runs out of a long history, through the store and on an open file."""
    import duckdb

    from harness.core.workspace import Workspace
    from harness.store.store import Store

    workspace = Workspace.at(folder / "history")
    with Store(workspace) as store:
        store.drain()
    with duckdb.connect(str(workspace.database)) as connection:
        connection.execute(f"INSERT INTO scores BY NAME {_history(runs * 1000)}")
    two = [
        row["run_id"]
        for row in Store(workspace).query(
            f"SELECT md5(n::VARCHAR) AS run_id FROM (VALUES ({runs // 3}), ({runs - 2})) t(n)"
        )
    ]
    ours, peer = [], []
    for _ in range(9):
        store = Store(workspace) if not ours else store
        ours.append(_timed(lambda s=store: [s.query(GATE, [run_id]) for run_id in two]))
        with duckdb.connect(str(workspace.database), read_only=True) as connection:
            connection.execute(GATE, [two[0]]).fetchall()
            peer.append(_timed(lambda c=connection: [c.execute(GATE, [r]).fetchall() for r in two]))
    store.close()
    warm, theirs = statistics.median(ours[1:]), statistics.median(peer[1:])
    return _row(
        f"the gate's query: two runs out of {runs:,} with {runs * 1000 / 1e6:g} million scores",
        f"{1e3 * warm:.0f} ms",
        f"{1e3 * theirs:.0f} ms (the same SQL on a DuckDB connection kept open)",
        warm / theirs,
        "under 200 ms warm",
        "both runs, 1,000 scores each",
    )


# MLflow.

_MLFLOW = """
import json, sys, time
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri="sqlite:///" + sys.argv[1])
run = client.create_run(client.create_experiment("bench")).info.run_id
client.log_metric(run, "loss", 0.5, step=0)
latencies, until = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    began = time.perf_counter()
    client.log_metric(run, "loss", 0.5, step=len(latencies) + 1)
    latencies.append(time.perf_counter() - began)
print(json.dumps(latencies))
"""


def against_mlflow(python: Path, folder: Path, seconds: float) -> dict[str, object]:
    """One writer, one metric a call."""
    what = "one writer logging one metric a call, rows/s"
    rates: dict[str, list[float]] = {"ours": [], "mlflow": []}
    for number in range(3):
        home = str(folder / f"alone-{number}")
        alone = [sys.executable, __file__, "ours-writer", home, "0", "0", str(seconds)]
        theirs = [str(python), "-c", _MLFLOW, str(folder / f"mlflow-{number}.db"), str(seconds)]
        for side, command in (("ours", alone), ("mlflow", theirs)):
            environment = {**os.environ, "PYTHONPATH": str(ROOT) if side == "ours" else ""}
            said = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            ).stdout
            rates[side].append(len(json.loads(said.splitlines()[-1])) / seconds)
    ours, peer = (statistics.median(rates[side]) for side in ("ours", "mlflow"))
    return _row(
        what, f"{ours:.0f}", f"{peer:.0f} (MLflow's local SQLite store)", ours / peer, "", ""
    )


def _timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _row(what: str, ours: str, peer: str, ratio: float, goal: str, note: str) -> dict[str, object]:
    return {"what": what, "ours": ours, "peer": peer, "ratio": ratio, "goal": goal, "note": note}


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _work(*sys.argv[1:])
    else:
        for line in run(quick="quick" in sys.argv):
            print(json.dumps(line))
