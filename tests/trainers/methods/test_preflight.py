"""Rows that can't be learned from are counted and named before a weight of the base is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from tests.tiny import CHAT_TEMPLATE, save_tiny_llama, tiny_tokenizer
from tests.trainers.method_builders import TEMPLATES, job_of, write_method_world
from trainers.config.load import load_recipe
from trainers.methods.models import adapted
from trainers.methods.preflight import require_readable_rows

NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}" + CHAT_TEMPLATE
)


def world(folder: Path, trainer: str, rows: list[dict[str, Any]], base: Path, **data: Any) -> Path:
    """A recipe of that trainer on `rows`, each with `ask`, `good`, `bad` and `ok`."""
    source = data.pop("source", {})
    path = write_method_world(folder, base, trainer, source=source)
    whole = [{"good": "yes", "bad": "no", "ok": n % 2 == 0, **row} for n, row in enumerate(rows)]
    lines = "".join(json.dumps(row) + "\n" for row in whole)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["data"]["mix"][0]["source"] = "rows.jsonl"
    raw["data"].update(data)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def look(path: Path) -> None:
    loaded = load_recipe(path)
    place = Workspace(path.parent / "w").ensure()
    require_readable_rows(loaded, resolve(loaded.model.base, place))


ROWS = [{"ask": f"fox {n}?"} for n in range(20)]
LONG = "word " * 25


@pytest.mark.parametrize("trainer", sorted(TEMPLATES))
def test_long_rows_are_counted_and_named(tmp_path: Path, tiny_llama: Path, trainer: str) -> None:
    rows = [{"ask": LONG if n in (3, 7, 8) else f"fox {n}?"} for n in range(20)]
    path = world(tmp_path, trainer, rows, tiny_llama, max_length=64)
    with pytest.raises(UserError, match=r"^3 of 20 rows have more than 64 tokens") as refused:
        look(path)
    error = refused.value
    for line in (4, 8, 9):
        assert f"rows.jsonl:{line} (" in error.what
    assert (error.line, str(error.file).endswith("rows.jsonl")) == (4, True)
    assert "raise data.max_length to" in str(error.hint)
    look(world(tmp_path, trainer, ROWS, tiny_llama, max_length=64))


@pytest.mark.parametrize("column", ["good", "bad"])
def test_either_answer_of_a_pair_may_be_too_long(
    tmp_path: Path, tiny_llama: Path, column: str
) -> None:
    rows = [*ROWS, {"ask": "fox?", column: LONG}]
    with pytest.raises(UserError, match=r"row .* has .* tokens, more than 64") as refused:
        look(world(tmp_path, "dpo", rows, tiny_llama, max_length=64))
    assert refused.value.line == 21


def test_no_setting_helps_where_the_model_itself_reads_less(
    tmp_path: Path, tiny_llama: Path
) -> None:
    rows = [{"ask": LONG * 12}, *ROWS]
    with pytest.raises(UserError, match="all that the model reads") as refused:
        look(world(tmp_path, "sft", rows, tiny_llama))
    assert "max_length" not in str(refused.value.hint)


def test_room_for_the_answer_counts_where_answers_are_drawn(
    tmp_path: Path, tiny_llama: Path
) -> None:
    path = world(tmp_path, "grpo", ROWS, tiny_llama, max_length=12)
    with pytest.raises(UserError, match="20 of 20 rows have more than 12 tokens"):
        look(path)


def base_with(folder: Path, template: str | None) -> Path:
    save_tiny_llama(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    if template is None:
        for left in folder.glob("chat_template*"):
            left.unlink()
    return folder


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (NO_SYSTEM, "System role not supported"),
        ("{% for m in messages %}{{ m.content }}", "end of template"),
        ("{{ frobnicate(messages) }}", "frobnicate"),
        ("{{ messages[0]['content'] + 1 }}", "concatenate"),
        ("{{ messages[7].content }}", "7"),
    ],
)
def test_a_template_that_refuses_a_row_is_named_with_it(
    tmp_path: Path, template: str, says: str
) -> None:
    base = base_with(tmp_path / "m", template)
    source = {"prompt": {"system": "Be brief.", "user": "{{ ask }}"}}
    path = world(tmp_path, "sft", ROWS, base, source=source)
    with pytest.raises(UserError, match=says) as refused:
        look(path)
    assert (refused.value.line, "system, user" in refused.value.what) == (1, True)


def test_tokens_without_an_embedding_are_named(tmp_path: Path) -> None:
    base = save_tiny_llama(tmp_path / "m")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<tool>", "</tool>"]})
    tokenizer.save_pretrained(base)
    rows = [{"ask": "fox?", "good": "<tool>yes" if n in (4, 9) else "yes"} for n in range(20)]
    with pytest.raises(UserError, match="2 of 20 rows have tokens") as refused:
        look(world(tmp_path, "sft", rows, base))
    assert refused.value.line == 5
    look(world(tmp_path, "sft", ROWS, base))


@pytest.mark.parametrize("words", [["recipes", "check"], ["train", "--dry-run"], ["train"]])
def test_every_verb_says_so_and_ends_with_3(
    tmp_path: Path,
    tiny_llama: Path,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "w"))
    monkeypatch.setattr("harness.models.resolve.load", lambda *_, **__: pytest.fail("it is loaded"))
    path = world(tmp_path, "sft", [*ROWS, {"ask": LONG}], tiny_llama, max_length=64)
    verb, *options = words
    place = [*options, str(path)] if verb == "recipes" else [str(path), *options]
    assert main([verb, *place]) == 3
    said = capsys.readouterr().err
    assert "rows.jsonl:21" in said
    assert "defect" not in said


@pytest.mark.parametrize(
    ("adapter", "says"),
    [
        ({"targets": ["self_attn"]}, "is a LlamaAttention"),
        ({"targets": ["norm"]}, "is a LlamaRMSNorm"),
        ({"targets": ["mlp", "q_proj"]}, "is a LlamaMLP"),
        ({"targets": ["c_attn"]}, "no module named 'c_attn'"),
        ({"modules_to_save": ["nothing"]}, "no module named 'nothing'"),
        ({"targets": ["q_proj"], "modules_to_save": ["q_proj"]}, "and trained whole as well"),
        ({"targets": ["q_proj", "embed_tokens"]}, "could never be merged"),
        ({"targets": ["q_proj", "lm_head"]}, "could never be merged"),
    ],
)
def test_an_adapter_that_can_not_be_is_refused(
    tmp_path: Path, tiny_llama: Path, adapter: dict[str, Any], says: str
) -> None:
    from harness.models.resolve import load

    recipe = write_method_world(tmp_path, tiny_llama, "sft", adapter={"rank": 2, **adapter})
    loaded = load_recipe(recipe)
    model, _ = load(resolve(str(tiny_llama), Workspace(tmp_path / "w").ensure()))
    with pytest.raises(UserError, match=says) as refused:
        adapted(model, loaded)
    hint = str(refused.value.hint)
    if "its modules are named" in hint:
        assert "self_attn" not in hint
        offered = hint.partition("named ")[2].split(", ")
        names = [name for name in offered if name]
        assert not {"embed_tokens", "lm_head"} & set(names)
        good = write_method_world(
            tmp_path, tiny_llama, "sft", adapter={"rank": 2, "targets": names}
        )
        assert adapted(model, load_recipe(good)) is not None


def test_a_base_that_is_no_whole_known_model_is_refused_by_the_check(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(base: str, says: str) -> None:
        path = write_method_world(tmp_path, Path(base), "sft")
        assert main(["recipes", "check", str(path)]) == 3
        said = capsys.readouterr()
        assert says in said.err.replace("\n", " ")
        assert "[y/N]" not in said.out

    refused(str(tmp_path / "nowhere"), "there is no model at")
    (tmp_path / "file").touch()
    refused(str(tmp_path / "file"), "a model is a folder")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tiny_llama)}
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (adapter / "adapter_model.safetensors").touch()
    refused(str(adapter), f"write `base: {tiny_llama}` and `start: {adapter}`")
    own = tmp_path / "own"
    shutil.copytree(tiny_llama, own)
    config = json.loads((own / "config.json").read_text("utf-8"))
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}
    (own / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(str(own), "comes with code of its own for models of the type 'mine'")


@pytest.mark.parametrize("words", [["recipes", "check"], ["train", "--dry-run"], ["train"]])
@pytest.mark.parametrize(
    ("targets", "says"),
    [(["q_proj", "lm_head"], "could never be merged"), (["c_attn"], "no module named 'c_attn'")],
)
def test_an_adapter_is_looked_at_before_a_weight_is_read(
    tmp_path: Path,
    tiny_llama: Path,
    words: list[str],
    targets: list[str],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "w"))
    monkeypatch.setattr("harness.models.resolve.load", lambda *_, **__: pytest.fail("it is loaded"))
    path = write_method_world(tmp_path, tiny_llama, "sft", adapter={"targets": targets})
    verb, *options = words
    place = [*options, str(path)] if verb == "recipes" else [str(path), *options]
    assert main([verb, *place]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert says in said
    assert "adapter.targets" in said
    assert "defect" not in said


@pytest.mark.parametrize("trainer", sorted(TEMPLATES))
def test_what_the_check_lets_through_the_trainer_takes(
    tmp_path: Path, tiny_llama: Path, trainer: str
) -> None:
    """And no more: at the length that the check names, and at one token less."""

    def tried(length: int, through: Callable[[Path], object]) -> bool:
        path = world(tmp_path, trainer, rows, tiny_llama, max_length=length)
        try:
            through(path)
        except UserError as error:
            return "tokens" not in error.what
        return True

    def check(path: Path) -> None:
        recipe = load_recipe(path)
        require_readable_rows(
            recipe, resolve(recipe.model.base, Workspace(tmp_path / "w").ensure())
        )

    def make(path: Path) -> None:
        job, method = job_of(path, tmp_path / "w")
        method.make(job)

    rows = [{"ask": "table " * 9}, *({"ask": f"fox {n}?"} for n in range(7))]
    shortest = min(length for length in range(8, 100) if tried(length, check))
    assert [tried(shortest, make), tried(shortest - 1, make)] == [True, False]
