"""Readers that only display don't slow others down: fair turns, few drains, bounded queries."""

import fcntl
import os
import threading

import pytest

from harness.core.errors import UserError
from harness.core.lock import FairLock, Patience
from harness.core.workspace import Workspace
from harness.store import drain
from harness.store.store import Store

COUNT = "SELECT count(*) AS n FROM training_steps"
LONG_S = 3_600.0


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / ".ratchet")


def step(number):
    return {"training_id": "t", "step": number}


def until(happened):
    """Wait for something that will happen; the test's own time is the only limit."""
    pause = threading.Event()
    while not happened():
        pause.wait(0.001)


def is_locked(path):
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def test_a_process_that_waits_goes_before_one_that_just_left(tmp_path):
    order = []

    def enter(name):
        with FairLock(tmp_path / "turnstile").pass_through(Patience(60, None)):
            order.append(name)

    waiting = threading.Thread(target=enter, args=("a trainer",))
    with FairLock(tmp_path / "turnstile").pass_through(Patience(60, None)):
        waiting.start()
        until(lambda: is_locked(tmp_path / "turnstile.next"))
    enter("a page, at once again")
    waiting.join()
    assert order == ["a trainer", "a page, at once again"]


def test_a_process_that_gives_up_leaves_its_place(tmp_path):
    lock = FairLock(tmp_path / "turnstile")
    with lock.pass_through(Patience(60, None)):
        impatient = FairLock(tmp_path / "turnstile").pass_through(Patience(0.05, None))
        with pytest.raises(UserError, match=f"PID {os.getpid()}"), impatient:
            pass
        assert not is_locked(tmp_path / "turnstile.next")
    with lock.pass_through(Patience(0.05, None)):
        assert is_locked(tmp_path / "turnstile")
        assert not is_locked(tmp_path / "turnstile.next")


def test_a_reader_that_allows_old_data_drains_once_for_many_queries(workspace, monkeypatch):
    drains = []
    whole = drain.drain
    monkeypatch.setattr(drain, "drain", lambda *a: drains.append(a) or whole(*a))
    with Store(workspace) as writer, Store(workspace, fresh_within_s=LONG_S) as onlooker:
        for number in range(10):
            writer.append("training_steps", [step(number)])
            assert onlooker.query(COUNT) == [{"n": 1}]
        assert len(drains) == 1
        assert writer.query(COUNT) == [{"n": 10}]
        assert onlooker.query(COUNT) == [{"n": 10}]
        assert len(drains) == 2


def test_a_reader_that_allows_old_data_sees_its_own_appends(workspace):
    with Store(workspace) as other, Store(workspace, fresh_within_s=LONG_S) as onlooker:
        assert onlooker.query(COUNT) == [{"n": 0}]
        for number in range(1, 4):
            other.append("training_steps", [step(number)])
            onlooker.append("training_steps", [step(-number)])
            assert onlooker.query(COUNT) == [{"n": 2 * number}]


def test_rows_older_than_the_bound_are_seen(workspace, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("harness.store.store.time.monotonic", lambda: clock[0])
    with Store(workspace) as writer, Store(workspace, fresh_within_s=2.0) as onlooker:
        writer.append("training_steps", [step(1)])
        assert onlooker.query(COUNT) == [{"n": 1}]
        writer.append("training_steps", [step(2)])
        clock[0] += 1.9
        assert onlooker.query(COUNT) == [{"n": 1}]
        clock[0] += 0.2
        assert onlooker.query(COUNT) == [{"n": 2}]


def test_a_query_is_held_to_its_bounds_and_spills_into_the_workspace(workspace):
    with Store(workspace, threads=1, memory_mb=64) as store:
        [bounds] = store.query(
            "SELECT current_setting('threads') AS threads, "
            "current_setting('memory_limit') AS memory, current_setting('temp_directory') AS spill"
        )
        assert bounds["threads"] == 1
        assert bounds["memory"] == "61.0 MiB"
        assert bounds["spill"] == str(workspace.cache / "spill")
        rows = "SELECT hash(i) AS n FROM range(3000000) t(i)"
        [sorted_on_disk] = store.query(
            f"SELECT max(n) AS n, count(*) AS rows FROM ({rows} ORDER BY n, i OFFSET 1)"
        )
        assert sorted_on_disk["rows"] == 2_999_999
        assert store.query(f"SELECT max(n) AS n FROM ({rows})") == [{"n": sorted_on_disk["n"]}]
    assert not list(workspace.cache.glob("spill/*"))
