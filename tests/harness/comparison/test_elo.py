"""Elo: answers meet in pairs, are judged once, gate by win share, and rate every checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.base import Candidate
from harness.comparison.elo import meet, with_wins
from harness.comparison.elo_ratings import ratings
from harness.comparison.evidence import metric_scores, summarize
from harness.comparison.looks import decide_by_looks, decide_once
from harness.comparison.pick import pick
from harness.comparison.service import gate
from harness.core.errors import UserError
from harness.core.types import Run, VerdictOutcome
from harness.evaluation.runner import score
from harness.metrics.elo import NOT_MET, AnswerPair, Elo
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import scripted, suite_yaml, write_jsonl

QUESTIONS = 40
NAME = "quiz/elo"


def quiz(folder: Path, *, rows: int = QUESTIONS, **task: Any) -> Suite:
    write_jsonl(
        folder / "quiz.jsonl",
        [
            {"id": f"q{i}", "q": f"number {i}?", "a": f"the answer is {i}, surely"}
            for i in range(rows)
        ],
    )
    path = suite_yaml(
        folder,
        tasks={
            "quiz": {
                "data": "quiz.jsonl",
                "prompt": {"user": "{{ q }}"},
                "reference": "{{ a }}",
                "metrics": [{"elo": {"judge": "reference_overlap"}}],
                **task,
            }
        },
    )
    return load_suite(path)


def student(knows: float, name: str) -> Candidate:
    """Answers as the reference on this share of the questions, and else with something else."""

    def answer(prompt: str, seed: int) -> str:
        number = int(prompt.partition("number ")[2].partition("?")[0])
        right = np.random.default_rng([number, 7]).random() < knows
        return f"the answer is {number}, surely" if right else f"{name} has no idea of {number}"

    return scripted(answer, name=name)[0]


def scored(candidate: Candidate, suite: Suite, store: Store) -> Run:
    return score(candidate, suite, store).run


def votes(store: Store) -> list[dict[str, Any]]:
    return store.query("SELECT * FROM votes WHERE starts_with(session_id, 'elo-') ORDER BY vote_id")


def wins(store: Store, anchor: Run, candidate: Run) -> float:
    found = with_wins(store, anchor, candidate, metric_scores(store, candidate))[NAME]
    return float(np.mean(list(found.values.values())))


@pytest.mark.parametrize(
    ("knows", "wanted"), [(0.1, VerdictOutcome.FAIL), (1.0, VerdictOutcome.PASS)]
)
def test_the_win_share_gates(
    tmp_path: Path, store: Store, knows: float, wanted: VerdictOutcome
) -> None:
    suite = quiz(tmp_path)
    anchor, other = scored(student(0.6, "A"), suite, store), student(knows, "B")
    (decision,) = decide_by_looks(
        lambda extent: scored(other, suite, store), {"anchor": anchor}, suite, store, suite.policy
    )
    assert decision.verdict.outcome is wanted
    (row,) = decision.verdict.rows
    assert (row.metric, row.measured.form, row.measured.anchor) == (NAME, "winshare", 0.5)
    assert "quiz " in decision.verdict.notes["elo"]
    assert "40 pairs judged by reference_overlap" in decision.verdict.notes["elo"]


def test_a_first_run_has_no_win_share_and_says_why(tmp_path: Path, store: Store) -> None:
    run = scored(student(0.6, "A"), quiz(tmp_path), store)
    (line,) = summarize(store, run)
    assert line.estimate.value is None
    assert (line.counts.unscored, line.counts.reason) == (QUESTIONS, NOT_MET)


def test_an_anchor_against_itself_wins_a_half_and_asks_nobody(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    run = scored(student(0.6, "A"), suite, store)
    decision = decide_once(store, "anchor", run, run, suite, suite.policy)
    assert decision.verdict.outcome is not VerdictOutcome.FAIL
    assert (decision.verdict.rows[0].measured.candidate, votes(store)) == (0.5, [])
    assert decision.verdict.notes["elo"].startswith("quiz 1000")


def test_two_answers_are_judged_once_whoever_asks(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AnswerPair] = []
    prefer = Elo.prefer
    monkeypatch.setattr(
        Elo, "prefer", lambda self, pairs: asked.extend(pairs) or prefer(self, pairs)
    )
    suite = quiz(tmp_path)
    a, b = (scored(student(k, n), suite, store) for k, n in ((0.6, "A"), (0.3, "B")))
    there = decide_once(store, "anchor", a, b, suite, suite.policy)
    assert len(asked) == QUESTIONS
    back = decide_once(store, "anchor", b, a, suite, suite.policy)
    assert len(asked) == QUESTIONS
    shares = [one.verdict.rows[0].measured.candidate for one in (there, back)]
    assert sum(shares) == pytest.approx(1.0)
    # One row more makes another version of the task; what it has in common is not asked again.
    longer = quiz(tmp_path, rows=QUESTIONS + 1)
    runs = [scored(student(k, n), longer, store) for k, n in ((0.6, "A"), (0.3, "B"))]
    assert meet(store, longer, *runs) == 1
    assert len(asked) == QUESTIONS + 1


def test_stored_runs_and_picks_meet_too(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    a, b, c = (scored(student(k, n), suite, store) for k, n in ((0.5, "A"), (0.1, "B"), (1.0, "C")))
    decision = gate(b, a, store=store)
    assert decision.verdict.outcome is VerdictOutcome.FAIL
    assert pick(a, [b, c], suite, store, suite.policy).chosen.id == c.id


def test_stored_runs_without_their_suite_are_not_compared(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    a, b = (scored(student(k, n), suite, store) for k, n in ((0.6, "A"), (0.3, "B")))
    suite.path.unlink()
    verdict = gate(b, a, store=store).verdict
    assert verdict.outcome is VerdictOutcome.INCOMPARABLE
    assert "no pair was judged" in verdict.notes["elo"]


def test_ratings_are_a_line_over_all_pairs(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    shares = {"A": 0.5, "B": 0.2, "C": 0.9}
    found = {name: scored(student(k, name), suite, store) for name, k in shares.items()}
    for name in "BC":
        decide_once(store, "anchor", found["A"], found[name], suite, suite.policy)
    anchor = found["A"].model_digest
    rated = ratings(store, found["A"].fingerprint.protocol, "quiz", anchor)
    by_name = {name: rated[run.model_digest] for name, run in found.items()}
    assert by_name["A"].words == "1000"
    assert by_name["B"].points < 1000 < by_name["C"].points
    for name in "BC":
        one, share = by_name[name], wins(store, found["A"], found[name])
        # Against one opponent Elo is the win share on another scale.
        assert one.points == pytest.approx(1000 + 400 * np.log10(share / (1 - share)), abs=0.5)
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.points < one.high
    assert summarize(store, found["B"])[0].estimate.value == pytest.approx(by_name["B"].points)
    # What a table shows for each sample is the answer's win share.
    assert metric_scores(store, found["B"])[NAME].values["q0"] in (0.0, 0.5, 1.0)


def test_peoples_votes_take_the_judges_place(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    a, b = (scored(student(k, n), suite, store) for k, n in ((0.6, "A"), (0.3, "B")))
    decide_once(store, "anchor", a, b, suite, suite.policy)
    before = ratings(store, a.fingerprint.protocol, "quiz", a.model_digest)[b.model_digest]
    lost = [row for row in votes(store) if row["choice"] != "tie"][:6]
    assert lost
    for row in lost:
        # A person sees the two answers the other way round, and prefers the new model's.
        mine = "left" if row["right_model"] == b.model_digest else "right"
        store.append(
            "votes",
            [
                {
                    "vote_id": f"person/{row['vote_id']}",
                    "session_id": "s",
                    "rater": "ada",
                    "rater_kind": "human",
                    "pair_id": "1",
                    "purpose": "plain",
                    "task": "quiz",
                    "sample_id": row["sample_id"],
                    "left_key": row["right_key"],
                    "right_key": row["left_key"],
                    "left_model": row["right_model"],
                    "right_model": row["left_model"],
                    "choice": mine,
                    "dimension": "preference",
                }
            ],
        )
    after = ratings(store, a.fingerprint.protocol, "quiz", a.model_digest)[b.model_digest]
    assert (after.people, after.pairs) == (len(lost), before.pairs)
    assert after.points > before.points
    # The gate's evidence is the judge's alone: people's votes come in while one looks.
    assert wins(store, a, b) < 0.5


def test_what_a_server_lost_is_asked_again_and_nonsense_is_not(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.metrics.elo import Preference

    told = iter([Preference(None, "down", lost=True), Preference(None, "no verdict")])
    monkeypatch.setattr(Elo, "prefer", lambda self, pairs: [next(told) for _ in pairs])
    suite = quiz(tmp_path, rows=2)
    a, b = (scored(student(k, n), suite, store) for k, n in ((1.0, "A"), (0.0, "B")))
    assert meet(store, suite, a, b) == 2
    found = with_wins(store, a, b, metric_scores(store, b))[NAME]
    assert (found.values, found.errors) == ({}, 2)
    monkeypatch.undo()
    assert meet(store, suite, a, b) == 1
    assert with_wins(store, a, b, metric_scores(store, b))[NAME].errors == 1


def test_runs_of_another_judge_are_not_compared(tmp_path: Path, store: Store) -> None:
    one = quiz(tmp_path)
    other = quiz(tmp_path, metrics=["elo"])
    a, b = scored(student(0.6, "A"), one, store), scored(student(0.3, "B"), other, store)
    verdict = decide_once(store, "anchor", a, b, other, other.policy).verdict
    assert verdict.outcome is VerdictOutcome.INCOMPARABLE
    assert votes(store) == []


def test_a_judge_that_reads_no_sample_is_refused_as_the_suite_loads(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="this task has none"):
        quiz(tmp_path, reference=None)
    write_jsonl(tmp_path / "zh.jsonl", [{"id": "1", "q": "问题？", "a": "这是一个很好的答案。"}])
    with pytest.raises(UserError, match="reads English") as refused:
        quiz(tmp_path, data="zh.jsonl", metrics=["elo"])
    assert "reference_overlap" in (refused.value.hint or "")
    quiz(tmp_path, data="zh.jsonl")
