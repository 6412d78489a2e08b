"""How fast observations come in, against a named peer in the same run.

`ratio` is ours over the peer's, in the unit of the row.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-that-is-long-enough"
SENDERS = 32

PROMPT = (
    "Hello, my order 20261122-4711 has not arrived yet, could you please check what happened? "
    "My name is on the parcel."
)
RESPONSE = "Your parcel left our warehouse yesterday and should be with you by Thursday. " * 4


def run(quick: bool = False) -> list[dict[str, object]]:
    """All rows. `quick` takes a tenth of the data and says so in the notes."""
    from tests.benchmarks.peers import python_of

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        peer = python_of("fastapi", ("fastapi", "uvicorn[standard]"))
        if peer is not None:
            for batch in (1, 50):
                rows.append(acknowledged(Path(folder), peer, batch, 2.0 if quick else 6.0,
                                         rounds=1 if quick else 3))  # fmt: skip
        rows.append(scraped(Path(folder), rounds=3 if quick else 30))
    if quick:
        rows = [row | {"note": f"{row['note']}; quick: a tenth of the data"} for row in rows]
    return rows


# Receiving.


def scraped(folder: Path, rounds: int) -> dict[str, object]:
    """`GET /metrics` with 1,000 series, as it is answered from the last reading of the store."""
    import asyncio

    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    from dashboard.receiver.metrics import Metrics, receiver_families
    from harness.core.workspace import Workspace
    from harness.store.store import Store
    from tests.harness.watch.watch_builders import verdict_on

    series = 1_000
    store = Store(Workspace.at(folder / "scraped"))
    for number in range(series // 16 + 1):
        look = verdict_on(None, "pass", f"w{number}", line=f"line-{number}")
        store.append("watch_verdicts", [look.row()])
    counts = dict.fromkeys(("accepted", "duplicates", "refused", "ignored"), 0)

    async def pages() -> tuple[list[float], float, int]:
        metrics, took = Metrics(store), []
        began = time.perf_counter()
        page = await metrics.page(receiver_families(counts, {}, 0, 0))
        first = time.perf_counter() - began
        for _ in range(rounds):
            began = time.perf_counter()
            page = await metrics.page(receiver_families(counts, {}, 0, 0))
            took.append(time.perf_counter() - began)
        return took, first, sum(not line.startswith("#") for line in page.splitlines())

    took, first, found = asyncio.run(pages())
    registry = CollectorRegistry()
    gauge = Gauge("peer", "The same number of series.", ["line"], registry=registry)
    for number in range(found):
        gauge.labels(str(number)).set(number)
    theirs = []
    for _ in range(rounds):
        began = time.perf_counter()
        generate_latest(registry)
        theirs.append(time.perf_counter() - began)
    store.close()
    ours, peer = statistics.median(took), statistics.median(theirs)
    return {
        "what": f"a scrape of {found:,} series",
        "ours": f"{ours * 1e3:.2f} ms",
        "peer": f"{peer * 1e3:.1f} ms (prometheus-client's generate_latest)",
        "ratio": ours / peer,
        "goal": "below 20 ms",
        "note": "from the last reading, which another thread renews at most every ten seconds; "
        f"the first one, which waits for it, took {first * 1e3:.0f} ms",
    }


def acknowledged(
    folder: Path, peer: Path, batch: int, seconds: float, rounds: int
) -> dict[str, object]:
    """Observations acknowledged per second by one receiver, its senders on the same machine."""
    found: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for number in range(rounds):
        for side, results in found.items():
            home = folder / f"{side}-{batch}-{number}"
            home.mkdir()
            with _ours(home) if side == "ours" else _theirs(peer, home) as port:
                sent = subprocess.run(
                    [sys.executable, __file__, "send", str(port), str(batch), str(seconds)],
                    capture_output=True, text=True, check=True,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                ).stdout  # fmt: skip
            results.append(json.loads(sent))
            if side == "ours":
                _all_there(home, int(results[-1]["acknowledged"]))
    rate = {side: statistics.median(r["rate"] for r in found[side]) for side in found}
    p99 = {side: statistics.median(r["p99_ms"] for r in found[side]) for side in found}
    form = "one a request" if batch == 1 else f"{batch} a request"
    return _row(
        f"observations acknowledged by one receiver, {form}, {SENDERS} senders on loopback",
        f"{rate['ours']:.0f}/s",
        f"{rate['peer']:.0f}/s (FastAPI, one SQLite transaction a request)",
        rate["ours"] / rate["peer"],
        "at least 2,000/s",
        f"p99 of a request: ours {p99['ours']:.0f} ms, peer {p99['peer']:.0f} ms; ours masks each "
        "text, and all that was acknowledged was found afterwards",
    )


@contextlib.contextmanager
def _ours(home: Path) -> Iterator[int]:
    command = [sys.executable, "-m", "harness", "watch", "serve", "--port", "0"]
    variables = {"RATCHET_HOME": str(home), "RATCHET_WATCH_TOKENS": TOKEN}
    with _served(command, variables) as port:
        yield port


@contextlib.contextmanager
def _theirs(python: Path, home: Path) -> Iterator[int]:
    with _served([str(python), "-c", _PEER, str(home / "peer.sqlite")], {}) as port:
        yield port


@contextlib.contextmanager
def _served(command: list[str], variables: dict[str, str]) -> Iterator[int]:
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
    )
    assert server.stdout is not None
    try:
        found = re.search(r":(\d+)", server.stdout.readline())
        assert found is not None
        yield int(found[1])
    finally:
        server.terminate()
        server.communicate()


# What many would write first: checked by pydantic, one connection, a commit for each request.
_PEER = """
import json, socket, sqlite3, sys
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

