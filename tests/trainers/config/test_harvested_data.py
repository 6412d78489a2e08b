"""A recipe learns from what users corrected, and never from what its suite asks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from harness.core.workspace import Workspace
from harness.store.store import Store
from harness.watch.feedback.harvest import harvest
from harness.watch.feedback.reviews import pending, review, write
from trainers.config.contamination import check_recipe
from trainers.config.load import load_recipe
from trainers.config.schema import ContaminationModel

TOPICS = (
    "refund",
    "parcel",
    "table",
    "password",
    "invoice",
    "coupon",
    "address",
    "garden",
    "engine",
    "violin",
    "carpet",
    "ladder",
    "window",
    "island",
    "mirror",
    "pencil",
    "rocket",
    "saddle",
    "turtle",
    "walnut",
)

RECIPE = """
name: from-production
line: support-bot
base: smollm2-135m-instruct
data:
  mix:
    - source: {name}.jsonl
      weight: 1
      prompt: {{user: "{{{{ prompt }}}}"}}
      {columns}
stages:
  - {{trainer: {trainer}, steps: 4, checkpoint_every: 2, batch_size: 2}}
gate:
  suite: {suite}.yaml
"""

ASKED = """
name: production
tasks:
  asked:
    data: suite.jsonl
    prompt: {user: "{{ prompt }}"}
    reference: "{{ target }}"
    metrics: [rouge_l]
"""

COLUMNS = {
    "sft": 'completion: "{{ completion }}"',
    "preference": 'chosen: "{{ chosen }}"\n      rejected: "{{ rejected }}"',
}


def test_one_harvest_feeds_a_suite_and_recipes(tmp_path: Path) -> None:
    with Store(Workspace.at(tmp_path / ".ratchet")) as store:
        store.append(
            "observations",
            [
                {
                    "observation_id": topic,
                    "line": "support-bot",
                    "prompt": f"My {topic} does not work as the {topic} of my friend does, why?",
                    "response": "I do not know.",
                    "corrected_text": f"Every {topic} has to be registered first.",
                    "observed_at": datetime.now(UTC),
                }
                for topic in TOPICS
            ],
        )
        harvest(store, "support-bot", suite_share=0.4)
        for item in pending(store, 100):
            review(store, item.item_id, yes=True, reviewer="Mei")
        rows = {
            goal: write(store, goal, tmp_path / f"{goal}.jsonl").rows
            for goal in ("suite", "sft", "preference")
        }
    assert rows["sft"] == rows["preference"] == len(TOPICS) - rows["suite"]
    assert rows["suite"] > 1
    (tmp_path / "production.yaml").write_text(ASKED)
    for goal, trainer in (("sft", "sft"), ("preference", "dpo")):
        path = tmp_path / f"{goal}.yaml"
        path.write_text(
            RECIPE.format(name=goal, columns=COLUMNS[goal], trainer=trainer, suite="production")
        )
        recipe = load_recipe(path)
        (stage,) = recipe.stages
        assert len(stage.examples) == rows[goal]
        # Nothing that is asked is learned, with no share of it allowed.
        check_recipe(recipe).require(ContaminationModel(refuse_above=0.0))
