"""A signal hour by hour across midnight, and the answers that made it bad."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard.queries.signal_hours import hours, tripped
from harness.core.workspace import Workspace
from harness.store.store import Store

MIDNIGHT = datetime(2030, 1, 2, tzinfo=UTC)
LINE = "bot"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(Workspace.at(tmp_path / ".ratchet").ensure()) as opened:
        yield opened


def _see(store: Store, name: str, at: datetime, **more: Any) -> None:
    row = {
        "observation_id": name, "line": LINE, "model_digest": "d", "prompt": "What time is it?",
        "response": "It is noon.", "observed_at": at, "received_at": at,
    }  # fmt: skip
    store.append("observations", [row | more])


def test_hours_on_both_sides_of_midnight(store: Store) -> None:
    for number in range(8):
        at = MIDNIGHT + timedelta(minutes=30 * (number - 4))
        _see(store, f"o{number}", at, error="timeout" if number in (2, 3) else None)
    found = hours(store, LINE, ("errors", "refusals"), {}, MIDNIGHT + timedelta(hours=3))
    assert [(h.at.hour, h.value, h.n) for h in found["errors"]] == [
        (22, 0.0, 2), (23, 1.0, 2), (0, 0.0, 2), (1, 0.0, 2),
    ]  # fmt: skip
    assert [h.value for h in found["refusals"]] == [0.0, 0.0, 0.0]


def test_feedback_counts_in_the_hour_of_what_it_is_about(store: Store) -> None:
    _see(store, "asked", MIDNIGHT)
    _see(store, "later", MIDNIGHT + timedelta(hours=2), about="asked", thumb=-1, response=None)
    (hour,) = hours(store, LINE, ("satisfaction",), {}, MIDNIGHT + timedelta(hours=3))[
        "satisfaction"
    ]
    assert (hour.at, hour.value, hour.n) == (MIDNIGHT, 0.0, 1)


def test_a_share_within_limits(store: Store) -> None:
    for number in range(4):
        _see(store, f"o{number}", MIDNIGHT, latency_s=float(number))
    found = hours(
        store, LINE, ("latency_p95",), {"latency_p95": (None, 2.0)}, MIDNIGHT + timedelta(hours=1)
    )
    assert found["latency_p95"][0].value == 0.75
    assert "latency_p95" not in hours(
        store, LINE, ("latency_p95",), {}, MIDNIGHT + timedelta(hours=1)
    )


@pytest.mark.parametrize(
    ("signal", "bad"),
    [
        ("errors", {"error": "timeout"}),
        ("completion", {"outcome": "abandoned"}),
        ("satisfaction", {"thumb": -1}),
        ("satisfaction", {"stars": 1.0}),
        ("corrections", {"corrected_text": "no"}),
        ("retries", {"retry_of": "good0"}),
        ("refusals", {"response": "I'm sorry, but I can't help with that."}),
    ],
)
def test_the_answers_that_tripped_it(store: Store, signal: str, bad: dict[str, Any]) -> None:
    for number in range(3):
        _see(store, f"good{number}", MIDNIGHT, thumb=1, outcome="completed")
    for number in range(12):
        _see(store, f"bad{number}", MIDNIGHT, **bad)
    _see(store, "after", MIDNIGHT + timedelta(hours=2), **bad)
    _see(store, "other", MIDNIGHT, **{**bad, "model_digest": "another"})
    found = tripped(store, LINE, "d", signal, MIDNIGHT + timedelta(hours=1))
    names = [row["observation_id"] for row in found]
    assert len(names) == 10
    assert all(name.startswith("bad") for name in names)


def test_a_costly_signal_is_only_read(store: Store) -> None:
    for number in range(3):
        _see(store, f"o{number}", MIDNIGHT)
        kept = {"observation_id": f"o{number}", "signal": "toxicity", "signature": "s"}
        store.append("observation_signals", [kept | {"value": number / 2}])
    until = MIDNIGHT + timedelta(hours=1)
    (hour,) = hours(store, LINE, ("toxicity",), {}, until)["toxicity"]
    assert (hour.value, hour.n) == (0.5, 3)
    first = tripped(store, LINE, "d", "toxicity", until)[0]
    assert first["observation_id"] == "o2"
