"""Training learns, draws to and credits the token at which the scorer stops, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from tests.tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from tests.trainers.method_builders import job_of, write_method_world
from trainers.methods.turns import text_end, turn_end

OTHER_ENDS = CHAT_TEMPLATE.replace("<|im_end|>", "<end_of_turn>")


def base(folder: Path, *, template: str | None = CHAT_TEMPLATE, **special: str | None) -> Path:
    """A tiny model that knows `<end_of_turn>` and `<|endoftext|>` too; `eos` and `pad` as said."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>", "<|endoftext|>"]})
    tokenizer.chat_template = template
    for name, token in special.items():
        setattr(tokenizer, f"{name}_token", token)
    model = tiny_model(
        len(tokenizer), eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


CASES = [
    ({}, "<|im_end|>", "<|im_end|>"),
    ({"eos": "<|endoftext|>"}, "<|im_end|>", "<|endoftext|>"),
    ({"eos": "<|endoftext|>", "pad": "<|endoftext|>"}, "<|im_end|>", "<|endoftext|>"),
    ({"pad": "<|im_end|>"}, "<|im_end|>", "<|im_end|>"),
    ({"pad": None}, "<|im_end|>", "<|im_end|>"),
    ({"template": OTHER_ENDS}, "<end_of_turn>", "<|im_end|>"),
    ({"template": OTHER_ENDS, "eos": "<|endoftext|>"}, "<end_of_turn>", "<|endoftext|>"),
    ({"template": None}, "<|im_end|>", "<|im_end|>"),
    ({"template": None, "eos": "<|endoftext|>"}, "<|endoftext|>", "<|endoftext|>"),
    ({"template": "{{ messages[0].content }}"}, "<|im_end|>", "<|im_end|>"),
    ({"template": CHAT_TEMPLATE, "eos": None}, "<|im_end|>", "<|im_end|>"),
    ({"template": OTHER_ENDS + "{% if x %}{{ y }}{% endif %}"}, "<end_of_turn>", "<|im_end|>"),
]


@pytest.mark.parametrize(("made", "turn", "text"), CASES)
def test_the_end_that_is_learned_is_one_that_the_scorer_stops_at(
    tmp_path: Path, made: dict[str, Any], turn: str, text: str
) -> None:
    recipe = write_method_world(tmp_path, base(tmp_path / "m", **made), "sft")
    job, method = job_of(recipe, tmp_path / "w")
    ids = job.tokenizer.convert_tokens_to_ids([turn, text])
    assert [turn_end(job), text_end(job)] == ids
    assert set(ids) <= job.backend.ends
    row = method.make(job).train_dataset[0]
    assert row["labels"][-1] == row["input_ids"][-1] == ids[0]


@pytest.mark.parametrize(
    ("trainer", "columns"), [("dpo", ("chosen_ids", "rejected_ids")), ("kto", ("completion_ids",))]
)
def test_preferences_end_alike(tmp_path: Path, trainer: str, columns: tuple[str, ...]) -> None:
    made = base(tmp_path / "m", template=OTHER_ENDS, eos="<|endoftext|>")
    job, method = job_of(write_method_world(tmp_path, made, trainer), tmp_path / "w")
    rows = method.make(job).train_dataset
    row = rows[0] if trainer == "dpo" else rows[0, 1]
    for column in columns:
        assert row[column][-1] == turn_end(job)


def test_a_base_without_any_end_is_refused(tmp_path: Path) -> None:
    made = base(tmp_path / "m", template="{{ messages[0].content }}", eos=None)
    job, method = job_of(write_method_world(tmp_path, made, "sft"), tmp_path / "w")
    assert not job.backend.ends
    with pytest.raises(UserError, match="has no end token") as refused:
        method.make(job)
    assert "eos_token" in str(refused.value.hint)


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_groups_are_drawn_to_every_end_and_from_the_policy_alone(
    tmp_path: Path, trainer: str
) -> None:
    import torch
    from transformers import GenerationConfig

    made = base(tmp_path / "m", template=OTHER_ENDS, eos="<|endoftext|>")
    job, method = job_of(write_method_world(tmp_path, made, trainer), tmp_path / "w")

    def drawn() -> list[list[int]]:
        trainer_ = method.make(job)
        assert set(trainer_.eos_token_ids) == job.backend.ends
        trainer_.model.train()
        torch.manual_seed(5)
        with torch.no_grad():
            rows = [dict(trainer_.train_dataset[0]) for _ in range(4)]
            ids: list[list[int]] = trainer_._generate_and_score_completions(rows)[
                "completion_ids"
            ].tolist()
        return ids

    plain = drawn()
    inner = job.model.get_base_model()
    own = GenerationConfig(
        eos_token_id=inner.generation_config.eos_token_id,
        min_new_tokens=6,
        no_repeat_ngram_size=2,
        suppress_tokens=[5, 6, 7],
        repetition_penalty=1.5,
    )
    job, method = job_of(write_method_world(tmp_path, made, trainer), tmp_path / "w")
    job.model.get_base_model().generation_config = own
    assert drawn() == plain
    kept = job.model.get_base_model().generation_config
    assert (kept.min_new_tokens, kept.suppress_tokens) == (6, [5, 6, 7])


def test_ppo_credits_the_token_that_was_drawn(tmp_path: Path) -> None:
    made = base(tmp_path / "m", template=OTHER_ENDS, eos="<|endoftext|>")
    stage = {"max_new_tokens": 64, "batch_size": 64, "temperature": 1000.0}
    job, method = job_of(write_method_world(tmp_path, made, "ppo", stage=stage), tmp_path / "w")
    trainer = method.make(job)
    answers = trainer.rollout(0).answers
    last = [answer.tokens[-1] for answer in answers if len(answer.tokens) < 64]
    assert len(set(last)) > 1  # of several ends, each is credited as itself
    assert set(last) <= job.backend.ends
    for answer in answers:
        assert not set(answer.tokens[:-1]) & job.backend.ends


def with_bos(folder: Path, template: str | None) -> Path:
    """A base whose tokenizer puts `<|endoftext|>` before every text, as Llama's does its BOS."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    base(folder, template=template)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", begin)]
    )
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, "<|endoftext|>" + CHAT_TEMPLATE, None])
@pytest.mark.parametrize("trainer", ["sft", "dpo", "kto", "reward", "grpo", "rloo", "ppo"])
def test_every_trainer_asks_with_the_tokens_of_the_scorer(
    tmp_path: Path, trainer: str, template: str | None
) -> None:
    recipe = write_method_world(tmp_path, with_bos(tmp_path / "m", template), trainer)
    job, method = job_of(recipe, tmp_path / "w")
    made = method.make(job)
    example = job.stage.examples[0]
    asked = list(job.backend.encode_chat(example.prompt))
    begin = job.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert asked[0] == begin
    assert asked.count(begin) == 1
    if trainer in ("grpo", "rloo"):
        row: Any = dict(made.train_dataset[0])
        seen = made._generate_and_score_completions([row] * 4)
        masked = zip(seen["prompt_ids"][0].tolist(), seen["prompt_mask"][0].tolist(), strict=True)
        assert [token for token, kept in masked if kept] == asked
    elif trainer == "ppo":
        prompts = {tuple(job.backend.encode_chat(each.prompt)) for each in job.stage.examples}
        drawn = {answer.prompt for answer in made.rollout(0).answers}
        assert drawn <= prompts
        assert all(ids[0] == begin and ids.count(begin) == 1 for ids in drawn)
    else:
        row = made.train_dataset[0, 0] if trainer == "kto" else made.train_dataset[0]
        names = ("input_ids", "prompt_ids", "chosen_ids", "rejected_ids")
        columns = [row[name] for name in names if name in row]
        if trainer == "dpo":
            columns = [row["prompt_ids"]]
        assert columns
        assert all(list(ids[: len(asked)]) == asked for ids in columns)
