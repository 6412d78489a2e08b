"""A store's other users: children that are killed, programs that hold its files."""

import contextlib
import json
import os
import subprocess
import sys
import traceback

from harness.store import journal
from harness.store.store import Store

COUNT = "SELECT count(*) AS n FROM training_steps"


def step(number, **more):
    return {"training_id": "t", "step": number, **more}


def count(workspace, **options):
    with Store(workspace, **options) as store:
        return store.query(COUNT)[0]["n"]


def in_child(work, *args):
    """Run `work` in a forked child that ends without closing anything; returns what it says.

    A traceback in the child is the test's failure.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(read)
            os.write(write, json.dumps(work(*args)).encode())
            code = 0
        except BaseException:  # noqa: BLE001 - it must never run the rest of the tests
            traceback.print_exc()
        os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        answer = said.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(answer)


def abandoned_journal(workspace, rows=3):
    """A journal with `rows` one-row lines whose writer was killed."""

    def work():
        store = Store(workspace)
        for number in range(rows):
            store.append("training_steps", [step(number)])

    in_child(work)
    [path] = journal.journals(workspace.journal)
    return path


@contextlib.contextmanager
def other_program(code, *args):
    """Another Python program that says `ready` and then waits for its input to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


HOLD_DATABASE = """
import duckdb, sys
held = duckdb.connect(sys.argv[1], read_only=len(sys.argv) > 2)
print("ready", flush=True)
sys.stdin.read()
"""
HOLD_LOCK = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
os.pwrite(file, b"%-20d" % os.getpid(), 0)
print("ready", flush=True)
sys.stdin.read()
"""
