"""Workspaces with runs to share, and a bucket by moto's server in a process of its own."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from harness.core.workspace import Workspace
from harness.store.store import Store

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1]), verbose=False)
server.start()
print(*server.get_host_and_port(), flush=True)
sys.stdin.read()
"""


def fill(store, run="r1", samples=5):
    """A run with scores, a verdict about it, a calibration, a promotion, a note and a training."""
    store.append(
        "runs", [{"run_id": run, "model": "m", "suite": "s", "protocol": {}, "started_at": BEGAN}]
    )
    names = [f"s{n}" for n in range(samples)]
    link = {"task": "t", "kind": "generation", "response_index": 0, "draw": 0}
    store.append(
        "responses",
        [{"key": f"{run}-{n}", "sample_id": n, "text": f"你好 {n}", **link} for n in names],
    )
    store.append(
        "run_responses",
        [{"run_id": run, "key": f"{run}-{n}", "sample_id": n, **link} for n in names],
    )
    add_scores(store, run, dict.fromkeys(names, 0.5), scored_at=BEGAN)
    ended = {"run_id": run, "event": "finished", "detail": {"b": 1, "a": 2}, "happened_at": BEGAN}
    store.append("run_events", [ended])
    store.append("verdicts", [{"verdict_id": f"v-{run}", "outcome": "pass", "candidate_run": run}])
    store.append(
        "verdict_metrics",
        [{"verdict_id": f"v-{run}", "metric": m, "outcome": "pass"} for m in ("t/a", "t/b")],
    )
    store.append("calibrations", [{"calibration_id": f"c-{run}", "detail": {"z": 1, "a": [2]}}])
    store.append(
        "checkpoints",
        [{"digest": f"d-{run}", "event": "promoted", "line": "bot", "run_id": run}],
    )
    store.append("run_notes", [{"run_id": run, "tags": ["good"], "note": "so far"}])
    store.append("trainings", [{"training_id": f"t-{run}", "recipe": "q"}])
    store.append("training_events", [{"training_id": f"t-{run}", "event": "started"}])
    add_steps(store, run, range(1, 4))


def add_scores(store, run, values, **more):
    store.append(
        "scores",
        [
            {
                "run_id": run,
                "task": "t",
                "metric": "a",
                "sample_id": name,
                "draw": 0,
                "outcome": "scored",
                "value": value,
                **more,
            }
            for name, value in values.items()
        ],
    )


def add_steps(store, run, steps):
    store.append(
        "training_steps", [{"training_id": f"t-{run}", "step": n, "loss": 1 / n} for n in steps]
    )


def rescore(store, run, values, hours):
    at = BEGAN + timedelta(hours=hours)
    add_scores(store, run, values, scored_at=at)
    store.append("run_events", [{"run_id": run, "event": "rescored", "happened_at": at}])


SHARED = (
    "runs", "run_events", "current_scores", "responses", "run_responses", "verdicts",
    "verdict_metrics", "calibrations", "checkpoints", "run_notes", "trainings",
    "training_events", "training_steps",
)  # fmt: skip


def content(store):
    """All rows of what is shared, without their order."""
    return {
        table: sorted(
            (
                {k: v for k, v in row.items() if k != "seq"}
                for row in store.query(f"SELECT * FROM {table}")
            ),
            key=str,
        )
        for table in SHARED
    }


@pytest.fixture
def machine(tmp_path):
    """`machine("box")`: the store of a workspace of that name; closed at the end."""
    opened = {}

    def at(name):
        if name not in opened:
            opened[name] = Store(Workspace.at(tmp_path / name).ensure())
        return opened[name]

    yield at
    for store in opened.values():
        store.close()


class Bucket:
    """moto's server on loopback, which can be killed and started anew (empty) on its port."""

    def __init__(self):
        self.process = None
        self.start("0")

    def start(self, port=None):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, port or self.port],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        host, self.port = self.process.stdout.readline().split()
        self.url = f"http://{host}:{self.port}"

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def make(self, name):
        import fsspec

        fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)


@pytest.fixture
def bucket(monkeypatch):
    """A server that speaks S3, named by the environment as a user would."""
    pytest.importorskip("s3fs")
    server = Bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-for-tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-for-tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.make("team")
    yield server
    if server.process.poll() is None:
        server.kill()
