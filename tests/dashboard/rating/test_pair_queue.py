"""What a rater sees and says: sides, order, dwell, replays, undo, restarts, exclusion."""

import random
from collections import Counter

import pytest

from dashboard.rating.grade_queue import GradeQueue
from dashboard.rating.keys import workspace_key
from dashboard.rating.pair_queue import PairQueue, Rejected
from harness.core.errors import UserError
from harness.ratings import session as ratings
from harness.ratings.rater_quality import rater_quality, shared_units
from harness.ratings.votes import exclude, votes
from tests.dashboard.rating.rating_builders import RatedRuns


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        self.now += 1.0
        return self.now


@pytest.fixture
def clock():
    return Clock()


def open_queue(rated, session, clock):
    return PairQueue(rated.store, session, workspace_key(rated.workspace.home), clock=clock)


def give(queue, rater, choice="left", dwell=900):
    """Vote on whatever is shown; the state before and after."""
    before = queue.state(rater)
    return before, queue.vote(rater, before["ticket"], choice, dwell)


def stored(rated, session):
    return rated.store.query("SELECT * FROM votes WHERE session_id = ? ORDER BY seq", [session.id])


def test_a_vote_is_stored_with_what_was_shown(rated, clock):
    session = rated.session("ann")
    queue = open_queue(rated, session, clock)
    before, _ = give(queue, "ann", "right", 777)
    (row,) = stored(rated, session)
    assert row["choice"] == "right"
    assert row["rater_kind"] == "human"
    assert row["dwell_ms"] == 777
    keys = {item.keys for item in session.items}
    assert (row["left_key"], row["right_key"]) in keys or (
        row["right_key"],
        row["left_key"],
    ) in keys
    assert before["left"] == queue.answers[row["left_key"]]


def test_the_page_gets_no_name_and_no_hint(rated, clock):
    session = rated.session("ann", golds=4, gold=0.3)
    queue = open_queue(rated, session, clock)
    for _ in range(10):
        state = queue.state("ann")
        text = repr(state).lower()
        for secret in ("zebra", "digest", "gold", "run:", *(c.run for c in session.contenders)):
            assert secret not in text
        queue.vote("ann", state["ticket"], "tie", 900)


def test_a_ticket_counts_once_whatever_it_says(rated, clock):
    session = rated.session("ann")
    queue = open_queue(rated, session, clock)
    before, after = give(queue, "ann", "left")
    again = queue.vote("ann", before["ticket"], "right", 900)
    assert again["already"]
    assert again["ticket"].split(".")[:2] == after["ticket"].split(".")[:2]
    assert [row["choice"] for row in stored(rated, session)] == ["left"]


@pytest.mark.parametrize("damage", ["rater", "serial", "mac", "form", "empty"])
def test_a_ticket_that_this_server_did_not_sign_is_refused(rated, clock, damage):
    session = rated.session("ann", "bo")
    queue = open_queue(rated, session, clock)
    ticket = queue.state("ann")["ticket"]
    rater = "bo" if damage == "rater" else "ann"
    form, serial, rest = ticket.split(".", 2)
    broken = {
        "rater": ticket,
        "serial": f"{form}.{int(serial) + 1}.{rest}",
        "mac": ticket[:-1] + ("A" if ticket[-1] != "A" else "B"),
        "form": f"stars.{serial}.{rest}",
        "empty": "",
    }[damage]
    with pytest.raises(Rejected, match="invalid"):
        queue.vote(rater, broken, "left", 900)
    assert stored(rated, session) == []


def test_a_glance_does_not_count_whatever_the_page_claims(rated, clock):
    session = rated.session("ann", min_dwell_ms=2500)
    queue = open_queue(rated, session, clock)
    ticket = queue.state("ann")["ticket"]
    with pytest.raises(Rejected, match="too_soon"):
        queue.vote("ann", ticket, "left", 300)
    with pytest.raises(Rejected, match="too_soon"):  # the server's clock knows better
        queue.vote("ann", queue.state("ann")["ticket"], "left", 60_000)
    assert stored(rated, session) == []
    queue.vote("ann", ticket, "skip", 10)
    assert [row["choice"] for row in stored(rated, session)] == ["skip"]


