"""`ratchet rate …` from the outside: what it prints, writes, and exits with."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from dashboard.rating.server import make_app
from harness.cli.app import main
from harness.ratings.blinding import load_texts
from harness.ratings.model_raters import by_reward
from harness.ratings.session import load, sessions
from harness.ratings.votes import ratings, votes
from tests.dashboard.rating.rating_builders import RatedRuns
from trainers.config.load import load_recipe

ROOT = Path(__file__).parents[3]


@pytest.fixture
def verb(rated, monkeypatch, capsys):
    monkeypatch.setenv("RATCHET_HOME", str(rated.workspace.home))
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words):
        code = main(["rate", *map(str, words)])
        out, err = capsys.readouterr()
        return code, out + err

    return call


def created(verb, rated, *options):
    code, said = verb("create", *(run.id for run in rated.runs), "--title", "Week 47", *options)
    assert code == 0, said
    return re.search(r"session (\S+)", said)[1], said


def test_from_nothing_to_exported_pairs(rated, verb, tmp_path):
    session, said = created(
        verb, rated, "--raters", "ann, bo", "--votes", 8, "--min-dwell", 0, "--repeats", 0,
        "--licence", "CC0-1.0",
    )  # fmt: skip
    assert "12 prompts, 2 runs, 8 votes wanted" in said
    links = dict(re.findall(r"^(\w+): http://127.0.0.1:8502(/r/\S+)$", said, re.MULTILINE))
    assert set(links) == {"ann", "bo"}
    with TestClient(make_app(rated.store), base_url="http://127.0.0.1") as client:
        for link in links.values():
            assert "Before you begin" in client.get(link).text
            client.post(f"{link}/agree")
            for _ in range(4):
                ticket = client.get(f"{link}/pairs/state").json()["ticket"]
                sent = {"ticket": ticket, "choice": "left", "dwell_ms": 5}
                assert client.post(f"{link}/pairs/vote", json=sent).status_code == 200
    code, status = verb("status", session)
    assert code == 2
    assert "8 of 8 votes" in status
    assert "not settled, and all 8 planned votes are in" in status
    assert "Elo" in status
    code, said = verb("export", session, tmp_path / "pairs.jsonl")
    assert code == 0
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert f"{len(rows)} pairs" in said
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    read_by_dpo(tmp_path, rows)


def read_by_dpo(folder, rows):
    """The page's recipe, as docs/rating.md has it, loads what was exported."""
    page = (ROOT / "docs" / "rating.md").read_text(encoding="utf-8")
    data = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    stage = {"trainer": "dpo", "steps": 2, "checkpoint_every": 1, "batch_size": 1}
    recipe = {
        "name": "from-votes",
        "line": "from-votes",
        "base": "smollm2-135m-instruct",
        **data,
        "stages": [{**stage, "learning_rate": 1e-4}],
        "gate": {"suite": str(ROOT / "trainers" / "recipes" / "gates" / "preference.yaml")},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (loaded,) = load_recipe(folder / "recipe.yaml").stages
    found = {(example.chosen, example.rejected) for example in loaded.examples}
    assert found == {(row["chosen"], row["rejected"]) for row in rows}


def test_links_can_be_shown_added_and_revoked(rated, verb):
    session, said = created(verb, rated, "--raters", "ann")
    link = re.search(r"ann: \S+(/r/\S+)", said)[1]
    code, shown = verb("links", session, "--add", "cy", "--url", "https://rate.example/")
    assert code == 0
    assert f"ann: https://rate.example{link}" in shown
    assert "cy: https://rate.example/r/" in shown
    assert verb("revoke", session, "ann", "--reason", "left")[0] == 0
    with TestClient(make_app(rated.store), base_url="http://127.0.0.1") as client:
        assert client.get(link).status_code == 403
    assert "revoked (left)" in verb("links", session)[1]
    assert verb("revoke", session, "zoe", "--reason", "left")[0] == 3
    assert verb("revoke", session, "ann", "--reason", " ")[0] == 3


def test_a_closed_session_thanks_its_raters(rated, verb):
    session, said = created(verb, rated, "--raters", "ann")
    link = re.search(r"ann: \S+(/r/\S+)", said)[1]
    assert verb("close", session)[0] == 0
    with TestClient(make_app(rated.store), base_url="http://127.0.0.1") as client:
        client.post(f"{link}/agree")
        assert client.get(f"{link}/pairs/state").json()["done"] == "closed"


def test_status_of_all_and_exclusion(rated, verb):
    assert "no rating session yet" in verb("status")[1]
    session, _ = created(verb, rated, "--raters", "ann")
    assert session in verb("status")[1]
    assert verb("exclude", session, "ann", "--reason", "a robot")[0] == 0
    assert "excluded: a robot" in verb("status", session)[1]
    assert verb("exclude", session, "ann", "--reason", "a person", "--back")[0] == 0
    assert "a robot" not in verb("status", session)[1]


def cast(rated, made, choices, name="v"):
    """People's votes, one each, with the candidate on the left."""
    rows = []
    for n, choice in enumerate(choices):
        place = n % len(made.items)
        item = made.items[place]
        rows.append(
            {
                "vote_id": f"{name}{n}", "session_id": made.id, "rater": f"r{n // len(made.items)}",
                "rater_kind": "human", "pair_id": f"{place}.0.1", "purpose": "plain",
                "task": item.task, "sample_id": item.sample, "left_key": item.keys[1],
                "right_key": item.keys[0], "left_model": made.contenders[1].digest,
                "right_model": made.contenders[0].digest, "choice": choice, "dwell_ms": 900.0,
            }
        )  # fmt: skip
    rated.store.append("votes", rows)


def test_the_verdict_can_be_kept(rated, verb):
    session, _ = created(verb, rated, "--votes", 40, "--repeats", 0)
    made = load(rated.store, session)
    cast(rated, made, ["right" if n % 7 else "left" for n in range(40)])
    code, said = verb("status", session, "--keep")
    assert code == 1, said
    assert "settled: fail" in said
    kept = rated.store.query("SELECT outcome, against, anchor_run, candidate_run FROM verdicts")
    assert kept == [
        {
            "outcome": "fail",
            "against": "humans",
            "anchor_run": rated.runs[0].id,
            "candidate_run": rated.runs[1].id,
        }
    ]


def test_the_gate_asks_people_too(tmp_path, monkeypatch, capsys):
    wide = RatedRuns(tmp_path, prompts=40)
    monkeypatch.setenv("RATCHET_HOME", str(wide.workspace.home))
    words = ["gate", f"run:{wide.runs[1].id}", "--against", f"run:{wide.runs[0].id}"]
    assert main(words) == 0  # the metrics alone see no difference
    for winning, code in ((0.8, 0), (0.2, 1), (None, 2)):
        made = wide.session("ann", votes=160, title=f"at {winning}")
        if winning is not None:
            rng = random.Random(5)
            won = ["left" if rng.random() < winning else "right" for _ in range(160)]
            cast(wide, made, won, name=f"{winning}")
        capsys.readouterr()
        assert main([*words, "--humans", made.id]) == code
        assert "People, by" in capsys.readouterr().out
    swapped = ["gate", f"run:{wide.runs[0].id}", "--against", f"run:{wide.runs[1].id}"]
    assert main([*swapped, "--humans", made.id]) == 3
    wide.store.close()


def test_known_pairs_and_a_questionnaire(rated, verb, tmp_path):
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"prompt": "1 + 1?", "better": "2", "worse": "3"}\n', encoding="utf-8")
    session, _ = created(
        verb, rated, "--gold", gold, "--forms", "pairs,questions,stars", "--dimensions",
        "relevance,tone", "--target", 50, "--everyone", "--people",
    )  # fmt: skip
    made = load(rated.store, session)
    assert made.golds[0].worse == "3"
    assert made.rules.dimensions == ("relevance", "tone")
    assert made.rules.claim == "people"
    assert "tone" in verb("status", session)[1]
    gold.write_text('{"prompt": "1 + 1?", "better": 2}\n', encoding="utf-8")
    code, said = verb("create", *(run.id for run in rated.runs), "--gold", gold)
    assert code == 3
    assert "gold.jsonl:1, field better" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "nothing", "nowhere"], "there is no run"),
        (["status", "nothing"], "not a rating session"),
        (["create", "RUN", "RUN", "--looks", "soon"], "not a number"),
        (["create", "RUN", "RUN"], "of one model"),
        (["create", "RUN", "RUN2", "--task", "other"], "no task"),
        (["create", "RUN", "RUN2", "--forms", "dance"], "not a form"),
    ],
)
def test_mistakes_are_one_message(rated, verb, words, said):
    names = {"RUN": rated.runs[0].id, "RUN2": rated.runs[1].id}
    code, out = verb(*(names.get(word, word) for word in words))
    assert code == 3
    assert said in out
    assert "Traceback" not in out
    assert sessions(rated.store) == []


