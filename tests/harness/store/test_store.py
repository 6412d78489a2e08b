"""The store through its public methods: what is appended is there once, unchanged."""

import json
import math
import multiprocessing
import os
import threading
from datetime import UTC, datetime, timedelta, timezone

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store import journal
from harness.store.schema import SEQ
from harness.store.store import Store
from harness.store.tables import BY_NAME, TABLES
from harness.store.views import VIEWS


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / ".ratchet")


@pytest.fixture
def store(workspace):
    with Store(workspace) as opened:
        yield opened


def step(number, training="t"):
    return {"training_id": training, "step": number, "loss": 0.5}


def score(sample="s", value=1.0, run="r", **more):
    return {
        "run_id": run,
        "task": "intents",
        "metric": "json_match",
        "sample_id": sample,
        "draw": 0,
        "outcome": "scored",
        "value": value,
        **more,
    }


def test_a_row_comes_back_as_it_went_in(store):
    began = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8)))
    protocol = {"tasks": {"回答": [1, 2.5, None, True]}, "quote": '"\\\n'}
    row = {"run_id": "r1", "seed": 2**62, "protocol": protocol, "started_at": began}
    store.append("runs", [row])
    [found] = store.query("SELECT * FROM runs")
    assert {name: found[name] for name in row} == row
    assert found["started_at"].tzinfo is UTC
    assert found["model"] is None


def test_responses_keep_lists_unusual_text_and_minus_infinity(store):
    text = "zero\0byte, 中文, \u2028 and \N{PILE OF POO}"
    store.append(
        "responses",
        [{"key": "k", "text": text, "token_ids": [1, 2], "logprobs": [-math.inf, -0.1]}],
    )
    [found] = store.query("SELECT text, token_ids, logprobs FROM responses")
    assert found == {"text": text, "token_ids": [1, 2], "logprobs": [-math.inf, -0.1]}


values = st.fixed_dictionaries(
    {
        "value": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "stats": st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3),
        "reason": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        "response_index": st.none() | st.integers(-(2**31), 2**31 - 1),
        "slice": st.none()
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text("ab\"'\\"),
                lambda inner: st.lists(inner, max_size=2),
                max_leaves=4,
            ),
            max_size=3,
        ),
    }
)


@given(rows=st.lists(values, min_size=1, max_size=4))
@settings(max_examples=12, deadline=None)
def test_any_values_come_back_as_they_went_in(rows, tmp_path_factory):
    workspace = Workspace.at(tmp_path_factory.mktemp("any"))
    with Store(workspace) as store:
        store.append("scores", [score(str(n), **row) for n, row in enumerate(rows)])
        found = store.query(
            "SELECT value, stats, reason, response_index, slice FROM scores ORDER BY seq"
        )
    assert found == rows


@pytest.mark.parametrize(
    ("table", "row", "field"),
    [
        ("scores", score(value=math.nan), "scores.value"),
        ("scores", score(value=math.inf), "scores.value"),
        ("scores", score(value="1"), "scores.value"),
        ("scores", score(value=True), "scores.value"),
        ("scores", score(stats=[1.0, math.nan]), "scores.stats"),
        ("scores", score(stats="ab"), "scores.stats"),
        ("scores", score(draw=2**31), "scores.draw"),
        ("scores", score(draw=0.5), "scores.draw"),
        ("scores", score(task=None), "scores.task"),
        ("scores", score(reason="\ud800"), "scores.reason"),
        ("scores", score(slice='{"a": 1}'), "scores.slice"),
        ("scores", score(slice={"a": math.nan}), "scores.slice"),
        ("scores", score(slice={"a": object()}), "scores.slice"),
        ("scores", score(scored_at=datetime(2026, 1, 1)), "scores.scored_at"),
        ("scores", score(colour="red"), "scores.colour"),
        ("responses", {"key": "k", "logprobs": [math.nan]}, "responses.logprobs"),
    ],
)
def test_what_the_database_could_refuse_is_refused_at_once(store, table, row, field):
    with pytest.raises(UserError) as refusal:
        store.append(table, [score(), row] if table == "scores" else [row])
    assert refusal.value.field == field
    assert store.query(f"SELECT count(*) AS n FROM {table}") == [{"n": 0}]


