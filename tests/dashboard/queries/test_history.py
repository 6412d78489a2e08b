"""The first page's line and the bounded histories, as the demo's store has them."""

from __future__ import annotations

from dashboard.queries import history
from dashboard.queries.attention import attention
from dashboard.queries.margin_history import course, margins
from harness.store.store import Store


def test_the_first_page_knows_the_line(demo: Store) -> None:
    (line,) = history.lines(demo)
    assert (line["line"], line["version"]) == ("demo-support-bot", 2)
    assert line["last_verdict"] == history.verdicts(demo)[0]["verdict_id"]
    assert margins(demo, "demo-support-bot")
    for item in attention(demo):
        assert "{" not in item.sentence


def test_a_quiet_query_returns_a_bounded_history(demo: Store) -> None:
    runs = history.runs_of(demo, "demo-support", "demo-first", 3)
    assert [row["step"] for row in runs] == [80, 90, 100]
    assert len(history.training_steps(demo, "demo-first")) == 110


def test_a_course_goes_over_promotions_and_flags_them(demo: Store) -> None:
    line = "demo-support-bot"
    found = course(demo, line, 200)
    alone = margins(demo, line, 200)
    assert {name: [row["left"] for row in rows] for name, rows in found.now.items()} == {
        name: [row["left"] for row in rows] for name, rows in alone.items()
    }
    assert found.flags, "the demo promotes twice"
    assert {flag.event for flag in found.flags} <= {"promoted", "rolled_back"}
    last = found.flags[-1]
    before = {row["anchor_run"] for row in found.points if row["place"] < last.place}
    after = {row["anchor_run"] for row in found.points if row["place"] > last.place}
    assert found.current not in before
    assert found.current in after
    assert [flag.place for flag in found.flags] == sorted(flag.place for flag in found.flags)