def test_undo_takes_back_the_last_and_shows_it_again(rated, clock):
    session = rated.session("ann")
    queue = open_queue(rated, session, clock)
    give(queue, "ann")
    shown, after = give(queue, "ann", "right")
    back = queue.undo("ann", after["last"]["id"])
    assert (back["left"], back["right"]) == (shown["left"], shown["right"])
    assert queue.undo("ann", after["last"]["id"])["already"]
    assert len(votes(rated.store, session)) == 1
    queue.vote("ann", back["ticket"], "tie", 900)
    assert [v.choice for v in votes(rated.store, session)] == ["left", "tie"]
    assert [row["choice"] for row in stored(rated, session)] == ["left", "right", "undo", "tie"]


def test_a_comment_comes_after_its_vote(rated, clock):
    session = rated.session("ann")
    queue = open_queue(rated, session, clock)
    _, after = give(queue, "ann")
    said = queue.comment("ann", after["last"]["id"], "  clearer  ")
    assert said["last"]["comment"] == "clearer"
    queue.comment("ann", after["last"]["id"], "second thoughts")
    assert [v.comment for v in votes(rated.store, session)] == ["clearer"]
    with pytest.raises(Rejected):
        queue.comment("bo", after["last"]["id"], "not mine")


def test_a_restart_changes_nothing_for_the_rater(rated, clock):
    session = rated.session("ann", "bo", overlap=0.3, repeats=0.1, swaps=0.1)
    queue = open_queue(rated, session, clock)
    for _ in range(5):
        give(queue, "ann")
        give(queue, "bo", "right")
    after = queue.state("ann")
    queue.comment("ann", after["last"]["id"], "kept")
    fresh = open_queue(rated, session, clock)
    again = fresh.state("ann")
    for name in ("left", "right", "progress", "prompt", "done"):
        assert again[name] == after[name]
    assert again["last"]["comment"] == "kept"
    # A page that was open before the restart votes with its old ticket.
    assert fresh.vote("ann", after["ticket"], "tie", 900)["progress"]["mine"] == 6
    assert (fresh.tally.points == open_queue(rated, session, clock).tally.points).all()


def test_every_rater_has_sides_of_their_own_and_keeps_them(rated, clock):
    session = rated.session("ann", "bo", "cy")
    sides = {
        rater: [session.first_is_left(rater, f"{n}.0.1") for n in range(200)]
        for rater in ("ann", "bo", "cy")
    }
    assert sides["ann"] != sides["bo"] != sides["cy"]
    for mine in sides.values():
        assert 60 < sum(mine) < 140
    assert ratings.load(rated.store, session.id).first_is_left("ann", "7.0.1") == sides["ann"][7]


def test_prompts_are_balanced_and_no_rater_sees_a_pair_twice(rated, clock):
    session = rated.session("ann", "bo", "cy", votes=30)
    queue = open_queue(rated, session, clock)
    for turn in range(30):
        give(queue, ("ann", "bo", "cy")[turn % 3], "tie")
    found = votes(rated.store, session)
    assert max(Counter(v.prompt for v in found).values()) <= 3
    assert max(Counter((v.rater, v.pair) for v in found).values()) == 1
    assert queue.state("ann")["done"] == "budget"


def test_gold_repeats_and_swaps_appear_in_their_shares(rated, clock):
    session = rated.session("ann", golds=8, gold=0.2, repeats=0.15, swaps=0.15, votes=500)
    queue = open_queue(rated, session, clock)
    while not queue.state("ann")["done"]:
        give(queue, "ann", "left")
    kinds = Counter(row["purpose"] for row in stored(rated, session))
    assert kinds["plain"] == 12
    assert kinds["gold"] >= 1
    again = [r for r in stored(rated, session) if r["purpose"] in ("repeat", "swapped")]
    first = {r["pair_id"]: r for r in stored(rated, session) if r["purpose"] == "plain"}
    for row in again:
        before = first[row["pair_id"]]
        same = (row["left_key"], row["right_key"]) == (before["left_key"], before["right_key"])
        assert same == (row["purpose"] == "repeat")


