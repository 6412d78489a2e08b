"""What the store does when the world is against it: nothing acknowledged is lost, ever."""

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from harness import database, journal, tables
from harness.errors import UserError
from harness.store import Store
from harness.turnstile import Patience
from harness.workspace import Workspace

COUNT = "SELECT count(*) AS n FROM training_steps"


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / ".ratchet")


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

HOLD_TURNSTILE = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
os.pwrite(file, b"%-20d" % os.getpid(), 0)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_torn_tail_is_no_row(workspace):
    path = abandoned_journal(workspace)
    with path.open("ab") as file:
        file.write(b'89abcdef {"table": "training_steps", "rows": [{"train')
    assert count(workspace) == 3
    assert journal.journals(workspace.journal) == []


def test_a_torn_header_is_an_empty_journal(workspace):
    path = abandoned_journal(workspace)
    path.write_bytes(path.read_bytes()[:20])
    assert count(workspace) == 0
    assert count(workspace) == 0


def test_a_damaged_line_is_kept_and_told_and_the_rest_goes_in(workspace):
    path = abandoned_journal(workspace)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"step":1', b'"step":7')
    path.write_bytes(b"".join(lines))
    with Store(workspace) as store:
        assert store.query("SELECT step FROM training_steps ORDER BY step") == [
            {"step": 0},
            {"step": 2},
        ]
        [problem] = store.problems()
        assert path.stem in problem
        assert "checksum" in problem
        [reject] = store.query("SELECT line FROM journal_rejects")
        assert '"step":7' in reject["line"]


def test_a_line_of_a_table_that_is_gone_is_kept_and_told(workspace):
    path = abandoned_journal(workspace)
    text = b'{"table":"forgotten","rows":[{"a":1}]}'
    with path.open("ab") as file:
        file.write(b"%08x %s\n" % (zlib.crc32(text), text))
    with Store(workspace) as store:
        assert store.query(COUNT) == [{"n": 3}]
        assert "no such table" in store.problems()[0]


@pytest.mark.parametrize("part", ["format", "schema"])
def test_a_journal_of_a_newer_version_waits_for_it(workspace, part):
    path = abandoned_journal(workspace)
    lines = path.read_bytes().splitlines(keepends=True)
    header = json.loads(lines[0].split(b" ", 1)[1]) | {part: 99}
    text = json.dumps(header).encode()
    original = path.read_bytes()
    path.write_bytes(b"".join([b"%08x %s\n" % (zlib.crc32(text), text), *lines[1:]]))
    store = Store(workspace)
    store.append("training_steps", [step(10)])
    with pytest.raises(UserError, match="newer Ratchet") as refusal:
        store.query(COUNT)
    assert refusal.value.file == str(path)
    assert path.exists()
    path.write_bytes(original)
    assert store.query(COUNT) == [{"n": 4}]
    store.close()


def test_a_database_of_a_newer_version_is_left_alone(workspace):
    assert count(workspace) == 0
    with duckdb.connect(str(workspace.database)) as plain:
        plain.execute("INSERT INTO schema_version VALUES (99, now()::TIMESTAMP)")
    with Store(workspace) as store:
        store.append("training_steps", [step(1)])
        with pytest.raises(UserError, match="newer schema"):
            store.query(COUNT)


def test_an_older_schema_is_migrated_by_whoever_comes_first(workspace, monkeypatch):
    abandoned_journal(workspace)
    assert count(workspace) == 3
    now = database.VERSION
    monkeypatch.setattr(database, "VERSION", now + 2)
    monkeypatch.setattr(
        database,
        "MIGRATIONS",
        {
            now + 1: ("ALTER TABLE runs ADD COLUMN note VARCHAR",),
            now + 2: ("CREATE TABLE more (a INTEGER)",),
        },
    )
    with Store(workspace) as store:
        assert store.query(COUNT) == [{"n": 3}]
        assert store.query("SELECT note FROM runs") == []
        found = store.query("SELECT version FROM schema_version ORDER BY version")
        assert [row["version"] for row in found] == [now, now + 1, now + 2]


