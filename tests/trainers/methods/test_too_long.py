"""Rows that are too long are refused, dropped or cut, and counted before a weight is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from tests.tiny import save_tiny_llama
from tests.trainers.method_builders import job_of, write_method_world
from trainers.config.load import load_recipe
from trainers.config.recipe import Recipe
from trainers.methods.preflight import require_readable_rows

LONG = "The lazy dog does not mind. " * 12
SHORT = "yes"
ROWS = [
    {"q": "fox?", "a": SHORT, "b": "no"},
    {"q": "dog?", "a": LONG, "b": "no"},
    {"q": LONG, "a": SHORT, "b": "no"},
    *({"q": f"{n}?", "a": SHORT, "b": "no"} for n in range(9)),
]
ASKED = {"user": "{{ q }}"}
SOURCES: dict[str, dict[str, Any]] = {
    "sft": {"prompt": ASKED, "completion": "{{ a }}"},
    "dpo": {"prompt": ASKED, "chosen": "{{ a }}", "rejected": "{{ b }}"},
    "reward": {"prompt": ASKED, "chosen": "{{ a }}", "rejected": "{{ b }}"},
    "kto": {"prompt": ASKED, "completion": "{{ a }}", "label": "{{ q | length > 2 }}"},
    "grpo": {"prompt": ASKED},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("base"))


def world(folder: Path, base: Path, trainer: str, too_long: str | None, **data: Any) -> Path:
    path = write_method_world(folder, base, trainer)
    raw = yaml.safe_load(path.read_text("utf-8"))
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    (folder / "rows.jsonl").write_text(text, encoding="utf-8")
    mix = [{"source": "rows.jsonl", "weight": 1, **SOURCES[trainer]}]
    raw["data"] = {"seed": 3, "max_length": 48, "mix": mix, **data}
    if too_long is not None:
        raw["data"]["too_long"] = too_long
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def fitted(path: Path, base: Path) -> tuple[Recipe, Recipe]:
    loaded = load_recipe(path)
    workspace = Workspace.at(str(path.parent / "home"))
    return loaded, require_readable_rows(loaded, resolve(str(base), workspace))


@pytest.mark.parametrize("trainer", SOURCES)
def test_rows_that_are_too_long_are_left_out_where_the_recipe_says_so(
    tmp_path: Path, base: Path, trainer: str
) -> None:
    loaded, fits = fitted(world(tmp_path, base, trainer, "drop"), base)
    long = 1 if trainer == "grpo" else 2
    assert len(fits.stages[0].examples) == len(ROWS) - long
    (note,) = fits.stages[0].notes
    assert note.startswith(f"of 12 rows {long} with more than 48 tokens: rows.jsonl:")
    assert f"; {long} left out" in note
    assert fits.digest == loaded.digest


@pytest.mark.parametrize("trainer", ["sft", "dpo", "kto", "reward"])
def test_an_answer_is_cut_at_its_end_and_a_prompt_is_never(
    tmp_path: Path, base: Path, trainer: str
) -> None:
    path = world(tmp_path, base, trainer, "cut")
    _, fits = fitted(path, base)
    assert [example.line for example in fits.stages[0].examples] == [1, 2, *range(4, 13)]
    (note,) = fits.stages[0].notes
    assert "; 1 cut at the end; 1 left out, the prompt being too long" in note
    text = "".join(json.dumps(row) + "\n" for row in ROWS if row["q"] != LONG)
    (tmp_path / "rows.jsonl").write_text(text, encoding="utf-8")
    job, method = job_of(path, tmp_path / "home")
    dataset = method.make(job).train_dataset
    rows = [dataset[(n, n) if trainer == "kto" else n] for n in (0, 1)]
    name = {"sft": "input_ids", "dpo": "chosen_ids", "kto": "completion_ids"}
    cut, whole = (rows[n][name.get(trainer, "chosen_ids")] for n in (1, 0))
    before = rows[1].get("prompt_ids", [])
    assert len(before) + len(cut) == 48
    assert whole[-1] == job.tokenizer.eos_token_id or trainer == "reward"
    assert cut[-1] != job.tokenizer.eos_token_id or trainer == "reward"


def test_the_default_refuses_and_says_what_else_there_is(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match="2 of 12 rows have more than 48 tokens") as caught:
        fitted(world(tmp_path, base, "sft", None), base)
    assert "too_long: drop" in str(caught.value.hint)


def test_a_source_that_keeps_no_row_is_refused(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match=r"no row of rows\.jsonl has 8 tokens or fewer"):
        fitted(world(tmp_path, base, "sft", "drop", max_length=8), base)


def test_a_prompt_that_answers_are_drawn_to_is_not_cut(tmp_path: Path, base: Path) -> None:
    with pytest.raises(UserError, match="a prompt that is cut asks something else"):
        load_recipe(world(tmp_path, base, "grpo", "cut"))


def test_recipes_check_counts_them_before_the_plan(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "check", str(world(tmp_path, base, "sft", "drop"))]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "of 12 rows 2 with more than 48 tokens: rows.jsonl:2" in said
    assert "; 2 left out" in said
    elsewhere = world(tmp_path, Path("owner/model"), "sft", "drop")
    assert main(["recipes", "check", str(elsewhere)]) == 0
    assert "`ratchet train --dry-run` fetches the base" in capsys.readouterr().out
