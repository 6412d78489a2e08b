"""Observations: what is taken, what is refused and why, and what of it is in the store."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.workspace import Workspace
from harness.store.store import Store
from harness.watch.intake.intake import Intake, parse_json, parse_line, parse_lines
from harness.watch.intake.observation import Refused, read

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DIGEST = "ab" * 32
GOOD = {"observation_id": "o", "line": "bot", "response": "fine"}


@pytest.fixture
def store(tmp_path):
    with Store(Workspace.at(tmp_path / "home").ensure()) as store:
        yield store


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"observation_id": None}, "observation_id"),
        ({"observation_id": ""}, "observation_id"),
        ({"observation_id": 7}, "observation_id"),
        ({"observation_id": "x" * 201}, "observation_id"),
        ({"line": None}, "line"),
        ({"line": "../etc"}, "line"),
        ({"model_digest": "abc"}, "model_digest"),
        ({"response": None}, None),
        ({"response": 3}, "response"),
        ({"response": "\ud800"}, "response"),
        ({"response": "x" * 1_000_001}, "response"),
        ({"latency_s": float("nan")}, "latency_s"),
        ({"latency_s": float("inf")}, "latency_s"),
        ({"latency_s": -1}, "latency_s"),
        ({"latency_s": "0.5"}, "latency_s"),
        ({"latency_s": True}, "latency_s"),
        ({"latency_s": 10**400}, "latency_s"),
        ({"input_tokens": 1.5}, "input_tokens"),
        ({"output_tokens": 2**63}, "output_tokens"),
        ({"stars": 6}, "stars"),
        ({"thumb": 0}, "thumb"),
        ({"outcome": "won"}, "outcome"),
        ({"observed_at": "yesterday"}, "observed_at"),
        ({"observed_at": "2026-11-22T12:00:00"}, "observed_at"),
        ({"observed_at": "1970-01-01T00:00:00Z"}, "observed_at"),
        ({"observed_at": "2026-11-24T12:00:00Z"}, "observed_at"),
        ({"observed_at": 1e300}, "observed_at"),
        ({"detail": [1]}, "detail"),
        ({"detail": {"x": float("nan")}}, "detail"),
        ({"extra": "\udfff"}, "detail"),
    ],
)
def test_a_bad_observation_is_refused_with_its_field(change, field):
    with pytest.raises(Refused) as refused:
        read(GOOD | change, now=NOW)
    assert refused.value.field == field
    assert refused.value.what


@pytest.mark.parametrize("sent", [None, 1, "x", [], [GOOD]])
def test_what_is_no_object_is_refused(sent):
    with pytest.raises(Refused):
        read(sent, now=NOW)


def test_a_deep_detail_is_refused_and_not_a_crash():
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(Refused, match="nested"):
        read(GOOD | {"detail": {"x": deep}}, now=NOW)
    with pytest.raises(Refused, match="nested"):
        parse_json("[" * 1_000_000)


def test_what_else_is_sent_is_kept_under_detail():
    seen = read(GOOD | {"user_tier": "gold", "detail": {"a": 1}, "thumb": 1.0}, now=NOW)
    assert seen.detail == {"a": 1, "user_tier": "gold"}
    assert seen.thumb == 1
    assert seen.observed_at == NOW


@pytest.mark.parametrize(
    ("sent", "moment"),
    [
        ("2026-11-22T20:00:00+08:00", NOW),
        (NOW.timestamp(), NOW),
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_moments_are_kept_in_utc(sent, moment):
    seen = read(GOOD | {"observed_at": sent}, now=NOW)
    assert seen.observed_at == moment
    assert seen.detail is None


def test_a_clock_that_is_ahead_is_kept_and_said(store):
    ahead = NOW + timedelta(minutes=10)
    seen = read(GOOD | {"observed_at": ahead.isoformat()}, now=NOW)
    assert seen.detail == {"clock_ahead_s": 600.0}
    intake = Intake(store)
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    intake.keep([intake.take([GOOD | {"observed_at": later}])])
    assert intake.counts.clocks == 1


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["observation_id", "line", "model_digest", "prompt", "response", "latency_s", "input_tokens",
     "stars", "thumb", "outcome", "observed_at", "detail", "about", "comment", "else"]
)  # fmt: skip


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    with Store(Workspace.at(tmp_path_factory.mktemp("busy")).ensure()) as store:
        yield store


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(NAMES, ANYTHING, max_size=6), max_size=4))
def test_whatever_is_sent_the_good_one_among_it_is_kept(busy, sent):
    intake = Intake(busy)
    intake.keep([intake.take([*sent, GOOD])])
    counts = intake.counts
    assert counts.accepted + counts.duplicates + sum(counts.refused.values()) == len(sent) + 1
    assert counts.accepted >= 1


def test_duplicates_are_counted_within_a_batch_over_batches_and_after_a_restart(store):
    intake = Intake(store)
    twice = [GOOD, GOOD | {"response": "again"}]
    assert intake.keep([intake.take(twice), intake.take([GOOD])]) == [1, 1]
    assert intake.keep([intake.take([GOOD])]) == [1]
    assert intake.counts.said()["accepted"] == 1
    again = Intake(store)
    again.keep([again.take([GOOD | {"response": "later"}])])
    assert store.query("SELECT response FROM observations") == [{"response": "fine"}]


def test_one_bad_line_stops_nothing_and_long_numbers_are_no_syntax(store):
    lines = [json.dumps(GOOD), "", "{", '{"observation_id":"n","line":"b","latency_s":NaN}',
             '{"observation_id":"b","line":"b","latency_s":' + "9" * 5000 + "}",
             json.dumps(GOOD | {"observation_id": "o2"}), '"\\ud800"']  # fmt: skip
    intake = Intake(store)
    taken = intake.take(parse_lines("\n".join(lines).encode()))
    assert [seen.observation_id for seen in taken.observations] == ["o", "o2"]
    assert [(bad.index, bad.field) for bad in taken.refused] == [
        (2, None), (3, "latency_s"), (4, "latency_s"), (6, None),
    ]  # fmt: skip
    assert isinstance(parse_line(b"\xff\xfe"), Refused)


def test_nothing_personal_reaches_the_disk(store):
    intake = Intake(store)
    intake.keep([intake.take([GOOD | {"prompt": "I am a@b.com", "comment": "13812345678"}])])
    journals = b"".join(path.read_bytes() for path in store.workspace.journal.glob("*.jsonl"))
    assert b"a@b.com" not in journals
    assert b"13812345678" not in journals
    (row,) = store.query("SELECT prompt, comment, masked, source FROM observations")
    assert row == {"prompt": "I am [EMAIL]", "comment": "[PHONE]", "masked": 2, "source": "plain"}
