"""Twenty raters at once: how soon a vote is acknowledged, and that none is lost or doubled.

The server is `ratchet rate serve` in a process of its own; the raters are threads here, each with
an HTTP connection of its own, on loopback. The peer is the plainest server that keeps a vote as
durably: the same framework, DuckDB opened, one row inserted, closed, per vote.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
RATERS, PER_SECOND = 20, 4.0

PEER = """
import asyncio, json, sys, threading
import duckdb, uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.routing import Route
path, lock = sys.argv[1], threading.Lock()
def once(sql, values=()):
    with lock, duckdb.connect(path) as connection:
        connection.execute(sql, values)
once("CREATE TABLE votes (vote_id VARCHAR PRIMARY KEY, rater VARCHAR, choice VARCHAR)")
async def vote(request):
    sent = await request.json()
    row = [sent["id"], sent["rater"], sent["choice"]]
    await run_in_threadpool(once, "INSERT OR IGNORE INTO votes VALUES (?, ?, ?)", row)
    return JSONResponse({"id": sent["id"]})
app = Starlette(routes=[Route("/vote", vote, methods=["POST"])])
config = uvicorn.Config(app, port=0, log_level="warning", timeout_keep_alive=120)
server = uvicorn.Server(config)
async def main():
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("at 127.0.0.1:%d/" % server.servers[0].sockets[0].getsockname()[1], flush=True)
    await task
asyncio.run(main())
"""


def run(quick: bool = False) -> list[dict[str, object]]:
    """Acknowledgement at 4 votes/s over all raters for two minutes (`quick`: ten seconds)."""
    seconds = 10 if quick else 120
    turns = round(seconds * PER_SECOND / RATERS)
    with tempfile.TemporaryDirectory() as folder:
        ours = load(Path(folder) / "ours", turns=turns)
        theirs = _peer(Path(folder) / "peer.duckdb", turns)
    p95, peer95 = _p95(ours), _p95(theirs)
    return [
        {
            "what": f"{RATERS} raters, {PER_SECOND:g} votes/s, {seconds} s: p95 acknowledged",
            "ours": f"{1e3 * p95:.1f} ms",
            "peer": f"{1e3 * peer95:.1f} ms (Starlette; DuckDB connect, insert, close)",
            "ratio": p95 / peer95,
            "goal": "under 250 ms, none lost or doubled",
            "note": f"{len(ours)} votes, each sent twice, all kept once; "
            f"median {1e3 * statistics.median(ours):.1f} ms, ours with the next pair in the answer",
        }
    ]


def load(home: Path, *, turns: int, per_second: float = PER_SECOND) -> list[float]:
    """Let 20 raters vote so many times each; the seconds from each vote to its acknowledgement.

    Every vote is sent twice. Raises AssertionError where what is stored is not exactly what was
    acknowledged.
    """
    from dashboard.rating.keys import Link, sign_link, workspace_key
    from harness.ratings.votes import votes
    from tests.dashboard.rating.rating_builders import RatedRuns

    names = [f"rater{n}" for n in range(RATERS)]
    rated = RatedRuns(home, prompts=120)
    session = rated.session(
        *names, votes=100_000, min_dwell_ms=1, overlap=0.2, repeats=0.05, swaps=0.05
    )
    key = workspace_key(rated.workspace.home)
    rated.store.close()
    kept: list[str] = []
    latencies: list[float] = []
    program = [sys.executable, "-m", "harness", "rate", "serve", "--port", "0"]
    with _Server([*program, "--home", str(rated.workspace.home)]) as server:

        def rate(name: str, pause: Callable[[], None]) -> None:
            link = sign_link(key, Link(session.id, name, f"link-{name}", 2**40))
            path = f"/r/{link}/pairs"
            caller = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            state = _call(caller, "GET", f"{path}/state")
            for _ in range(turns):
                pause()
                sent = {"ticket": state["ticket"], "choice": "left", "dwell_ms": 4000}
                began = time.monotonic()
                state = _call(caller, "POST", f"{path}/vote", sent)
                latencies.append(time.monotonic() - began)
                kept.append(state["last"]["id"])
                assert _call(caller, "POST", f"{path}/vote", sent)["already"]
                state = _call(caller, "GET", f"{path}/state")

        _at_once(names, rate, per_second)
    with rated.store as store:
        found = [vote.id for vote in votes(store, session)]
    if sorted(found) != sorted(kept) or len(set(found)) != len(found):
        raise AssertionError(f"{len(kept)} votes acknowledged, {len(found)} kept")
    return latencies


def _peer(path: Path, turns: int) -> list[float]:
    latencies: list[float] = []
    with _Server([sys.executable, "-c", PEER, str(path)]) as server:

        def rate(name: str, pause: Callable[[], None]) -> None:
            caller = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            for number in range(turns):
                pause()
                sent = {"id": f"{name}-{number}", "rater": name, "choice": "left"}
                began = time.monotonic()
                _call(caller, "POST", "/vote", sent)
                latencies.append(time.monotonic() - began)
                _call(caller, "POST", "/vote", sent)

        _at_once([f"rater{n}" for n in range(RATERS)], rate, PER_SECOND)
    return latencies


def _at_once(
    names: list[str],
    rate: Callable[[str, Callable[[], None]], None],
    per_second: float,
) -> None:
    """Each in a thread, evenly out of step, so that together they vote `per_second` times."""
    every = len(names) / per_second
    begin = time.monotonic() + 0.5
    failures: list[BaseException] = []

    def work(place: int, name: str) -> None:
        turn = iter(range(10**9))

        def pause() -> None:
            due = begin + every * (next(turn) + place / len(names))
            time.sleep(max(0.0, due - time.monotonic()))

        try:
            rate(name, pause)
        except BaseException as error:  # noqa: BLE001 - told to whoever started the thread
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(place, name)) for place, name in enumerate(names)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


class _Server:
    """A program that prints where it listens; ended on leaving."""

    def __init__(self, program: list[str]) -> None:
        self.program = program

    def __enter__(self) -> _Server:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
        self.process = subprocess.Popen(
            self.program, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.port = int(line.split("127.0.0.1:")[1].split("/")[0])
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def _call(
    caller: http.client.HTTPConnection, method: str, path: str, body: object = None
) -> dict[str, object]:
    text = None if body is None else json.dumps(body)
    caller.request(method, path, text, {"content-type": "application/json"})
    answer = caller.getresponse()
    found = json.loads(answer.read())
    assert answer.status == 200, (answer.status, found)
    return found  # type: ignore[no-any-return]


def _p95(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=20)[-1]


if __name__ == "__main__":
    for row in run("--quick" in sys.argv):
        print(json.dumps(row, ensure_ascii=False, indent=1))