def test_unknown_tables_and_bad_sql_are_user_errors(store):
    with pytest.raises(UserError, match="no table 'skores'"):
        store.append("skores", [{}])
    with pytest.raises(UserError, match="no_such_column"):
        store.query("SELECT no_such_column FROM runs")
    with pytest.raises(UserError, match="refused"):
        store.query("SELEC 1")
    with pytest.raises(UserError, match="empty"):
        store.query(" ")
    assert store.query("SELECT 1 AS one") == [{"one": 1}]
    assert store.query("SET VARIABLE a = 1") == []


def test_queries_cannot_write(store):
    with pytest.raises(UserError):
        store.query("DELETE FROM runs")
    with pytest.raises(UserError):
        store.query("CREATE TABLE ratchet.t (a INTEGER)")


def test_moments_as_parameters_are_compared_in_utc(store):
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    store.append("runs", [{"run_id": "r", "started_at": noon}])
    eight_hours_east = noon.astimezone(timezone(timedelta(hours=8)))
    sql = "SELECT run_id FROM runs WHERE started_at = ?"
    assert store.query(sql, [eight_hours_east]) == [{"run_id": "r"}]


def test_the_cache_keeps_the_first_answer_and_forgets_failures(store):
    store.append("responses", [{"key": "a", "text": "first"}, {"key": "a", "text": "second"}])
    store.append("responses", [{"key": "b", "text": "", "error": "timeout"}])
    store.append("responses", [{"key": "a", "text": "third"}])
    store.drain()
    store.append("responses", [{"key": "b", "text": "", "error": "again"}])
    store.append("responses", [{"key": "b", "text": "at last"}])
    store.append("responses", [{"key": "a", "text": "", "error": "timeout"}])
    found = store.query("SELECT key, text, error FROM responses ORDER BY key")
    assert found == [
        {"key": "a", "text": "first", "error": None},
        {"key": "b", "text": "at last", "error": None},
    ]


def test_the_later_rescore_wins_with_any_clock(store):
    later, earlier = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    store.append("scores", [score("1", 0.0, scored_at=later), score("2", 0.0, scored_at=later)])
    store.append("scores", [score("1", 1.0, scored_at=earlier)])
    found = store.query("SELECT sample_id, value FROM current_scores ORDER BY sample_id")
    assert found == [{"sample_id": "1", "value": 1.0}, {"sample_id": "2", "value": 0.0}]
    [summary] = store.query("SELECT n_scored, n_total, mean FROM run_summary")
    assert summary == {"n_scored": 2, "n_total": 2, "mean": 0.5}


def test_errors_and_unscored_are_counted_and_never_averaged(store):
    store.append(
        "scores",
        [
            score("1", 1.0),
            score("2", None, outcome="error", reason="timeout"),
            score("3", None, outcome="unscored", reason="no reference"),
        ],
    )
    [found] = store.query("SELECT n_scored, n_error, n_total, mean FROM run_summary")
    assert found == {"n_scored": 1, "n_error": 1, "n_total": 3, "mean": 1.0}


def test_bulk_rows_and_journal_rows_are_in_one_order(store):
    store.append("training_steps", [step(1)])
    bulk = pa.table({"training_id": ["t"] * 2, "step": [2, 3]})
    store.append_together({"training_steps": bulk})
    store.append("training_steps", [step(4)])
    found = store.query_arrow("SELECT step, seq FROM training_steps ORDER BY seq")
    assert found.column("step").to_pylist() == [1, 2, 3, 4]
    assert found.column("seq").to_pylist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"training_id": ["t"], "step": [1], "loss": [math.nan]}, "training_steps.loss"),
        ({"training_id": ["t"], "step": ["one"]}, "training_steps.step"),
        ({"training_id": ["t"]}, "training_steps.step"),
        ({"training_id": ["t"], "step": [1], "colour": [1]}, "training_steps.colour"),
    ],
)
def test_bad_bulk_rows_are_refused(store, columns, field):
    with pytest.raises(UserError) as refusal:
        store.append_together({"training_steps": pa.table(columns)})
    assert refusal.value.field == field
    assert store.query("SELECT count(*) AS n FROM training_steps") == [{"n": 0}]


def test_several_tables_are_appended_together_or_not_at_all(store):
    runs = pa.table({"run_id": ["r"]})
    unless = ("SELECT 1 FROM runs WHERE run_id = ?", ["r"])
    assert store.append_together({"runs": runs}, unless=unless)
    assert not store.append_together({"runs": runs}, unless=unless)
    with pytest.raises(UserError):
        store.append_together({"runs": runs, "run_events": pa.table({"run_id": ["r"]})})
    assert store.query("SELECT count(*) AS n FROM runs") == [{"n": 1}]