def test_a_judge_votes_beside_people(rated, verb, monkeypatch):
    from harness.backends.base import Candidate
    from harness.backends.scripted import ScriptedBackend

    session, _ = created(verb, rated)
    backend = ScriptedBackend(lambda prompt, seed: "The first. [[A]]")
    judge = Candidate("judge-1", "digest", backend.subject, lambda: backend)
    monkeypatch.setattr("harness.evaluation.open_model.open_model", lambda *_, **__: judge)
    code, said = verb("judge", session, "judge-1")
    assert code == 0, said
    assert "12 votes of judge-1" in said
    assert "by judge-1 alone:" in said
    assert "Elo" in said
    assert "llm" in verb("status", session)[1]
    found = votes(rated.store, load(rated.store, session), kind="llm")
    assert {vote.choice for vote in found} == {"tie"}  # whoever stands first wins: no preference
    assert votes(rated.store, load(rated.store, session)) == []


def test_a_reward_model_votes_and_gives_each_model_an_elo(rated, verb, monkeypatch):
    session, _ = created(verb, rated)

    def rewards(prompts, answers, *, model):
        assert all(turns[0]["role"] == "user" for turns in prompts)
        return [float(sum(map(ord, answer))) for answer in answers]

    monkeypatch.setattr("harness.ratings.model_raters.rewards_of_whole", rewards)
    code, said = verb("judge", session, "some/reward-model", "--reward")
    assert code == 0, said
    assert "12 votes of some/reward-model" in said
    found = votes(rated.store, load(rated.store, session), kind="reward_model")
    texts = load_texts(rated.store, load(rated.store, session)).answers
    worth = {key: sum(map(ord, text)) for key, text in texts.items()}
    for vote in found:
        left, right = worth[vote.left_key], worth[vote.right_key]
        assert vote.choice == ("tie" if left == right else "left" if left > right else "right")
    assert votes(rated.store, load(rated.store, session)) == []
    again = verb("judge", session, "some/reward-model", "--reward")[1]
    assert "0 votes of some/reward-model" in again
    rated_by = ratings(load(rated.store, session), found, alone=True)
    assert rated_by is not None
    for low, high in rated_by.intervals.values():
        assert low < high
    status = verb("status", session)[1]
    assert "by some/reward-model alone:" in status
    code, said = verb("judge", session, "no/such/folder", "--reward")
    assert code == 3
    assert "there is no model folder no/such/folder" in said


@pytest.mark.parametrize(
    ("left", "right", "rewards", "choice"),
    [
        ("a", "b", (1.0, 0.5), "left"),
        ("a", "b", (0.5, 1.0), "right"),
        ("a", "b", (0.5, 0.5), "tie"),
        ("", "b", (9.0, 0.5), "right"),
        ("a", " ", (0.5, 9.0), "left"),
        ("", " ", (9.0, 0.5), "tie"),
        ("a", "b", (None, 0.5), None),
    ],
)
def test_how_a_reward_model_chooses(monkeypatch, left, right, rewards, choice):
    sides = iter(rewards)
    monkeypatch.setattr(
        "harness.ratings.model_raters.rewards_of_whole", lambda *_, **__: [next(sides)]
    )
    assert by_reward("some/model")([("q", left, right)]) == [choice]
