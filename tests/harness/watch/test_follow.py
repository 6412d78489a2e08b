"""Files that grow, rotate, break off and begin again: every line once, none lost."""

import json
import os
import subprocess
import sys
import threading
import time

import pyarrow
import pyarrow.parquet as parquet
import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.store import Store
from harness.watch.intake import files as follow
from harness.watch.intake.files import Follower, read_stream
from harness.watch.intake.intake import Intake


def line(name, **more):
    return json.dumps({"observation_id": name, "line": "bot", "response": "fine", **more}) + "\n"


def lines(first, last):
    return "".join(line(f"o{number}") for number in range(first, last))


@pytest.fixture
def store(tmp_path):
    with Store(Workspace.at(tmp_path / "home").ensure()) as store:
        yield store


@pytest.fixture
def take_in(store):
    """Ingest a path once, as a process of its own would; returns its counts and refusals."""

    def run(path):
        intake, told = Intake(store), []
        Follower(path, intake, lambda file, number, why: told.append((number, why.what))).run(
            follow=False
        )
        return intake.counts, told

    return run


def ids(store):
    return {row["observation_id"] for row in store.query("SELECT observation_id FROM observations")}


def test_it_goes_on_where_it_was(tmp_path, store, take_in):
    log = tmp_path / "log.jsonl"
    log.write_text(lines(0, 2500))
    assert take_in(log)[0].accepted == 2500
    assert take_in(log)[0].accepted == 0
    with log.open("a") as file:
        file.write(lines(2500, 2503))
    counts, _ = take_in(log)
    assert (counts.accepted, counts.duplicates) == (3, 0)
    assert len(ids(store)) == 2503


def test_bad_lines_are_told_with_their_number_and_stop_nothing(tmp_path, take_in, monkeypatch):
    monkeypatch.setattr(follow, "LINE_LIMIT", 1000)
    log = tmp_path / "log.jsonl"
    long = line("long", comment="x" * 3_000_000)
    log.write_text(line("a") + "\n" + "{broken\n" + long + line("b") + "[]\n" + line("c"))
    counts, told = take_in(log)
    assert counts.accepted == 3
    assert [number for number, _ in told] == [3, 4, 6]
    with log.open("a") as file:
        file.write("again\n")
    assert [number for number, _ in take_in(log)[1]] == [8]


def test_half_a_line_waits_for_its_other_half(tmp_path, store, take_in):
    log = tmp_path / "log.jsonl"
    whole = line("b")
    log.write_text(line("a") + whole[:20])
    assert take_in(log)[0].accepted == 1
    with log.open("a") as file:
        file.write(whole[20:] + line("c").rstrip("\n"))
    counts, told = take_in(log)
    assert (counts.accepted, told) == (2, [])
    with log.open("a") as file:
        file.write("\n" + line("d"))
    assert take_in(log)[0].accepted == 1
    assert ids(store) == {"a", "b", "c", "d"}


def test_a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_beginning(
    tmp_path, store, take_in
):
    log = tmp_path / "log.jsonl"
    log.write_text(lines(0, 3))
    take_in(log)
    with log.open("a") as file:
        file.write(lines(3, 5))
    log.rename(tmp_path / "log.jsonl.1")
    log.write_text(lines(5, 8))
    counts, _ = take_in(log)
    assert (counts.accepted, counts.duplicates) == (5, 0)
    log.write_text(lines(8, 9))  # copied and truncated
    assert take_in(log)[0].accepted == 1
    assert len(ids(store)) == 9


def test_a_folder_with_logs_and_parquet(tmp_path, store, take_in):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_text(lines(0, 3))
    (folder / "notes.txt").write_text("not ours")
    table = pyarrow.Table.from_pylist(
        [{"observation_id": f"p{n}", "line": "bot", "latency_s": 0.5 if n else float("nan"),
          "response": "fine", "extra": {"k": n}} for n in range(1500)]
    )  # fmt: skip
    parquet.write_table(table, folder / "b.parquet")
    (folder / "c.parquet").write_bytes(b"PAR1 broken")
    counts, told = take_in(folder)
    assert counts.accepted == 1503
    assert len(told) == 1
    assert take_in(folder)[0].accepted == 0
    (row,) = store.query("SELECT latency_s, detail FROM observations WHERE observation_id = 'p0'")
    assert row == {"latency_s": None, "detail": {"extra": {"k": 0}}}


def test_positions_that_are_lost_cost_a_second_reading_and_nothing_else(tmp_path, store, take_in):
    log = tmp_path / "log.jsonl"
    log.write_text(lines(0, 5))
    take_in(log)
    for note in (store.workspace.home / "watch").glob("*.json"):
        note.write_text("{damaged")
    take_in(log)
    assert store.query("SELECT count(*) AS n FROM observations") == [{"n": 5}]


def test_followed_live_through_a_rotation(tmp_path, store, monkeypatch):
    monkeypatch.setattr(follow, "POLL_S", 0.01)
    log = tmp_path / "log.jsonl"
    log.write_text(lines(0, 2))
    intake, end = Intake(store), threading.Event()
    follower = Follower(log, intake, lambda *_: None)
    thread = threading.Thread(target=follower.run, kwargs={"follow": True, "stop": end.is_set})
    thread.start()
    try:
        wait_for(lambda: intake.counts.accepted == 2)
        with pytest.raises(UserError, match="another process"):
            Follower(log, Intake(store), lambda *_: None).run(follow=False)
        with log.open("a") as file:
            file.write(lines(2, 4))
        log.rename(tmp_path / "log.jsonl.1")
        log.write_text(lines(4, 6))
        wait_for(lambda: intake.counts.accepted == 6)
    finally:
        end.set()
        thread.join()
    assert len(ids(store)) == 6


def test_a_stream_is_durable_while_it_is_open(store):
    read_end, write_end = os.pipe()
    intake, told = Intake(store), []
    with os.fdopen(read_end, "rb") as source, os.fdopen(write_end, "wb", buffering=0) as sink:
        thread = threading.Thread(
            target=read_stream,
            args=(source, intake, lambda file, number, why: told.append((file, number))),
        )
        thread.start()
        sink.write((line("a") + line("b")[:10]).encode())
        wait_for(lambda: intake.counts.accepted == 1)
        sink.write((line("b")[10:] + "broken\n" + line("c").rstrip()).encode())
        sink.close()
        thread.join()
    assert ids(store) == {"a", "b", "c"}
    assert told == [(None, 3)]


def test_the_verb_says_what_it_took_and_ends_with_three_where_it_took_nothing(tmp_path):
    log = tmp_path / "log.jsonl"

    def ratchet():
        return subprocess.run(
            [sys.executable, "-m", "harness", "watch", "ingest", str(log)],
            capture_output=True, text=True, check=False,
            env={**os.environ, "RATCHET_HOME": str(tmp_path / "home")},
        )  # fmt: skip

    missing = ratchet()
    assert missing.returncode == 3
    assert "no such file" in missing.stderr
    log.write_text("broken\n")
    assert ratchet().returncode == 3
    log.write_text(line("a") + "broken\n" + line("b", prompt="a@b.com"))
    done = ratchet()
    assert done.returncode == 0
    assert "2 observations taken in" in done.stdout
    assert "1 refused; 1 personal data masked" in done.stdout
    assert "log.jsonl:2" in done.stderr


def wait_for(true, seconds=20):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)