class Observation(BaseModel):
    observation_id: str
    line: str
    prompt: str | None = None
    response: str | None = None
    latency_s: float | None = None
    output_tokens: int | None = None

store = sqlite3.connect(sys.argv[1], check_same_thread=False)
store.execute("PRAGMA journal_mode = WAL")
store.execute("PRAGMA synchronous = FULL")
store.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, line, prompt, response, latency_s, tokens)")
app = FastAPI()

@app.post("/v1/observations")
async def take(sent: Observation | list[Observation]):
    many = sent if isinstance(sent, list) else [sent]
    with store:
        store.executemany(
            "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?, ?)",
            [tuple(item.model_dump().values()) for item in many],
        )
    return {"accepted": len(many)}

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(f"http://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
config = uvicorn.Config(app, log_level="warning", access_log=False)
uvicorn.Server(config).run(sockets=[listener])
"""


def _send(port: int, batch: int, seconds: float) -> None:
    """Many senders that each wait for their answer; prints what was acknowledged."""
    import http.client
    import threading

    names = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    latencies: list[float] = []
    until = time.monotonic() + seconds

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.monotonic() < until:
            many = [
                {"observation_id": uuid.uuid4().hex, "line": "bot", "prompt": PROMPT,
                 "response": RESPONSE, "latency_s": 0.8, "output_tokens": 60}
                for _ in range(batch)
            ]  # fmt: skip
            began = time.perf_counter()
            body = json.dumps(many if batch > 1 else many[0])
            connection.request("POST", "/v1/observations", body, names)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            latencies.append(time.perf_counter() - began)
            if answer.status != 200 or said["accepted"] != batch:
                raise AssertionError(said)

    began = time.monotonic()
    senders = [threading.Thread(target=work) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    count = len(latencies) * batch
    print(json.dumps({
        "acknowledged": count,
        "rate": count / (time.monotonic() - began),
        "p99_ms": 1e3 * statistics.quantiles(latencies, n=100)[-1],
    }))  # fmt: skip


def _all_there(home: Path, count: int) -> None:
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    with Store(Workspace.at(home)) as store:
        kept = store.query("SELECT count(*) AS n FROM observations")[0]["n"]
    if kept != count:
        raise AssertionError(f"{count} observations acknowledged, {kept} kept")


def _row(what: str, ours: str, peer: str, ratio: float, goal: str, note: str) -> dict[str, Any]:
    return {"what": what, "ours": ours, "peer": peer, "ratio": ratio, "goal": goal, "note": note}


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        _send(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
    else:
        for line in run(quick="quick" in sys.argv):
            print(json.dumps(line))