def test_an_excluded_rater_counts_no_more_and_nothing_is_deleted(rated, clock):
    session = rated.session("ann", "bo")
    queue = open_queue(rated, session, clock)
    for _ in range(4):
        give(queue, "ann")
        give(queue, "bo")
    assert exclude(rated.store, session, "bo", "always left") == 4
    queue.refresh()
    assert queue.state("ann")["progress"]["total"] == 4
    assert queue.state("bo")["done"] == "closed"
    assert {v.rater for v in votes(rated.store, session)} == {"ann"}
    assert len(votes(rated.store, session, excluded=True)) == 8
    exclude(rated.store, session, "bo", "spoke with them", back=True)
    assert len(votes(rated.store, session)) == 8


def test_a_refresh_keeps_those_who_have_just_agreed(rated, clock, monkeypatch):
    session = rated.session()
    queue = open_queue(rated, session, clock)
    read = ratings.register(rated.store, session)

    def while_ann_agrees(*_):
        queue.consent("ann")
        return read

    monkeypatch.setattr("dashboard.rating.pair_queue.register", while_ann_agrees)
    queue.refresh()
    assert "ann" in queue.register.consented


def test_a_settled_session_asks_no_more(tmp_path, clock):
    wide = RatedRuns(tmp_path, prompts=60)
    session = wide.session("ann", votes=60, looks=(0.9, 1.0))
    queue = open_queue(wide, session, clock)
    rng = random.Random(3)
    for _ in range(54):
        better = "left" if "Answer B" in queue.state("ann")["left"] else "right"
        give(queue, "ann", "tie" if rng.random() < 0.4 else better)
    assert queue.look_due
    assert queue.state("ann")["done"] is None
    queue.refresh()
    assert queue.state("ann")["done"] == "settled"
    queue.undo("ann", queue.state("ann")["last"]["id"])
    queue.refresh()
    assert queue.state("ann")["done"] is None
    wide.store.close()


def test_overlap_gives_pairs_that_others_have_judged(rated, clock):
    session = rated.session("ann", "bo", overlap=1.0)
    queue = open_queue(rated, session, clock)
    for _ in range(6):
        give(queue, "ann")
    for _ in range(6):
        give(queue, "bo")
    pairs = [{v.pair for v in votes(rated.store, session) if v.rater == r} for r in ("ann", "bo")]
    assert pairs[0] == pairs[1]


def test_a_questionnaire_takes_every_dimension_once(rated, clock):
    session = rated.session(
        "ann", "bo", forms=("questions",), dimensions=("relevance", "safety", "tone"), target=4
    )
    form = GradeQueue(open_queue(rated, session, clock), "questions")
    state = form.state("ann")
    assert state["dimensions"] == [["relevance", 0, 5], ["safety", 0, 1], ["tone", 0, 5]]
    assert "Zebra" not in state["answer"]
    for bad in ({"relevance": 6, "safety": 1, "tone": 0}, {"relevance": 1}, {"tone": True}):
        with pytest.raises(Rejected, match="invalid"):
            form.answer("ann", state["ticket"], bad, "", 900)
    good = {"relevance": 5, "safety": 0, "tone": 3}
    after = form.answer("ann", state["ticket"], good, "unsafe", 900)
    assert form.answer("ann", state["ticket"], good, "unsafe", 900)["already"]
    assert after["progress"]["dimensions"] == {"relevance": 1, "safety": 1, "tone": 1}
    assert after["progress"]["mine"] == 1
    back = form.undo("ann", after["last"]["id"])
    assert back["answer"] == state["answer"]
    assert back["progress"]["dimensions"]["tone"] == 0
    fresh = GradeQueue(open_queue(rated, session, clock), "questions")
    assert fresh.state("ann")["answer"] == state["answer"]
    for rater in ("ann", "bo", "ann", "bo"):
        fresh.answer(rater, fresh.state(rater)["ticket"], good, "", 900)
    assert fresh.state("ann")["done"] == "budget"
    from harness.ratings.votes import answered

    assert answered(rated.store, session) == {"relevance": 4, "safety": 4, "tone": 4}


