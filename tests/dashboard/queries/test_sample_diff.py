"""Two runs sample by sample: what regressed and was fixed, counted and paged."""

from __future__ import annotations

from pathlib import Path

from dashboard.queries import history, sample_diff
from harness.comparison.evidence import metric_scores
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.gate.pairing import pair
from harness.store.runs import require_run
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import scripted, suite_yaml


def test_pairs_are_counted_and_paged(demo: Store) -> None:
    runs = history.runs_of(demo, "demo-support", history.OUTSIDE)
    a, b = runs[0]["run_id"], runs[-1]["run_id"]
    run = history.run(demo, b)
    assert run is not None
    says = history.declared(run)["intents/json_match"]
    counts = sample_diff.tally(demo, a, b, "intents/json_match", says)
    scores = [metric_scores(demo, require_run(demo, r))["intents/json_match"] for r in (a, b)]
    paired = pair(scores[0], scores[1])
    assert counts["regressed"] == int((paired.candidate < paired.anchor).sum())
    assert counts["fixed"] == int((paired.candidate > paired.anchor).sum())
    asked = (demo, a, b, "intents/json_match", says, sample_diff.task_digest(run, "intents"))
    pages = [
        row["sample_id"]
        for offset in range(0, 200, 50)
        for row in sample_diff.pairs(*asked, offset=offset, limit=50)
    ]
    assert sorted(pages) == sorted(paired.ids)
    first = sample_diff.pairs(*asked, limit=1)[0]
    assert first["gain"] == min(paired.candidate - paired.anchor)


def test_what_a_suite_reads_of_an_answer_stands_beside_it(tmp_path: Path) -> None:
    task = {
        "data": "capitals.jsonl",
        "prompt": {"user": "Capital of {{ country }}?"},
        "reference": "{{ capital }}",
        "answer": {"boxed": True},
        "metrics": ["exact_match"],
    }
    says = {"France": "<think>Lyon?</think>It is \\boxed{Paris}.", "Peru": "Lima"}
    suite = load_suite(suite_yaml(tmp_path, tasks={"ask": task, "plain": {**task, "answer": None}}))
    with Store(Workspace.at(tmp_path / "home").ensure()) as store:
        run = score(scripted(says)[0], suite, store).run.id
        (right,) = sample_diff.answers(store, run, "ask", "France")
        (unread,) = sample_diff.answers(store, run, "ask", "Peru")
        (plain,) = sample_diff.answers(store, run, "plain", "France")
    assert (right["text"], right["read"]) == (says["France"], "Paris")
    assert (unread["read"], plain["read"]) == ("", None)