def test_a_store_of_version_1_learns_the_time_to_the_first_token(workspace):
    workspace.ensure()
    with duckdb.connect(str(workspace.database)) as plain:
        old = [table.sql.replace('"first_token_s" DOUBLE, ', "") for table in tables.TABLES]
        for statement in (*tables.HOUSEKEEPING, *old):
            plain.execute(statement)
        plain.execute("INSERT INTO schema_version VALUES (1, now()::TIMESTAMP)")
        plain.execute("INSERT INTO responses (key, latency_s, seq) VALUES ('old', 1.0, 0)")
    with Store(workspace) as store:
        store.append("responses", [{"key": "new", "latency_s": 1.0, "first_token_s": 0.25}])
        found = store.query("SELECT key, first_token_s FROM responses ORDER BY seq")
    assert found == [
        {"key": "old", "first_token_s": None},
        {"key": "new", "first_token_s": 0.25},
    ]


def test_whoever_holds_the_file_is_named_and_appends_go_on(workspace):
    assert count(workspace) == 0
    told = []
    with other_program(HOLD_DATABASE, workspace.database) as holder:
        store = Store(workspace, lock_timeout_s=0.8, on_wait=told.append)
        store.append("training_steps", [step(1)])
        with pytest.raises(UserError) as refusal:
            store.query(COUNT)
        assert f"PID {holder.pid}" in refusal.value.what
        assert any(f"PID {holder.pid}" in text for text in told)
        store.append("training_steps", [step(2)])
        store.close()
    assert count(workspace) == 2


def test_a_foreign_reader_does_not_stop_readers(workspace):
    assert count(workspace) == 0
    with other_program(HOLD_DATABASE, workspace.database, "read_only"):
        assert count(workspace, lock_timeout_s=1.0) == 0


def test_a_reader_waits_and_is_served_when_the_file_is_free(workspace):
    assert count(workspace) == 0
    served = []

    def read():
        with Store(workspace, lock_timeout_s=30) as store:
            store.append("training_steps", [step(1)])
            served.extend(store.query(COUNT))

    reader = threading.Thread(target=read)
    with other_program(HOLD_DATABASE, workspace.database):
        reader.start()
        time.sleep(0.3)
        assert not served
    reader.join()
    assert served == [{"n": 1}]


def test_whoever_stands_in_the_turnstile_is_named(workspace):
    workspace.ensure()
    with other_program(HOLD_TURNSTILE, workspace.home / "turnstile") as holder:
        store = Store(workspace, lock_timeout_s=0.3)
        with pytest.raises(UserError, match=f"PID {holder.pid}"):
            store.query(COUNT)
        began = time.monotonic()
        store.append("training_steps", [step(1)])
        assert time.monotonic() - began < 5
        store.close()
    assert count(workspace) == 1


def test_a_clock_that_jumps_back_changes_no_order(workspace, monkeypatch):
    class Clock(datetime):
        year_now = 2040

        @classmethod
        def now(cls, tz=None):
            return datetime(cls.year_now, 1, 1, tzinfo=tz)

    monkeypatch.setattr(journal, "datetime", Clock)
    row = {
        "run_id": "r",
        "task": "t",
        "metric": "m",
        "sample_id": "s",
        "draw": 0,
        "outcome": "scored",
    }
    first, second = Store(workspace), Store(workspace)
    first.append("scores", [row | {"value": 0.0, "scored_at": datetime(2040, 1, 1, tzinfo=UTC)}])
    assert second.query("SELECT value FROM current_scores") == [{"value": 0.0}]
    Clock.year_now = 1999
    second.append("scores", [row | {"value": 1.0, "scored_at": datetime(1999, 1, 1, tzinfo=UTC)}])
    assert first.query("SELECT value FROM current_scores") == [{"value": 1.0}]
    first.close()
    second.close()


def test_a_journal_deleted_under_its_writer_is_noticed(workspace):
    store = Store(workspace)
    store.append("training_steps", [step(1)])
    assert store.query(COUNT) == [{"n": 1}]
    shutil.rmtree(workspace.journal)
    store.append("training_steps", [step(2)])
    assert store.query(COUNT) == [{"n": 2}]
    store.close()


def fill(workspace):
    """Append rows of 20 kB until that is refused; returns how many were acknowledged."""
    store = Store(workspace)
    for number in range(100_000):
        try:
            store.append("trainings", [{"training_id": str(number), "recipe": "x" * 20_000}])
        except UserError as error:
            return number if "space" in (error.cure or "") else 0
    raise AssertionError("it was never refused")


