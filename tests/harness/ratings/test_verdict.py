"""A session's verdict at planned looks, and the quality of its raters."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.types import VerdictOutcome
from harness.ratings.items import Item
from harness.ratings.rater_quality import agreement, group_agreement, rater_quality
from harness.ratings.session import Contender, Gold, Rules, Session
from harness.ratings.verdict import METRIC, direct, standings, win_share
from harness.ratings.votes import Vote, plain
from harness.statistics.agreement import RELIABLE

PASS, FAIL, OPEN = VerdictOutcome.PASS, VerdictOutcome.FAIL, VerdictOutcome.INCONCLUSIVE


def session(votes=200, *, prompts=50, models=2, **rules):
    return Session(
        "trial",
        Rules(title="Trial", votes=votes, **rules),
        tuple(Contender(f"run{n}", f"model{n}", f"d{n}") for n in range(models)),
        tuple(
            Item("ask", f"s{n}", tuple(f"k{n}.{m}" for m in range(models))) for n in range(prompts)
        ),
        (),
        "salt",
    )


def ballot(number, prompt, choice, *, rater="ann", purpose="plain", swap=False, dwell=3000.0):
    """Candidate `d1` on the left against the anchor `d0`, unless swapped."""
    sides = ("d0", "d1") if swap else ("d1", "d0")
    keys = tuple(f"k{prompt}.{side[1]}" for side in sides)
    return Vote(
        f"v{number}", rater, f"{prompt}.0.1", purpose, "ask", f"s{prompt}",
        *keys, *sides, choice, dwell, None,
    )  # fmt: skip


def drawn(rng, count, share, *, prompts=50, spread=0.15, ties=0.25):
    """Votes with a win share of `share` in expectation, prompts differing by `spread`."""
    leaning = np.clip(share + rng.normal(0, spread, prompts), 0.02, 0.98)
    leaning += share - leaning.mean()
    out = []
    for number in range(count):
        prompt = number % prompts
        if rng.random() < ties:
            out.append(ballot(number, prompt, "tie"))
            continue
        won = rng.random() < (leaning[prompt] - ties / 2) / (1 - ties)
        out.append(ballot(number, prompt, "left" if won else "right"))
    return out


def test_the_gate_holds_the_win_share_against_a_half():
    found = [ballot(n, n % 50, c) for n, c in enumerate(["left", "right", "tie", "both_bad"] * 20)]
    scores = win_share(found, "d0", "d1", unit="prompt")
    assert len(scores.values) == 60
    assert sum(scores.values.values()) / 60 == pytest.approx(0.5)
    (stand,) = standings(session(), found)
    assert (stand.votes, stand.both_bad) == (60, 20)
    row = stand.verdict.row(METRIC)
    assert (row.measured.anchor, row.measured.form, row.allowed.margin) == (0.5, "winshare", 0.05)
    assert row.decided.mean_z == pytest.approx(0.475 - row.measured.candidate)


def test_the_session_has_an_alpha_of_its_own():
    found = [ballot(n, n % 50, "left" if n % 3 else "right") for n in range(200)]
    for alpha in (0.05, 0.01):
        (stand,) = standings(session(alpha=alpha), found)
        assert stand.verdict.policy_alpha == alpha


def test_it_says_settled_or_how_many_votes_are_missing():
    clear = [ballot(n, n % 50, "left") for n in range(60)]
    (before,) = standings(session(), clear[:49])
    assert before.verdict is None
    assert before.missing == 1
    assert "1 votes to the next look (at 50)" in before.sentence
    rng = np.random.default_rng(1)
    won = [ballot(n, n % 50, "left" if rng.random() < 0.9 else "right") for n in range(60)]
    (after,) = standings(session(), won)
    assert after.settled
    assert after.sentence == "settled: pass at look 1 of 4"
    lost = [ballot(n, n % 50, "right" if rng.random() < 0.9 else "left") for n in range(60)]
    assert standings(session(), lost)[0].verdict.outcome is FAIL


def test_a_look_reads_the_planned_votes_and_no_more():
    rng = np.random.default_rng(2)
    found = drawn(rng, 99, 0.5)
    (stand,) = standings(session(), found)
    (at_the_look,) = standings(session(), found[:50])
    assert stand.verdict == at_the_look.verdict
    assert stand.votes == 99
    assert stand.next_at == 100


def test_all_votes_in_and_not_settled_is_said():
    (stand,) = standings(session(40), drawn(np.random.default_rng(3), 40, 0.48))
    assert stand.verdict.outcome is OPEN
    assert stand.sentence == "not settled, and all 40 planned votes are in"


@pytest.mark.parametrize(
    ("claim", "runs"),
    [
        ("panel", 60),
        pytest.param("panel", 400, marks=pytest.mark.long),
        pytest.param("people", 250, marks=pytest.mark.long),
    ],
)
def test_false_pass_stays_at_its_level(claim, runs):
    """At a win share of exactly 0.475, PASS over four looks comes in at most 5% (the bound is
    three standard errors above); looking every ten votes at the whole alpha, it is far more.
    """
    rng = np.random.default_rng(4)
    rules = session(claim=claim)
    passed = 0
    for _ in range(runs):
        found = drawn(rng, 200, 0.475)
        if claim == "people":  # ten raters, each with a leaning of their own
            found = leaning_raters(rng, 200, 0.475)
        passed += standings(rules, found)[0].verdict.outcome is PASS
    assert passed / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def leaning_raters(rng, count, share, raters=10, spread=0.12):
    leaning = share + rng.normal(0, spread, raters)
    return [
        ballot(n, n % 50, "left" if rng.random() < leaning[n % raters] else "right",
               rater=f"r{n % raters}")
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.long
def test_peeking_would_not_stay_at_its_level():
    rng = np.random.default_rng(5)
    peeks = tuple(n / 20 for n in range(1, 21))
    caught = 0
    for _ in range(60):
        found = drawn(rng, 200, 0.475)
        caught += any(
            standings(session(round(200 * share), looks=(1.0,)), found[: round(200 * share)])[
                0
            ].verdict.outcome
            is PASS
            for share in peeks[2:]
        )
    assert caught / 60 >= 0.1


def test_a_better_model_passes_and_a_worse_one_fails():
    rng = np.random.default_rng(6)
    outcomes = {
        share: [standings(session(), drawn(rng, 200, share))[0].verdict.outcome for _ in range(25)]
        for share in (0.62, 0.33)
    }
    assert outcomes[0.62].count(PASS) >= 20
    assert outcomes[0.33].count(FAIL) >= 20


def test_gold_repeats_and_other_pairs_are_no_evidence():
    found = [ballot(n, n, "left", purpose=p) for n, p in enumerate(("gold", "repeat", "swapped"))]
    assert direct(found, "d0", "d1") == []
    assert plain(found) == []


def test_quality_shows_habits():
    better = Gold("2 + 2?", "4", "5").keys[0]
    found = [ballot(n, n, "left") for n in range(30)]
    found += [ballot(100 + n, n, "left", purpose="repeat") for n in range(5)]
    found += [ballot(200 + n, n, "left", purpose="swapped", swap=True) for n in range(5)]
    known = Session(**{**vars(session()), "golds": (Gold("2 + 2?", "4", "5"),)})
    for n in range(6):
        right = "x" if n % 2 else better
        found.append(
            Vote(f"g{n}", "ann", "gold.0", "gold", "", "", right, "y", "", "", "left", 900.0, None)
        )
    (quality,) = rater_quality(known, found)
    assert quality.left == 1.0
    assert quality.left_p < 1e-6
    assert (quality.repeat, quality.swapped) == (1.0, 0.0)
    assert (quality.golds, quality.gold) == (6, 0.5)
    assert any("left" in said for said in quality.warnings)
    assert any("known pairs" in said for said in quality.warnings)


def test_agreement_is_by_answer_not_by_side_and_warns_below_080():
    rng = np.random.default_rng(7)
    same = [
        ballot(f"{who}{n}", n, ("right" if (n % 3 == 0) == bool(who) else "left"), rater=f"r{who}",
               swap=bool(who))
        for n in range(40)
        for who in (0, 1)
    ]  # fmt: skip
    agreed = group_agreement(same, bootstraps=50)
    assert agreed.alpha.value == agreement(same, bootstraps=50).value == 1.0
    assert agreed.warning is None
    at_random = [
        ballot(f"{who}{n}", n, rng.choice(["left", "right", "tie"]), rater=f"r{who}")
        for n in range(60)
        for who in range(3)
    ]
    loose = group_agreement(at_random, bootstraps=50)
    assert loose.alpha.value < RELIABLE
    assert "conclude with care" in loose.warning
    assert set(loose.cohen) == {("r0", "r1"), ("r0", "r2"), ("r1", "r2")}
    assert group_agreement([]).warning is None
