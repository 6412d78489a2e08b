"""The store with torn journals, other versions and other holders: no acknowledged row is lost."""

import json
import threading
import time
import zlib
from datetime import UTC, datetime

import duckdb
import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store import database, journal, tables
from harness.store.store import Store
from tests.harness.store.store_processes import (
    COUNT,
    HOLD_DATABASE,
    HOLD_LOCK,
    abandoned_journal,
    count,
    other_program,
    step,
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / ".ratchet")


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


def test_a_damaged_line_is_kept_and_reported_and_the_rest_is_stored(workspace):
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


def test_a_line_of_a_removed_table_is_kept_and_reported(workspace):
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


def test_an_older_schema_is_migrated_by_the_first_to_open_it(workspace, monkeypatch):
    abandoned_journal(workspace)
    assert count(workspace) == 3
    now = tables.VERSION
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


def test_the_holder_of_the_file_is_named_and_appends_go_on(workspace):
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


def test_the_holder_of_the_lock_is_named(workspace):
    workspace.ensure()
    with other_program(HOLD_LOCK, workspace.home / "turnstile") as holder:
        store = Store(workspace, lock_timeout_s=0.3)
        with pytest.raises(UserError, match=f"PID {holder.pid}"):
            store.query(COUNT)
        store.append("training_steps", [step(1)])  # an append asks for no lock
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