def test_one_run_alone_can_be_graded(rated, clock):
    rated.runs = rated.runs[:1]
    session = rated.session("ann", forms=("stars",))
    form = GradeQueue(open_queue(rated, session, clock), "stars")
    state = form.answer("ann", form.state("ann")["ticket"], {"stars": 3}, "", 900)
    assert state["progress"]["total"] == 1


def test_stars_are_a_form_of_their_own(rated, clock):
    session = rated.session("ann", forms=("stars",))
    form = GradeQueue(open_queue(rated, session, clock), "stars")
    ticket = form.state("ann")["ticket"]
    with pytest.raises(Rejected):
        form.answer("ann", ticket, {"stars": 0}, "", 900)
    form.answer("ann", ticket, {"stars": 4}, "good", 900)
    (row,) = rated.store.query("SELECT * FROM questionnaires")
    assert (row["dimension"], row["value"], row["comment"]) == ("stars", 4.0, "good")


def test_equal_answers_are_ties_without_asking(tmp_path, clock):
    rated = RatedRuns(tmp_path, prompts=12, same=(0, 1, 4, 5, 7))
    session = rated.session("ann", "bo", repeats=0.2, votes=24)
    queue = open_queue(rated, session, clock)
    for who in ("ann", "bo"):
        for _ in range(40):
            state = queue.state(who)
            if state["done"]:
                break
            assert state["left"] != state["right"]
            queue.vote(who, state["ticket"], "left", 900)
    rows = [row for row in stored(rated, session) if row["purpose"] == "plain"]
    unasked = [row for row in rows if row["dwell_ms"] is None]
    assert len(rows) == 24
    assert len(unasked) == 10
    assert {row["choice"] for row in unasked} == {"tie"}
    assert queue.state("ann")["progress"]["same"] == 5
    found = votes(rated.store, session)
    assert not any(
        vote.pair in {row["pair_id"] for row in unasked} for vote in found if vote.dwell_ms
    ), "nobody is asked about equal answers, not even again"
    units = shared_units(found)
    assert len(units) == 7, "agreement is over the pairs that were asked about"
    assert {quality.dwell_ms for quality in rater_quality(session, found)} == {900}


def test_undo_takes_back_what_was_given_and_not_what_was_counted_unasked(tmp_path, clock):
    rated = RatedRuns(tmp_path, prompts=6, same=(0, 1, 2, 4, 5))
    session = rated.session("ann", votes=6)
    queue = open_queue(rated, session, clock)
    _, after = give(queue, "ann", "left")
    assert after["done"]
    assert after["last"]["choice"] == "left"
    back = queue.undo("ann", after["last"]["id"])
    assert not back["done"]
    assert back["progress"]["mine"] == 5
    # A server that is started anew sees the same.
    assert open_queue(rated, session, clock).state("ann")["progress"]["mine"] == 5


def test_a_budget_that_nobody_can_fill_is_refused_or_lowered(rated):
    rules = ratings.Rules(title="x", votes=300)
    with pytest.raises(UserError, match="2 raters can give 24 at most") as caught:
        ratings.create(rated.store, rated.runs, rules, raters=2)
    assert caught.value.hint.startswith("--votes 24, or 25 raters")
    lowered = ratings.create(rated.store, rated.runs, rules, raters=2, lower_votes=True)
    assert lowered.rules.votes == 24
    assert ratings.create(rated.store, rated.runs, rules).rules.votes == 300, "raters come later"


def test_a_target_of_grades_that_nobody_can_reach_is_refused_or_lowered(rated):
    rules = ratings.Rules(title="x", forms=("questions",), target=50)
    with pytest.raises(UserError, match="2 raters can give 48 at most: each of 24 answers") as said:
        ratings.create(rated.store, rated.runs, rules, raters=2)
    assert said.value.field == "--target"
    lowered = ratings.create(rated.store, rated.runs, rules, raters=2, lower_target=True)
    assert (lowered.rules.target, lowered.rules.votes) == (48, 500)
    assert ratings.create(rated.store, rated.runs, rules, raters=3).rules.target == 50
