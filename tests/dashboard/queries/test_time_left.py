"""How long a training still takes: by its own segments, with the scoring in them."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dashboard.queries.time_left import Left, Spent, spent, time_left
from harness.core.types import Row

START = datetime(2026, 1, 1, tzinfo=UTC)


def _run(
    segments: int, *, every: int = 10, step_s: float = 2.0, scoring_s: float = 40.0
) -> tuple[list[Row], list[Row], datetime]:
    """A training that has just written the checkpoint after `segments` segments."""
    steps: list[Row] = []
    events, now = [_event("started", 0, START)], START
    events.append(_event("checkpoint", 0, now))
    for step in range(1, segments * every + 1):
        now += timedelta(seconds=step_s + (scoring_s if step % every == 1 else 0.0))
        steps.append({"step": step, "attempt": 1, "happened_at": now})
        if step % every == 0:
            events.append(_event("checkpoint", step, now))
    return steps, events, now


def _left(planned: int, steps: list[Row], events: list[Row], now: datetime) -> Left:
    left = time_left(planned, steps, events, now)
    assert left is not None
    return left


def _event(name: str, step: int | None, at: datetime, attempt: int = 1, **detail: int) -> Row:
    row: Row = {"event": name, "step": step, "attempt": attempt, "detail": detail}
    return {**row, "happened_at": at}


@given(
    st.integers(1, 6),
    st.integers(0, 6),
    st.floats(0.1, 30.0),
    st.floats(0.0, 300.0),
)
def test_what_is_left_is_what_it_will_take(
    done: int, more: int, step_s: float, scoring_s: float
) -> None:
    steps, events, now = _run(done, step_s=step_s, scoring_s=scoring_s)
    left = _left((done + more) * 10, steps, events, now)
    # Its segments to come, and the scoring of the checkpoint at the end of each.
    truth = more * (10 * step_s + scoring_s) + scoring_s
    assert abs(left.seconds - truth) < 1e-3 * truth + 0.01
    assert left.segments == min(done, 5)


def test_time_that_passes_is_taken_off_and_never_below_zero() -> None:
    steps, events, now = _run(2)
    before = _left(40, steps, events, now).seconds
    assert _left(40, steps, events, now + timedelta(seconds=30)).seconds == before - 30
    assert _left(40, steps, events, now + timedelta(days=2)).seconds == 0


def test_before_the_first_segment_it_says_that_scoring_is_left_out() -> None:
    steps, events, now = _run(1)
    left = _left(40, steps[:5], events[:2], now)
    assert (left.segments, left.segment_s) == (0, None)
    assert left.seconds == 35 * 2.0
    assert time_left(40, [], [], now) is None


def test_a_night_in_between_and_a_roll_back_are_no_segments() -> None:
    steps, events, now = _run(2)
    back = now + timedelta(minutes=1)
    morning = back + timedelta(hours=9)
    events += [
        _event("rolled_back", 20, back, to=10),
        _event("interrupted", None, back, attempt=2),
        _event("resumed", None, morning, attempt=2),
    ]
    left = _left(40, steps, events, morning)
    assert left.segment_s == 60.0
    assert left.seconds == 3 * 60 + 40


def test_what_it_took_leaves_out_stops_and_tells_training_from_the_rest() -> None:
    steps, events, now = _run(3, every=10, step_s=2.0, scoring_s=40.0)
    took = spent(steps, events)
    assert took is not None
    assert took.seconds == (now - START).total_seconds()
    # Between checkpoints 9 of 10 steps follow a step; each tenth is behind the scoring.
    assert took.training_s == 3 * 9 * 2.0
    stopped = now + timedelta(hours=5)
    again = [*events, _event("interrupted", 30, now), _event("resumed", 30, stopped)]
    more = [{"step": 31, "attempt": 1, "happened_at": stopped + timedelta(seconds=2)}]
    assert spent([*steps, *more], again) == Spent(took.seconds + 2.0, took.training_s)
    assert spent([], events[:1]) is None
