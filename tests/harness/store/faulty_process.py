"""Works on a workspace until it is killed. Run by `test_faults.py`, never by hand.

Reads one JSON order a line from its input and forks a child for each, so that the imports are
paid for once. The child writes what it is about to do, and what was acknowledged, to a log; the
answer is one line with the child's exit status. Only this process's own, unreaped children are
ever killed.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import duckdb  # noqa: F401 - paid for once, before the forks
import pyarrow as pa

from harness.core import files as artifacts
from harness.core.errors import UserError
from harness.core.fault_points import FAULT_VARIABLE
from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store import database, journal, tables
from harness.store.bundle import import_bundle
from harness.store.store import Store

LINE = "line"


class Log:
    """A log of what was tried and what was acknowledged. It survives SIGKILL, not a power cut."""

    def __init__(self, path):
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __call__(self, kind, what):
        os.write(self._file, (json.dumps([kind, what]) + "\n").encode())


class Worker:
    def __init__(self, order):
        self.order = order
        self.random = random.Random(order["seed"])
        self.workspace = Workspace.at(order["home"])
        self.log = Log(order["log"])
        self.store = Store(self.workspace)
        self.registry = Registry(self.workspace, self.store)
        self.name = f"w{order['seed']}"
        self.number = 0

    def tracked(self, kind, what, act):
        self.log(f"try {kind}", what)
        act()
        self.log(f"ack {kind}", what)

    def append(self):
        steps = list(range(self.number, self.number + self.random.randint(1, 4)))
        self.number = steps[-1] + 1
        rows = [{"training_id": self.name, "step": n, "loss": 0.1} for n in steps]
        self.tracked(
            "rows",
            [[self.name, n] for n in steps],
            lambda: self.store.append("training_steps", rows),
        )

    def append_bulk(self):
        steps = list(range(self.number, self.number + 50))
        self.number = steps[-1] + 1
        table = pa.table({"training_id": [self.name] * 50, "step": steps})
        self.tracked(
            "rows",
            [[self.name, n] for n in steps],
            lambda: self.store.append_together({"training_steps": table}),
        )

    def respond(self):
        key = f"key-{self.random.randrange(200)}"
        row = {"key": key, "text": self.name}
        if self.random.random() < 0.3:
            row = {"key": key, "text": "", "error": "timeout"}
        kind = "failure" if "error" in row else "response"
        self.tracked(kind, key, lambda: self.store.append("responses", [row]))

    def query(self):
        self.store.query("SELECT count(*) FROM training_steps")

    def checkpoint(self):
        folder = self.workspace.trainings / "t" / f"{self.name}-{self.number:06d}"
        self.number += 1

        def write():
            with artifacts.staged(folder) as staging:
                for part in range(3):
                    (staging / f"part-{part}.bin").write_bytes(self.random.randbytes(5000))

        self.tracked("checkpoint", folder.name, write)

    def promote(self):
        digest = self.random.choice(self.order["digests"])
        self.tracked(
            "promotion",
            digest,
            lambda: self.registry.promote(LINE, digest, override="a test", actor=self.name),
        )

    def rollback(self):
        try:
            self.tracked("roll back", "", lambda: self.registry.rollback(LINE, actor=self.name))
        except UserError as error:
            if "no version before" not in error.what and "nothing was ever" not in error.what:
                raise

    def bring_in(self):
        folder = Path(self.random.choice(self.order["bundles"]))
        self.tracked("import", folder.name, lambda: import_bundle(self.store, folder))

    def work(self):
        wanted = self.order.get("only")
        acts = {
            self.append: 12, self.append_bulk: 1, self.respond: 4, self.query: 3,
            self.checkpoint: 1, self.promote: 1, self.rollback: 1, self.bring_in: 1,
        }  # fmt: skip
        for _ in range(self.order.get("acts", 10_000)):
            if wanted:
                for name in wanted:
                    getattr(self, name)()
            else:
                self.random.choices(list(acts), acts.values())[0]()
        self.store.close()


def migrate_to_the_next():
    version = tables.VERSION + 1
    for module in (database, journal):
        module.VERSION = version
    statements = [f"ALTER TABLE runs ADD COLUMN note_{n} VARCHAR" for n in range(5)]
    statements.append("CREATE TABLE more AS SELECT * FROM training_steps")
    database.MIGRATIONS = {**tables.MIGRATIONS, version: tuple(statements)}


def child(order):
    code = 1
    try:
        if order.get("fault"):
            os.environ[FAULT_VARIABLE] = order["fault"]
        if order.get("migrate"):
            migrate_to_the_next()
        Worker(order).work()
        code = 0
    except UserError as error:
        print(error.render(), file=sys.stderr, flush=True)
    finally:
        sys.stderr.flush()
        os._exit(code)


def supervise(pid, kill_after_s):
    """Wait for the child, killing it when its time is up; it is not reaped until then."""
    deadline = time.monotonic() + kill_after_s
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1]
        time.sleep(0.002)


def main():
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order)
        status = supervise(pid, order["kill_after_s"])
        print(json.dumps({"status": status, "killed": os.WIFSIGNALED(status)}), flush=True)


if __name__ == "__main__":
    main()
