"""Bad recipes: one message with its place and its hint, before a weight is loaded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from harness.core.errors import UserError
from tests.trainers.method_builders import stage_of, write_method_world
from tests.trainers.recipe_builders import edit
from trainers.config.load import load_recipe

NOWHERE = Path("nowhere")


OWN = {"kind": "function"}
BAD: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    ("sft", ("stages", 0, "stepss"), 3, "unknown key 'stepss'"),
    ("sft", ("adapter", "kind"), "qlora", "adapter"),
    ("sft", ("adapter",), {"kind": "prefix", "rank": 4}, "has no 'rank'"),
    ("sft", ("adapter",), {"kind": "lora", "virtual_tokens": 4}, "has no 'virtual_tokens'"),
    ("sft", ("quantize",), "3bit", "4bit"),
    ("sft", ("quantise",), "3bit", "4bit"),
    ("dpo", ("adapter",), {"kind": "prefix"}, "can't train a prefix"),
    ("dpo", ("data", "mix", 0, "chosen"), "{{ missing }}", "'missing' is undefined"),
    ("kto", ("data", "mix", 0, "label"), "perhaps", "a label is true or false"),
    ("kto", ("stages", 0, "batch_size"), 1, "at least 2"),
    ("sft", ("data", "mix", 0, "where"), {"ask": "no such question"}, "no row .* is left"),
    ("sft", ("data", "mix", 0, "where"), {"colour": "red"}, "'colour' of `where` is not a field"),
    ("sft", ("data", "validation"), 0.001, "can't be split"),
    ("sft", ("health",), {"kl": {"at_most": 1}}, "doesn't measure 'kl'"),
    ("sft", ("health",), {"loss_gap": {"at_most": 1}}, "needs rows to validate on"),
    ("grpo", ("health",), {"rewards/json": {"at_most": 1}}, "doesn't measure 'rewards/json'"),
    ("grpo", ("stages", 0, "generations"), 3, "can't be shared evenly"),
    ("grpo", ("stages", 0, "reuse"), 4, "multiple of reuse"),
    ("grpo", ("stages", 0, "rewards"), [], "needs `rewards`"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "lenght"}], "no metric named 'lenght'"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "self_bleu"}], "judges no single answer"),
    ("ppo", ("stages", 0, "rewards"), [{"kind": "function", "path": "no.py:f"}], "has no file"),
    ("rloo", ("stages", 0, "rewards"), [{"kind": "model", "path": "./no"}], "has no model at"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "model", "path": "stage:x"}], "no reward stage"),
    (
        "grpo",
        ("stages", 0, "rewards"),
        [{"kind": "rouge_l", "reference": "{{ nope }}"}],
        "'nope' is undefined",
    ),
    ("ppo", ("stages", 0, "safety"), {"file": "words.txt"}, "word list is not there"),
    ("sft", ("stages", 0, "safety"), {"tries": 2}, "the trainer sft has no 'safety'"),
    ("dpo", ("stages", 0, "rewards"), [{"kind": "json_valid"}], "the trainer dpo has no 'rewards'"),
    ("grpo", ("stages", 0, "ppo"), {"epochs": 2}, "the trainer grpo has no 'ppo'"),
    ("sft", ("data", "mix", 0, "source"), "empty.jsonl", "has no rows"),
    ("ppo", ("adapter",), {"kind": "none"}, "needs a LoRA adapter"),
    ("ppo", ("stages", 0, "ppo"), {"epochs": 3}, "multiple of epochs"),
    ("reward", ("gate", "suite"), "suite.yaml", "asks for perplexity"),
    ("sft", ("adapter", "targets"), "q_proj, v_proj", "a list is expected here"),
    ("sft", ("adapter", "targets"), "(q_proj", "no regular expression"),
    ("sft", ("adapter", "targets"), "(" * 9000, "no regular expression"),
    ("sft", ("adapter", "alpha_pattern"), {"(?i)q_proj": 2}, "no regular expression"),
    ("sft", ("adapter", "rank_pattern"), {"q_proj": 0}, "greater than or equal to 1"),
    ("sft", ("adapter", "init"), "lora-ga", "pissa"),
    ("sft", ("adapter",), {"kind": "dora", "init": "pissa"}, "begins from the base"),
    ("sft", ("adapter",), {"init": "orthogonal", "rank": 3}, "must be even"),
    ("sft", ("stages",), {"trainer": "sft"}, "a list is expected here"),
    ("sft", ("data", "mix"), "rows.jsonl", "a list is expected here"),
    ("sft", ("data", "mix", 0, "completion"), "{{ ask.upper }}", "the function 'upper' stands"),
    ("sft", ("webhook",), "ftp://x", "webhook"),
    ("sft", ("webhook",), "http://", "webhook|pattern"),
    ("sft", ("line",), "../elsewhere", "can't be a name"),
    ("sft", ("line",), "a" * 101, "at most 100"),
    ("sft", ("seed",), -1, "greater than or equal to 0"),
    ("sft", ("start",), "nowhere", "no checkpoint at nowhere"),
    ("sft", ("stages",), [], "this list is empty"),
    ("sft", ("stages", 0, "learning_rate"), math.inf, "finite"),
    ("sft", ("data", "mix", 0, "weight"), math.inf, "finite"),
    ("sft", ("stages", 0, "steps"), 20_000_000, "more than the 20000000 rows"),
    ("sft", ("stages", 0, "warmup_steps"), 6, "the learning rate would never be reached"),
    ("sft", ("gate", "on_inconclusive"), {"looks": [2, 1]}, "looks are rising numbers"),
    ("sft", ("gate", "on_inconclusive"), {"looks": []}, "looks are rising numbers"),
    ("sft", ("gate", "suite"), "nowhere.yaml", "the suite is not there"),
    ("sft", ("health",), {"loss": {"at_least": 3, "at_most": 1}}, "nothing lies between"),
    ("sft", ("health",), {"loss": 3}, "keys and values are expected here"),
    ("sft", ("data", "mix", 0, "segments"), [0], "greater than or equal to 1"),
    ("sft", ("data", "mix", 0, "completion"), "{{ none }}", "a value is null"),
    ("sft", ("data", "mix", 0, "completion"), " ", "the completion of row 'p0' is empty"),
    ("sft", ("data", "mix", 0, "prompt"), {"user": ""}, "the prompt of row 'p0' is empty"),
    ("dpo", ("data", "mix", 0, "rejected"), "{{ good }}", "answer of row 'p0' are the same"),
    ("reward", ("data", "mix", 0, "rejected"), "{{ good }}", "answer of row 'p0' are the same"),
    ("kto", ("data", "mix", 0, "label"), "true", "the label of every row is true"),
    ("sft", ("data", "curriculum"), {"by": "ask"}, "no finite number in 'ask'"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "json_valid"}] * 2, "two rewards are named"),
    ("grpo", ("stages", 0, "rewards"), [{"kind": "json_valid", "path": "x"}], "has no 'path'"),
    ("grpo", ("stages", 0, "rewards"), [OWN | {"path": "mine.py:g"}], "no function 'g'"),
    ("grpo", ("stages", 0, "rewards"), [OWN | {"path": "broken.py:f"}], "can't be loaded"),
]


@pytest.mark.parametrize(("trainer", "place", "value", "says"), BAD)
def test_a_bad_recipe_is_refused(
    tmp_path: Path, trainer: str, place: tuple[str | int, ...], value: Any, says: str
) -> None:
    path = write_method_world(tmp_path, NOWHERE, trainer)
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "mine.py").write_text("def f(**columns): ...\n", encoding="utf-8")
    (tmp_path / "broken.py").write_text("def f(**columns: ...\n", encoding="utf-8")
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(edit(path, *place, value=value))
    assert caught.value.file is not None


def test_an_empty_system_column_is_no_turn(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    edit(path, "data", "mix", 0, "prompt", "system", value="{{ '' if loop is undefined }}")
    assert {len(e.prompt) for e in load_recipe(path).stages[0].examples} == {1}
    edit(path, "data", "mix", 0, "prompt", "system", value="")
    assert {len(e.prompt) for e in load_recipe(path).stages[0].examples} == {2}


@pytest.mark.parametrize(
    ("text", "says", "line"),
    [
        (b"name: [a\nline: b\n", "not valid YAML", 2),
        (b"name: \xff\n", "not UTF-8", None),
        (b"name: a\x00\n", "not valid YAML", None),
        (b"- a\n", "a mapping of keys to values", 1),
        (b"", "a mapping of keys to values", 1),
        (b"name: a\nname: b\n", "'name' is written twice", 2),
        (b"data:\n  mix: &all\n    - *all\n", "an alias stands inside", 2),
        (b"name: !!python/object/apply:os.getpid []\n", "not valid YAML", 1),
        (b"name: 2026-02-31\n", "looks like a date", None),
        (b"? [a, b]\n: c\n", "a key is a plain word", 1),
        (b"name: a\n<<: 3\n", "not valid YAML", 2),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, text: bytes, says: str, line: int | None) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text)
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(path)
    assert caught.value.file == str(path)
    assert caught.value.line == line


def test_one_fault_in_a_list_is_one_complaint(tmp_path: Path) -> None:
    """pydantic calls the list too short as well, for want of the item that is wrong."""
    path = write_method_world(tmp_path, NOWHERE, "sft")
    with pytest.raises(UserError) as caught:
        load_recipe(edit(path, "data", "mix", 0, "wieght", value=1))
    assert caught.value.what == "unknown key 'wieght'"
    assert caught.value.hint == "did you mean 'weight'?"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (b'{"ask": "\xff"}\n', "not UTF-8"),
        (b'{"ask": "a"\n', "not JSON"),
        (b"[1]\n", "a JSON object, not list"),
        (b"\n\n", "has no rows"),
        (b'{"ask": "a", "good": "b", "good": "c"}\n', "'good' is written twice"),
        (b'{"ask": "a", "good": null}\n', "a value is null"),
        (b'{"ask": "a", "good": NaN}\n', "a value is null"),
        (b'{"ask": "a"}\n', "'good' is undefined; the row's fields are: ask"),
    ],
)
def test_data_that_cannot_be_learned_from(tmp_path: Path, rows: bytes, says: str) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    (tmp_path / "pairs.jsonl").write_bytes(rows)
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(path)
    assert str(caught.value.file).endswith("pairs.jsonl")


def test_data_of_another_shape_than_the_trainer_learns_from(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "dpo")
    edit(path, "stages", 0, value=stage_of("kto"))
    with pytest.raises(UserError, match="can't learn from a source of `prompt`, `chosen`") as found:
        load_recipe(path)
    assert "label" in str(found.value.hint)


def test_a_stage_without_a_gate(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    raw = yaml.safe_load(path.read_text("utf-8"))
    del raw["gate"]
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(UserError, match="has no `gate`"):
        load_recipe(path)


def test_two_stages_of_one_name(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    stages = [stage_of("sft"), stage_of("sft")]
    with pytest.raises(UserError, match="two stages are named 'sft'"):
        load_recipe(edit(path, "stages", value=stages))


LLAMA_FACTORY = "model_name_or_path: /m\nstage: sft\nfinetuning_type: lora\ndataset: a,b\n"
AXOLOTL = "base_model: a/b\nadapter: qlora\ndatasets:\n  - path: d.jsonl\n    type: chat_template\n"
SWIFT = "model: a/b\ntrain_type: lora\ndataset:\n  - a/b#500\n"


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        (LLAMA_FACTORY, "a configuration of LLaMA-Factory", "model_name_or_path: write `base`"),
        (LLAMA_FACTORY, "a configuration of LLaMA-Factory", "`ratchet recipes from recipe.yaml"),
        (AXOLOTL, "a configuration of axolotl", "base_model: write `base`"),
        (SWIFT, "a configuration of ms-swift", "model: write `base`"),
        ("model_name_or_path: a\ndataset_name: b\noutput_dir: c\n", "of TRL", "write `base`"),
        ("name: s\ntasks: {}\n", "a suite, not a recipe", "gate: {suite: ...}"),
    ],
)
def test_another_tools_file_is_recognized(tmp_path: Path, text: str, says: str, hint: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(path)
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        (("stages", 0, "num_train_epochs"), "`epochs`"),
        (("stages", 0, "save_steps"), "checkpoint_every"),
        (("stages", 0, "gradient_checkpointing"), "trainer_options: {gradient_checkpointing: on}"),
        (("stages", 0, "loss_type"), "leave it out"),
        (("stages", 0, "warmup_ratio"), "warmup_steps"),
        (("adapter", "r"), "rank"),
        (("adapter", "target_modules"), "targets"),
        (("load_in_4bit",), "quantize: 4bit"),
        (("data", "cutoff_len"), "max_length"),
        (("data", "mix", 0, "conversations"), 'messages: "{{ conversations }}"'),
        (("data", "mix", 0, "mask_history"), "learn: last"),
        (("data", "truncation_strategy"), "too_long"),
        (("data", "cutoff_len"), "a key of LLaMA-Factory: write"),
        (("stages", 0, "micro_batch_size"), "a key of axolotl: write"),
        (
            ("stages", 0, "save_total_limit"),
            "of the Trainer of transformers: recipes have none",
        ),
        (("rlhf_type",), "a key of ms-swift"),
        (("stages", 0, "assistant_only_loss"), "a key of TRL"),
        (("data", "chat_template_kwargs"), "template"),
    ],
)
def test_another_tools_key_is_answered_with_ours(
    tmp_path: Path, place: tuple[str | int, ...], hint: str
) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    edit(path, "adapter", value={"kind": "lora"})
    with pytest.raises(UserError, match="unknown key") as caught:
        load_recipe(edit(path, *place, value=1))
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(
    ("source", "says", "hint"),
    [
        ("d.json", "no list of objects", "jq"),
        ("d.jsonl.gz", "can't be unpacked as .gz", "fetch it again"),
        ("d.tsv", "can't be read", "read_csv"),
        (".", "files of several kinds: .json, .jsonl", "/*.json"),
        ("empty", "has no file of rows", "name a file"),
        ("hub:nobody/nothing-of-the-kind", "can't be loaded", "check its name"),
        ("https://x/d.jsonl", "is not there", "fetch it first"),
        ("~/d.jsonl", "is not there", str(Path("~/d.jsonl").expanduser())),
        ("nothing-*.jsonl", "no file matches", "looked in"),
        ("no.jsonl", "is not there", "looked for"),
        ("owner/name", "is not there", "`hub:owner/name`"),
        ("", "at least 1 character", ""),
    ],
)
def test_data_that_cant_be_read_is_refused_with_a_way(
    tmp_path: Path, source: str, says: str, hint: str
) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    for name in ("d.json", "d.jsonl.gz", "d.tsv"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(edit(path, "data", "mix", 0, "source", value=source))
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize("mark", ["{ask}", "${ask}", "Q: $ask", "{ask}?"])
def test_a_field_in_another_languages_marks_is_refused(tmp_path: Path, mark: str) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    with pytest.raises(UserError, match="is not filled in: write"):
        load_recipe(edit(path, "data", "mix", 0, "prompt", "user", value=mark))
    for meant in ("{other}", "{{ ask }} {ask}", '{"a": 1}', "$5"):
        load_recipe(edit(path, "data", "mix", 0, "prompt", "user", value=meant))


@pytest.mark.parametrize("nothing", ["\u200b", "\ufeff", "\u2060\n", "\u00a0", "\u200e "])
def test_marks_that_nobody_sees_are_no_answer(tmp_path: Path, nothing: str) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    with pytest.raises(UserError, match="the completion of row 'p0' is empty"):
        load_recipe(edit(path, "data", "mix", 0, "completion", value=nothing))


@pytest.mark.parametrize(
    ("files", "adapter", "says"),
    [
        ((), {"kind": "lora"}, "neither adapter_config.json nor config.json"),
        (("config.json",), {"kind": "lora"}, "is a whole model"),
        (("adapter_config.json",), {"kind": "none"}, "is an adapter"),
    ],
)
def test_a_start_that_is_no_checkpoint_of_the_recipe_is_refused(
    tmp_path: Path, files: tuple[str, ...], adapter: dict[str, str], says: str
) -> None:
    path = write_method_world(tmp_path, NOWHERE, "sft")
    (tmp_path / "begun").mkdir()
    for name in files:
        (tmp_path / "begun" / name).write_text("{}", encoding="utf-8")
    edit(path, "adapter", value=adapter)
    with pytest.raises(UserError, match=says):
        load_recipe(edit(path, "start", value="begun"))
    with pytest.raises(UserError, match="at least 1 character"):
        load_recipe(edit(path, "start", value=""))


def test_labels_as_tables_write_them(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, NOWHERE, "kto")
    edit(path, "data", "mix", 0, "label", value="{{ '1.0' if ask | length is even else '0.0' }}")
    assert {e.label for e in load_recipe(path).stages[0].examples} == {True, False}


def test_a_path_that_no_file_system_takes_is_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = edit(
        write_method_world(tmp_path, NOWHERE, "sft"), "data", "mix", 0, "source", value="x" * 5000
    )
    with pytest.raises(UserError, match="longer than the file system takes"):
        load_recipe(path)
    assert main(["recipes", "check", str(path)]) == 3
    assert "shorten the path" in capsys.readouterr().err
