"""`docs/store.md` is right: its tables are the store's, and its queries run."""

import re
from pathlib import Path

import duckdb
import pytest

from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store.schema import markdown
from harness.store.store import Store
from harness.store.tables import TABLES
from harness.store.views import VIEWS

PAGE = (Path(__file__).parents[3] / "docs" / "store.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"([^\n]+)\n\n```sql\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A small history: two checkpoints of a training, one rolled back, one promoted."""
    folder = tmp_path_factory.mktemp("documented")
    workspace = Workspace.at(folder / ".ratchet")
    with Store(workspace) as store:
        for step, value in ((8, 1.0), (16, 0.0)):
            add_run(store, f"run-{step}", step, value)
        add_training(store)
        model = folder / "model"
        model.mkdir()
        (model / "model.safetensors").write_text("weights")
        registry = Registry(workspace, store)
        digest = registry.add(model, training_id="t", step=8, run_id="run-8")
        registry.promote("quickstart", digest)
    return workspace.database


def add_run(store, run, step, value):
    store.append(
        "runs",
        [{"run_id": run, "model": "m", "suite": "quickstart", "training_id": "t", "step": step}],
    )
    link = {"task": "intents", "sample_id": "s1", "kind": "generation", "response_index": 0}
    link["draw"] = 0
    store.append("responses", [{"key": f"{run}-k", "text": run, "latency_s": 0.5, **link}])
    store.append("run_responses", [{"run_id": run, "key": f"{run}-k", **link}])
    score = {"run_id": run, "task": "intents", "sample_id": "s1", "draw": 0}
    scored = {**score, "outcome": "scored", "response_index": 0}
    store.append(
        "scores",
        [
            {**scored, "metric": "json_match", "value": value},
            {**scored, "metric": "perplexity", "value": 12.0, "stats": [24.8, 10.0]},
            {**score, "metric": "toxicity", "outcome": "error", "reason": "timeout"},
        ],
    )
    store.append("run_events", [{"run_id": run, "event": "finished"}])


def add_training(store):
    store.append("trainings", [{"training_id": "t", "recipe": "quickstart"}])
    store.append(
        "training_steps", [{"training_id": "t", "step": n, "loss": 1.0 / n} for n in range(1, 17)]
    )
    store.append(
        "verdicts",
        [
            {
                "verdict_id": "v",
                "outcome": "fail",
                "against": "crest",
                "anchor_run": "run-8",
                "candidate_run": "run-16",
                "headline": "json_match fell",
            }
        ],
    )
    store.append(
        "verdict_metrics",
        [{"verdict_id": "v", "metric": "json_match", "required": True, "outcome": "fail"}],
    )
    detail = {"to": 8, "why": "json_match fell", "remedy": "skip_data", "verdicts": ["v"]}
    store.append(
        "training_events",
        [{"training_id": "t", "event": "rolled_back", "step": 16, "attempt": 1, "detail": detail}],
    )


def test_there_are_at_least_ten_queries():
    assert len(QUERIES) >= 10


@pytest.mark.parametrize(("title", "sql"), QUERIES, ids=[title for title, _ in QUERIES])
def test_each_query_answers_in_plain_duckdb(database, title, sql):
    with duckdb.connect(str(database), read_only=True) as plain:
        assert plain.execute(sql).fetchall(), title


def test_the_rollback_is_read_from_its_view(database):
    with duckdb.connect(str(database), read_only=True) as plain:
        sql = "SELECT failed_step, back_to_step, why, remedy, verdict_ids FROM rollbacks"
        assert plain.execute(sql).fetchall() == [(16, 8, "json_match fell", "skip_data", ["v"])]


def test_the_page_has_every_table_and_column():
    assert markdown(TABLES) in PAGE, "write it anew from harness.store.schema.markdown(TABLES)"


def test_the_page_has_every_view():
    for view in VIEWS:
        assert f"| {view} |" in PAGE
