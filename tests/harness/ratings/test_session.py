"""A session in the store: blinding, ratings, judges, export, what older stores lack."""

from __future__ import annotations

import json

import duckdb
import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.ratings import session as ratings
from harness.ratings.blinding import Scrubber
from harness.ratings.export import export
from harness.ratings.model_raters import vote_as_judge
from harness.ratings.rater_quality import between_kinds
from harness.ratings.session import Rules, Session
from harness.ratings.verdict import standings
from harness.ratings.votes import exclude, votes
from harness.ratings.votes import ratings as rate
from harness.store.store import Store
from harness.store.tables import VERSION
from tests.dashboard.rating.rating_builders import RatedRuns


def test_names_are_blacked_out():
    scrub = Scrubber(["house/Zebra-7b-instruct", "smollm2-135m-instruct"])
    for text in (
        "I am Zebra-7b-instruct.",
        "As zebra, I help.",
        "I'm Claude.",
        "我是通义千问。",
        "Llama 3.1 70B says",
        "this is GPT-4o",
    ):
        assert "▇▇▇" in scrub(text)
        assert not any(name in scrub(text).lower() for name in ("zebra", "claude", "llama", "gpt"))
    for text in ("Claude Monet painted a llama.", "The Gemini twins", "an instruct manual"):
        assert scrub(text) == text


@pytest.fixture
def rated(tmp_path):
    made = RatedRuns.copy(tmp_path)
    yield made
    made.store.close()


def cast(rated, made, ballots):
    """Append (rater, item, choice) as people's votes, the candidate on the left."""
    rated.store.append(
        "votes",
        [
            {
                "vote_id": f"b{n}", "session_id": made.id, "rater": rater, "rater_kind": "human",
                "pair_id": f"{item}.0.1", "purpose": "plain", "task": made.items[item].task,
                "sample_id": made.items[item].sample, "left_key": made.items[item].keys[1],
                "right_key": made.items[item].keys[0], "left_model": made.contenders[1].digest,
                "right_model": made.contenders[0].digest, "choice": choice, "dwell_ms": 2000.0,
            }
            for n, (rater, item, choice) in enumerate(ballots)
        ],
    )  # fmt: skip


def test_a_session_is_read_as_it_was_made(rated):
    made = rated.session("ann", golds=2, votes=77, dimensions=("relevance", "tone"))
    again = ratings.load(rated.store, made.id)
    assert again == made
    assert ratings.load(rated.store, made.id[:8]) == made
    assert ratings.register(rated.store, made).raters == ("ann",)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"overlap": 1.5}, "not a share"),
        ({"gold": 0.4, "swaps": 0.4}, "say nothing about the models"),
        ({"votes": 0}, "1 or more"),
        ({"forms": ("dance",)}, "not a form"),
        ({"looks": (0.5, 0.4, 1.0)}, "don't rise"),
        ({"looks": (0.5,)}, "don't rise"),
        ({"alpha": 0.0}, "not an error rate"),
        ({"dimensions": ("a", "a")}, "each dimension once"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules, said):
    with pytest.raises(UserError, match=said):
        Rules(title="x", **rules)


def test_runs_that_do_not_fit_are_refused(rated, tmp_path):
    with pytest.raises(UserError, match="two runs"):
        ratings.create(rated.store, rated.runs[:1], Rules("x"))
    with pytest.raises(UserError, match="one model"):
        ratings.create(rated.store, [rated.runs[0]] * 2, Rules("x"))
    with pytest.raises(UserError, match="no task 'other'"):
        ratings.create(rated.store, rated.runs, Rules("x"), tasks=["other"])
    with pytest.raises(UserError, match="not a rating session"):
        ratings.load(rated.store, "nothing")


def test_ratings_stand_on_people_and_the_anchor(rated):
    made = rated.session("ann", "bo")
    wins = [(("ann", "bo")[n % 2], n, "left" if n % 4 else "tie") for n in range(12)]
    cast(rated, made, wins)
    rated = rate(made, votes(rated.store, made))
    names = list(rated.ratings)
    assert rated.ratings["house/Zebra-model-0"] == 1000.0
    assert rated.ratings["house/Zebra-model-1"] > 1000.0
    assert rated.tie_weight > 0
    assert len(names) == 2
    assert rate(made, []) is None