def test_a_file_size_limit_loses_nothing(workspace):
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        acknowledged = fill(workspace)
        store = Store(workspace)
        with pytest.raises(UserError):
            store.query(COUNT)
        return acknowledged

    acknowledged = in_child(work)
    assert acknowledged > 3
    with Store(workspace) as store:
        found = store.query("SELECT count(*) AS n, count(DISTINCT training_id) AS d FROM trainings")
        assert found == [{"n": acknowledged, "d": acknowledged}]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system needs root and mount; the file size limit is tested")
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting is not permitted here; the file size limit is tested")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(small_disk):
    workspace = Workspace.at(small_disk / ".ratchet")
    assert count(workspace) == 0
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 2_000_000)
    acknowledged = in_child(fill, workspace)
    assert acknowledged > 10

    def read_in_vain():
        store = Store(workspace)
        try:
            store.query("SELECT count(*) FROM trainings")
        except UserError as error:
            return error.render()
        return "served"

    assert "space" in in_child(read_in_vain)
    ballast.unlink()
    found = []
    with contextlib.suppress(UserError), Store(workspace) as store:
        found = store.query("SELECT count(*) AS n, count(DISTINCT training_id) AS d FROM trainings")
    if not found:  # the journal and the database together do not fit: make more room
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        with Store(workspace) as store:
            found = store.query(
                "SELECT count(*) AS n, count(DISTINCT training_id) AS d FROM trainings"
            )
    assert found == [{"n": acknowledged, "d": acknowledged}]


def test_a_read_only_folder_can_be_read_and_says_why_it_cannot_be_written(workspace):
    with Store(workspace) as store:
        store.append("training_steps", [step(1)])
    for path in (workspace.home, workspace.journal):
        path.chmod(0o555)
    workspace.database.chmod(0o444)

    def work():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(65534)
        store = Store(workspace)
        assert store.query(COUNT) == [{"n": 1}]
        try:
            store.append("training_steps", [step(2)])
        except UserError as error:
            return [error.what, error.cure]
        return "appended"

    # The temporary folder of root lets nobody else in.
    top = Path(tempfile.gettempdir())
    parents = [p for p in workspace.home.parents if p.is_relative_to(top) and p != top]
    modes = {path: path.stat().st_mode for path in parents}
    for path, mode in modes.items():
        path.chmod(mode | 0o055)
    try:
        what, cure = in_child(work)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
        for path in (workspace.home, workspace.journal):
            path.chmod(0o755)
    assert "permission" in what.lower()
    assert "--home" in cure or "permissions" in cure


def test_a_failed_append_leaves_the_journal_and_the_next_one_works(workspace, monkeypatch):
    store = Store(workspace)
    store.append("training_steps", [step(1)])

    def refuse(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "fsync", refuse)
        with pytest.raises(UserError, match="Input/output error"):
            store.append("training_steps", [step(2)])
    store.append("training_steps", [step(3)])
    assert store.query("SELECT step FROM training_steps ORDER BY step") == [
        {"step": 1},
        {"step": 3},
    ]
    store.close()


@pytest.mark.parametrize("passage", [1, 2])
def test_an_interrupted_append_spoils_nothing_that_follows(workspace, monkeypatch, passage):
    store = Store(workspace)
    store.append("training_steps", [step(1)])
    writes = []
    write = journal._write

    def interrupted(file, data):
        writes.append(data)
        if len(writes) == passage:
            raise KeyboardInterrupt
        return write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "_write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.append("training_steps", [step(2)])
    store.append("training_steps", [step(3)])
    assert store.query("SELECT step FROM training_steps ORDER BY step") == [
        {"step": 1},
        {"step": 3},
    ]
    assert store.problems() == []
    store.close()


def test_a_lock_is_not_inherited_by_a_child_forked_while_it_is_held(workspace):
    store = Store(workspace)
    store.append("training_steps", [step(1)])
    done = os.pipe()
    with store._turnstile.pass_through(Patience(1.0, None)):
        child = os.fork()
        if child == 0:
            os.read(done[0], 1)
            os._exit(0)
    try:
        with Store(workspace, lock_timeout_s=2.0) as other:
            assert other.query(COUNT) == [{"n": 1}]
    finally:
        os.write(done[1], b"x")
        os.waitpid(child, 0)
        for end in done:
            os.close(end)
    store.close()
