"""Recipes and rows damaged at random: a plan or a UserError, never a crash."""

from __future__ import annotations

import io
import json
import random
import shutil
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import strategies as st
from rich.console import Console

from tests.damage_builders import allowed, damage, spoil
from tests.harness.fuzz.budget import fuzz
from tests.trainers.method_builders import write_method_world
from trainers.cli.summary import show_plan
from trainers.config.load import load_recipe

TRAINERS = ("sft", "dpo", "kto", "reward", "grpo", "rloo", "ppo")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole recipe of each trainer, with its suite, its rows and more keys than it needs."""
    found = {}
    for trainer in TRAINERS:
        path = write_method_world(tmp_path_factory.mktemp(trainer), Path("nowhere"), trainer)
        raw = yaml.safe_load(path.read_text("utf-8"))
        raw["data"] |= {"validation": 0.25, "curriculum": {"by": "rank", "start": 0.5}}
        raw["contamination"] = {"refuse_above": 1.0}
        raw["health"] = {"loss": {"at_most": 9.0}}
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        show_plan(load_recipe(path), Console(file=io.StringIO()))
        found[trainer] = path
    return found


def damaged_world(worlds: dict[str, Path], chance: random.Random) -> None:
    whole = worlds[chance.choice(TRAINERS)]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(whole.parent, folder, dirs_exist_ok=True)
        path = Path(folder) / whole.name
        rows = chance.choice(sorted(Path(folder).glob("*.jsonl")))
        turn = chance.randrange(5)
        if turn == 0:
            path.write_bytes(spoil(path.read_bytes(), chance))
        elif turn <= 2:
            raw = damage(yaml.safe_load(path.read_text("utf-8")), chance)
            path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        elif turn == 3:
            rows.write_bytes(spoil(rows.read_bytes(), chance))
        else:
            lines = rows.read_text("utf-8").splitlines()
            at = chance.randrange(len(lines))
            lines[at] = json.dumps(damage(json.loads(lines[at]), chance))
            rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
        allowed(lambda: show_plan(load_recipe(path), Console(file=io.StringIO())))


@pytest.mark.long
def test_a_damaged_recipe_is_a_plan_or_one_message(worlds: dict[str, Path]) -> None:
    seeds = st.integers(0, 2**63).map(random.Random)
    fuzz("files", seeds, lambda chance: damaged_world(worlds, chance), parts=2)