def test_judges_vote_under_their_own_name_and_are_never_mixed_in(rated):
    made = rated.session("ann")
    cast(rated, made, [("ann", n, "left" if n < 9 else "right") for n in range(12)])

    def ask(questions):
        assert all("Question" in q for q, _, _ in questions)
        # The answers carry their letter: B is the candidate's.
        return ["left" if "Answer B" in left else "right" if "Answer B" in right else "tie"
                for _, left, right in questions]  # fmt: skip

    before = standings(made, votes(rated.store, made))
    assert vote_as_judge(rated.store, made, "judge-7b", "llm", ask) == 12
    assert vote_as_judge(rated.store, made, "judge-7b", "llm", ask) == 0
    human, machine = votes(rated.store, made), votes(rated.store, made, kind="llm")
    assert standings(made, human) == before
    assert {v.rater for v in human} == {"ann"}
    assert {v.rater for v in machine} == {"judge-7b"}
    agreement = between_kinds(human, machine)
    assert agreement.units == 12
    assert agreement.value is not None
    with pytest.raises(UserError, match="another kind"):
        vote_as_judge(rated.store, made, "ann", "llm", ask)
    with pytest.raises(UserError, match="answered 'maybe'"):
        vote_as_judge(rated.store, made, "other", "llm", lambda qs: ["maybe"] * len(qs))


def test_export_is_what_dpo_reads(rated, tmp_path):
    made = rated.session("ann", "bo", licence="CC-BY-4.0", consent="You may use my votes.")
    ballots = [("ann", n, "left") for n in range(6)] + [("bo", n, "left") for n in range(5)]
    ballots += [("bo", 5, "right"), ("ann", 6, "tie"), ("eve", 7, "left")]
    cast(rated, made, ballots)
    done = export(rated.store, made, tmp_path / "pairs.jsonl")
    lines = (tmp_path / "pairs.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert (done.pairs, done.even, done.without_consent) == (5, 2, 1)
    assert len(rows) == 5
    for row in rows:
        assert row["prompt"].startswith("Question ")
        assert row["system"] == "Be brief."
        assert "Zebra-model-1" in row["chosen"]
        assert "Zebra-model-0" in row["rejected"]
        assert row["licence"] == "CC-BY-4.0"
        assert row["consent"] == "You may use my votes."
        assert row["votes"]["chosen"] == 2
    from datasets import Dataset

    assert {"prompt", "chosen", "rejected"} <= set(Dataset.from_list(rows).column_names)
    assert export(rated.store, made, tmp_path / "two.jsonl", least=2).pairs == 5
    with pytest.raises(UserError, match="no pair"):
        export(rated.store, made, tmp_path / "none.jsonl", kind="llm")


def test_the_same_words_are_exported_once(rated, tmp_path):
    made = rated.session("ann")
    cast(rated, made, [("ann", n, "left") for n in range(3)])
    twice = Session(**{**vars(made), "items": made.items})
    first = export(rated.store, twice, tmp_path / "a.jsonl")
    again = (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    assert len(set(again.splitlines())) == first.pairs == 3


def test_excluding_needs_somebody_and_a_reason(rated):
    made = rated.session("ann")
    with pytest.raises(UserError, match="no rater called"):
        exclude(rated.store, made, "zoe", "unknown")
    with pytest.raises(UserError, match="reason is needed"):
        exclude(rated.store, made, "ann", " ")


def test_a_store_of_the_version_before_gets_the_new_views(tmp_path):
    workspace = Workspace.at(tmp_path)
    with Store(workspace) as store:
        store.append("votes", [{"vote_id": "a", "choice": "left", "session_id": "s"}])
        store.append("votes", [{"vote_id": "b", "choice": "undo", "undoes": "x"}])
    with duckdb.connect(str(workspace.database)) as plain_file:
        plain_file.execute("DROP VIEW counted_votes")
        plain_file.execute(
            "CREATE OR REPLACE VIEW current_votes AS SELECT * FROM votes "
            "WHERE choice NOT IN ('undo', 'skip')"
        )
        plain_file.execute("DELETE FROM schema_version WHERE version > 2")
        plain_file.execute("INSERT INTO schema_version VALUES (2, now()::TIMESTAMP)")
    said = {"vote_id": "a/comment", "choice": "comment", "comment": "why", "session_id": "s"}
    with Store(workspace) as store:
        store.append("votes", [said])
        rows = store.query("SELECT vote_id, comment FROM counted_votes")
        assert rows == [{"vote_id": "a", "comment": "why"}]
        assert store.query("SELECT max(version) AS v FROM schema_version") == [{"v": VERSION}]
