"""Stories of a line through the real store: promotion, roll back, production, people's answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.comparison.attention_log import say
from harness.comparison.line_reading import loose_trainings, state_of, states
from harness.comparison.line_state import LineState
from harness.comparison.line_words import exit_code, needs, of_training, serving, ship
from harness.core.errors import UserError
from tests.harness.line_stories import LINE, Story


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    told = Story(tmp_path)
    yield told
    told.store.close()


def _said(state: LineState) -> list[str]:
    return [need.sentence for need in needs(state)]


def test_after_the_quickstart_the_candidate_is_what_is_promoted(story: Story) -> None:
    """The verdict of a first promotion names no training, and an anchor that never was promoted."""
    story.train("t1", "started")
    story.add("base", "t1", 0)
    story.judge("step 40", "pass", "base", training="t1", step=40)
    story.judge("step 48", "inconclusive", "base", training="t1", step=48)
    verdict = story.judge("step 40", "inconclusive", "base", improvement="better on json_match")
    story.promote("step 40", verdict)
    story.store.append(
        "training_events",
        [{"training_id": "t1", "event": name, "step": 48} for name in ("finished", "promoted")],
    )
    state = story.state()
    assert state.candidate is not None
    assert (state.candidate.holds, state.candidate.verdict_id) == ("promoted", verdict)
    first, second = map(str, ship(state))
    assert "is promoted since" in first
    assert "proven better" in first
    assert second == "The candidate judged last is what is promoted."
    assert _said(state) == []
    assert exit_code(state) == 0


def test_a_candidate_of_before_is_not_undecided_now(story: Story) -> None:
    story.add("base")
    first = story.judge("one", "pass", "base")
    story.judge("two", "inconclusive", "base", against=f"line:{LINE}")
    story.promote("one", first)
    state = story.state()
    assert state.candidate is not None
    assert state.candidate.holds == "judged before"
    assert state.judged == 0
    assert exit_code(state) == 0


@pytest.mark.parametrize(
    ("outcome", "holds", "code"),
    [
        ("fail", "failed", 0),
        ("inconclusive", "undecided", 2),
        ("incomparable", "incomparable", 2),
        ("pass", "nobody has promoted it", 2),
    ],
)
def test_what_holds_a_new_candidate(story: Story, outcome: str, holds: str, code: int) -> None:
    story.add("base")
    story.promote("one", story.judge("one", "pass", "base"))
    story.judge("two", outcome, "one")
    state = story.state()
    assert state.candidate is not None
    assert (state.candidate.holds, state.judged) == (holds, 1)
    assert exit_code(state) == code
    assert len(needs(state)) == 1


def test_proven_better_waits_for_a_promotion_as_a_pass_does(story: Story) -> None:
    story.promote("one")
    story.judge("two", "inconclusive", "one", improvement="better on rouge_l")
    assert story.state().candidate.holds == "nobody has promoted it"  # type: ignore[union-attr]


def test_a_pass_against_something_else_is_no_pass(story: Story) -> None:
    story.train("t1", "started")
    story.add("base")
    story.promote("one")
    story.judge("two", "pass", "base", training="t1", step=8)
    assert story.state().candidate.holds == "another anchor"  # type: ignore[union-attr]


def test_a_failure_against_the_best_checkpoint_decides(story: Story) -> None:
    story.train("t1", "started", "finished")
    story.promote("one")
    story.judge("best", "pass", "one", training="t1", step=8)
    story.judge("worse", "pass", "one", training="t1", step=16)
    failed = story.judge("worse", "fail", "best", against="crest", training="t1", step=16)
    candidate = story.state().candidate
    assert candidate is not None
    assert (candidate.outcome, candidate.verdict_id, candidate.holds) == ("fail", failed, "failed")


def test_a_checkpoint_of_a_running_training_asks_nothing_of_anybody(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.train("t1", "started", "checkpoint", "held")
    story.judge("two", "inconclusive", "one", training="t1", step=8)
    state = story.state()
    assert [training.state for training in state.trainings] == ["running"]
    assert _said(state) == []


def test_trainings_that_stopped(story: Story) -> None:
    story.train("t1", "started", "stopped")
    story.train("t2", "started", "finished")
    story.train("loose", "started", "interrupted", line=None)
    (said,) = _said(story.state())
    assert said == "Training t1 has stopped (stopped) and waits for you."
    (stand,) = loose_trainings(story.store)
    assert (stand.training_id, stand.state) == ("loose", "interrupted")
    later = datetime.now(UTC) + timedelta(hours=1)
    story.train("t3", "started", "checkpoint", "held")
    silent = states(story.store, LINE, now=later)[0].trainings[0]
    assert (silent.training_id, silent.state) == ("t3", "silent")
    assert "Nothing was heard of" in of_training(silent, later)[0].sentence
    assert of_training(silent, later + timedelta(days=8)) == []


def test_a_verdict_belongs_to_one_line_even_where_lines_share_a_base(story: Story) -> None:
    story.promote("base", line="other")
    story.train("t1", "started", "finished")
    story.promote("mine", story.judge("mine", "pass", "base", training="t1", step=8))
    assert story.state("other").candidate is None
    assert story.state().candidate is not None


def test_rolled_back_by_hand(story: Story) -> None:
    story.promote("one")
    story.promote("two", story.judge("two", "pass", "one"))
    story.roll_back()
    state = story.state()
    assert state.promoted is not None
    assert (state.promoted.event, state.promoted.version) == ("rolled_back", 3)
    assert state.promoted.digest == story.digests["one"]
    assert state.candidate is not None
    assert state.candidate.holds == "taken back"
    assert "serves again" in str(ship(state)[0])
    assert _said(state) == []


def test_promoted_again_after_a_roll_back(story: Story) -> None:
    story.promote("one")
    verdict = story.judge("two", "pass", "one")
    story.promote("two", verdict)
    story.roll_back()
    story.promote("two", verdict)
    state = story.state()
    assert state.promoted is not None
    assert (state.promoted.version, state.promoted.digest) == (4, story.digests["two"])
    assert state.candidate is not None
    assert state.candidate.holds == "promoted"


def test_production_fails_and_is_taken_back(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.promote("two", story.judge("two", "pass", "one"))
    story.act(story.look("fail"))
    state = story.state()
    assert state.promoted is not None
    assert state.promoted.digest == story.digests["one"]
    (alarm,) = state.alarms
    assert not alarm.present
    assert alarm.incident.taken_back is not None
    assert state.serving.outcome is None
    assert str(serving(state)) == "Nobody has looked at this version yet."
    (said,) = _said(state)
    assert said.endswith("failed in production (thumbs_up) and was taken back.")
    assert exit_code(state) == 0
    say(story.store, alarm.about, "acknowledged", line=LINE, actor="ana")
    assert _said(story.state()) == []


def test_production_fails_and_there_is_nothing_to_go_back_to(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.act(story.look("fail"))
    state = story.state()
    (alarm,) = state.alarms
    assert alarm.present
    assert alarm.incident.held is not None
    assert alarm.incident.held.did == "impossible"
    assert "has no version before it" in str(serving(state))
    assert str(serving(state)).startswith("FAIL: thumbs_up since")
    assert "700 conversations" in str(serving(state))
    (need,) = needs(state)
    assert need.level == "act"
    assert "nothing could be done" in need.sentence
    assert exit_code(state) == 1
    say(story.store, alarm.about, "acknowledged", line=LINE, actor="ana")
    assert _said(story.state()) == []
    assert exit_code(story.state()) == 1, "seen is not mended"


def test_a_dry_run_is_not_a_held_act(story: Story) -> None:
    story.promote("one")
    story.promote("two")
    story.act(story.look("fail"), act=False)
    (alarm,) = story.state().alarms
    assert [deed.did for deed in alarm.incident.deeds] == ["proposed"]
    assert any("nothing was done about it" in said for said in _said(story.state()))


def test_an_incident_keeps_its_first_numbers_and_ends(story: Story) -> None:
    story.promote("one")
    first = story.look("fail")
    story.look("fail")
    last = story.look("fail")
    (alarm,) = story.state().alarms
    found = alarm.incident
    assert (found.id, found.last_id, found.looks) == (first.watch_id, last.watch_id, 3)
    story.look("inconclusive")
    state = story.state()
    assert not state.alarms[0].present
    assert state.serving.outcome == "inconclusive"
    assert exit_code(state) == 0
    assert any(said.endswith("that is over.") for said in _said(state))
    again = story.look("fail")
    assert [a.incident.id for a in story.state().alarms] == [again.watch_id, first.watch_id]
    assert exit_code(story.state()) == 1


def test_one_policy_does_not_speak_for_another(story: Story) -> None:
    story.promote("one")
    story.look("fail", policy="strict")
    story.look("pass", policy="loose")
    assert story.state().serving.outcome == "fail"


def test_a_version_that_is_promoted_again_begins_anew(story: Story) -> None:
    story.promote("one")
    story.promote("two")
    story.act(story.look("fail"))
    story.promote("two")
    state = story.state()
    assert state.serving.outcome is None
    assert not state.alarms[0].present
    assert exit_code(state) == 0


def test_a_false_alarm_needs_a_reason_and_is_none(story: Story) -> None:
    from harness.comparison.attention_log import false_alarms

    story.promote("one")
    story.act(story.look("fail"))
    (alarm,) = story.state().alarms
    with pytest.raises(UserError, match="say why"):
        say(story.store, alarm.about, "false_alarm", line=LINE)
    say(story.store, alarm.about, "false_alarm", line=LINE, reason="a load test", actor="bo")
    state = story.state()
    assert (state.serving.outcome, state.serving.false_alarm) == ("inconclusive", True)
    assert exit_code(state) == 0
    assert str(serving(state)) == "An alarm was called false: a load test"
    assert false_alarms(story.store, LINE) == 1
    say(story.store, alarm.about, "reopened", line=LINE)
    assert exit_code(story.state()) == 1
    assert false_alarms(story.store, LINE) == 0


def test_snoozed_until(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.judge("two", "inconclusive", "one")
    (need,) = needs(story.state())
    until = datetime.now(UTC) + timedelta(hours=2)
    say(story.store, need.about, "snoozed", line=LINE, until=until)
    assert needs(story.state()) == []
    later = states(story.store, LINE, now=until + timedelta(minutes=1))[0]
    assert [n.about for n in needs(later)] == [need.about]
    with pytest.raises(UserError, match="ahead"):
        say(story.store, need.about, "snoozed", until=datetime(2020, 1, 1, tzinfo=UTC))


def test_an_owner_is_shown_and_quiets_nothing(story: Story) -> None:
    story.promote("one")
    story.act(story.look("fail"))
    (alarm,) = story.state().alarms
    say(story.store, alarm.about, "owner", line=LINE, owner="chen")
    found = next(n for n in needs(story.state()) if n.about == alarm.about)
    assert found.answer.owner == "chen"


def test_advisory_failures_are_told(story: Story) -> None:
    story.promote("one", story.judge("one", "pass"))
    story.look("pass", advisory="refusals")
    state = story.state()
    assert [signal.signal for signal in state.serving.advisory] == ["refusals"]
    assert _said(state) == [f"{LINE}: got worse in production, advisory: refusals."]
    assert exit_code(state) == 0


def test_a_breaker_that_rests_is_over(story: Story) -> None:
    story.promote("one")
    story.look("fail", kind="breaker")
    assert exit_code(story.state()) == 1
    story.look("pass")
    assert exit_code(story.state()) == 0


def test_a_line_that_is_only_watched(story: Story) -> None:
    seen = {"observation_id": "o1", "line": "elsewhere", "prompt": "a", "response": "b"}
    story.store.append("observations", [seen])
    state = story.state("elsewhere")
    assert state.promoted is None
    assert state.serving.watched
    assert str(ship(state)[0]) == "Nothing is promoted yet."


def test_the_disk_decides_where_the_store_was_not_told(story: Story) -> None:
    story.promote("one")
    pointer = story.store.workspace.lines / LINE / "blessed.json"
    assert json.loads(pointer.read_text())["version"] == 1
    story.store.append(  # of another workspace's history
        "checkpoints",
        [{"digest": "d" * 64, "event": "promoted", "line": LINE, "detail": {"version": 2}}],
    )
    assert story.state().promoted.digest == story.digests["one"]  # type: ignore[union-attr]
    pointer.resolve().write_text("{")
    state = story.state()
    assert state.problem is not None
    assert any("can't be read" in said for said in _said(state))
    assert exit_code(state) == 2


def test_an_unknown_line_is_an_error_that_names_those_there_are(story: Story) -> None:
    story.promote("one")
    with pytest.raises(UserError, match="there is no line") as caught:
        state_of(story.store, "suport-bot")
    assert LINE in (caught.value.hint or "")