def test_two_stores_see_each_other_at_once(workspace):
    with Store(workspace) as one, Store(workspace) as other:
        for number in range(3):
            one.append("training_steps", [step(number)])
            other.append("training_steps", [step(number, "u")])
            expected = [{"n": 2 * (number + 1)}]
            assert one.query("SELECT count(*) AS n FROM training_steps") == expected
            assert other.query("SELECT count(*) AS n FROM training_steps") == expected


def test_threads_share_one_store(store):
    def work(name):
        for number in range(20):
            store.append("training_steps", [step(number, name)])
            if number % 5 == 0:
                store.query("SELECT count(*) FROM training_steps")

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [found] = store.query(
        "SELECT count(*) AS n, count(DISTINCT (training_id, step)) AS different FROM training_steps"
    )
    assert found == {"n": 80, "different": 80}


def append_and_query(store):
    store.append("training_steps", [step(1, "child")])
    assert store.query("SELECT count(*) AS n FROM training_steps") == [{"n": 2}]


def test_a_forked_child_writes_a_journal_of_its_own(store, workspace):
    store.append("training_steps", [step(1, "parent")])
    store.drain()
    child = multiprocessing.get_context("fork").Process(target=append_and_query, args=(store,))
    child.start()
    child.join()
    assert child.exitcode == 0
    store.append("training_steps", [step(2, "parent")])
    found = store.query("SELECT training_id, step FROM training_steps ORDER BY ALL")
    assert [(row["training_id"], row["step"]) for row in found] == [
        ("child", 1),
        ("parent", 1),
        ("parent", 2),
    ]


def test_a_closed_store_leaves_a_plain_file_and_no_journals(workspace):
    with Store(workspace) as store:
        store.append("scores", [score()])
    assert journal.journals(workspace.journal) == []
    with duckdb.connect(str(workspace.database), read_only=True) as plain:
        assert plain.execute("SELECT mean FROM run_summary").fetchall() == [(1.0,)]
        for name in VIEWS:
            plain.execute(f"SELECT * FROM {name}").fetchall()


def test_a_long_journal_is_followed_by_a_new_one(store, workspace, monkeypatch):
    monkeypatch.setattr(journal, "ROTATE_BYTES", 2000)
    for number in range(60):
        store.append("training_steps", [step(number)])
    assert len(journal.journals(workspace.journal)) > 2
    assert store.query("SELECT count(*) AS n FROM training_steps") == [{"n": 60}]
    assert len(journal.journals(workspace.journal)) == 1


def test_a_drain_takes_large_journals_in_several_transactions(store, monkeypatch):
    from harness.store import drain

    monkeypatch.setattr(drain, "BATCH_BYTES", 500)
    for number in range(40):
        store.append("training_steps", [step(number)])
    assert store.drain() == 40
    assert store.drain() == 0
    assert store.query("SELECT count(*) AS n FROM training_steps") == [{"n": 40}]


def test_every_table_has_its_columns_and_nothing_else(store):
    for table in TABLES:
        found = store.query(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = ? "
            "AND table_catalog = 'ratchet' ORDER BY ordinal_position",
            [table.name],
        )
        declared = [(column.name, column.type) for column in (*table.columns, SEQ)]
        assert [(row["column_name"], row["data_type"]) for row in found] == declared
    assert set(BY_NAME) >= {"trainings", "runs", "scores", "votes", "observations"}


def test_appending_never_needs_the_database(store, workspace):
    workspace.ensure()
    workspace.database.write_bytes(b"not a database")
    store.append("training_steps", [step(1)])
    with pytest.raises(UserError) as refusal:
        store.query("SELECT 1")
    assert refusal.value.file == str(workspace.database)
    workspace.database.unlink()
    assert store.query("SELECT step FROM training_steps") == [{"step": 1}]


def test_journal_lines_are_readable_by_eye(store, workspace):
    store.append("training_steps", [step(7)])
    [path] = journal.journals(workspace.journal)
    lines = path.read_text().splitlines()
    header, content = (json.loads(line.split(" ", 1)[1]) for line in lines)
    assert header["pid"] == os.getpid()
    assert content["table"] == "training_steps"
    assert content["rows"][0]["step"] == 7
