"""One way to write a prompt and end an answer: token ids of every trainer, for every template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.backends import tokenization as tokens
from tests.chat_templates import FAMILIES, Family, ends_of, tokenizer_of
from tests.tiny import tiny_model
from tests.trainers.method_builders import job_of, write_method_world
from trainers.methods.base import Job
from trainers.methods.drawing import prompt_ids, said

TRAINERS = ("sft", "dpo", "kto", "reward", "grpo", "rloo", "ppo")
QUICK = {("gpt-oss", "sft"), ("qwen3-thinking", "dpo"), ("command-a", "kto"), ("llama-2", "sft")}
QUICK |= {("glm-4", "grpo"), ("gpt-oss", "ppo"), ("qwen3", "reward"), ("none", "rloo")}
CASES = [
    pytest.param(name, trainer, marks=() if (name, trainer) in QUICK else pytest.mark.long)
    for name in FAMILIES
    for trainer in TRAINERS
]


def base(folder: Path, family: Family) -> Path:
    tokenizer = tokenizer_of(family)
    model = tiny_model(len(tokenizer), layers=1, pad_token_id=tokenizer.pad_token_id)
    model.generation_config.eos_token_id = sorted(ends_of(tokenizer, family))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def asked_and_learned(trainer: str, job: Job, made: Any) -> list[tuple[list[int], list[int]]]:
    """(prompt, what is learned) of the first row, for each answer that it has."""
    if trainer in ("grpo", "rloo"):
        return [(prompt_ids(job.backend, dict(made.train_dataset[0])), [])]
    if trainer == "ppo":
        return [(list(answer.prompt), []) for answer in made.rollout(0).answers]
    row = made.train_dataset[0, 0] if trainer == "kto" else made.train_dataset[0]
    if trainer == "sft":
        split = next(i for i, label in enumerate(row["labels"]) if label >= 0)
        return [(row["input_ids"][:split], row["labels"][split:])]
    if trainer == "reward":
        return [([], row["chosen_ids"]), ([], row["rejected_ids"])]
    names = ("chosen_ids", "rejected_ids") if trainer == "dpo" else ("completion_ids",)
    return [(list(row["prompt_ids"]), list(row[name])) for name in names]


@pytest.mark.parametrize(("name", "trainer"), CASES)
def test_what_is_trained_is_what_is_scored_and_served(
    tmp_path: Path, name: str, trainer: str
) -> None:
    family = FAMILIES[name]
    recipe = write_method_world(tmp_path, base(tmp_path / "m", family), trainer)
    job, method = job_of(recipe, tmp_path / "w")
    tokenizer, example = job.tokenizer, job.stage.examples[0]
    question = example.prompt[-1]["content"]
    asked = list(tokens.encode(tokenizer, family.asked.replace("Which day?", question)))
    if trainer != "reward":
        assert tokenizer.convert_tokens_to_ids(family.end) in job.backend.ends
    answers = [example.chosen, example.rejected] if example.chosen else [example.completion or ""]
    found = asked_and_learned(trainer, job, method.make(job))
    if trainer == "ppo":
        assert {len(prompt) for prompt, _ in found} != {0}
        prompts = [list(job.backend.encode_chat(e.prompt)) for e in job.stage.examples]
        assert all(prompt in prompts for prompt, _ in found)
        assert asked in prompts
        return
    for (prompt, learned), text in zip(found, answers, strict=trainer not in ("grpo", "rloo")):
        whole = f"{family.lead}{text}{family.tail}{family.end}"
        if trainer == "reward":
            # The whole conversation: what follows a turn's end belongs to it.
            ids = list(
                tokens.encode(tokenizer, family.asked.replace("Which day?", question) + whole)
            )
            assert learned[: len(ids)] == ids or family.end == "<|user|>"
            continue
        assert prompt == asked
        if learned:
            begun = len(tokens.encode(tokenizer, family.asked))
            assert learned == list(tokens.encode(tokenizer, family.asked + whole)[begun:])
            before, words = job.backend.encode_answer(str(text))
            read = [*before, *words]
            assert learned[: len(read)] == read or family.tail.isspace()


@pytest.mark.parametrize("name", ["gpt-oss", "glm-4.5", "chatml"])
def test_rewards_judge_what_metrics_judge(tmp_path: Path, name: str) -> None:
    """An answer's own words, without what the template writes around them."""
    family, seen = FAMILIES[name], tmp_path / "seen.jsonl"
    (tmp_path / "mine.py").write_text(
        "import json\n"
        "def f(completions, completion_ids, **kw):\n"
        f"    with open({str(seen)!r}, 'a') as file:\n"
        "        for pair in zip(completions, completion_ids):\n"
        "            file.write(json.dumps(pair) + '\\n')\n"
        "    return [float(len(text)) for text in completions]\n",
        encoding="utf-8",
    )
    stage = {"rewards": [{"kind": "function", "path": "mine.py:f"}], "temperature": 3.0}
    recipe = write_method_world(tmp_path, base(tmp_path / "m", family), "grpo", stage=stage)
    job, method = job_of(recipe, tmp_path / "w")
    made = method.make(job)
    made._generate_and_score_completions([dict(made.train_dataset[0])] * 4)
    pairs = [json.loads(line) for line in seen.read_text("utf-8").splitlines()]
    assert [text for text, _ in pairs] == [job.backend.said(ids) for _, ids in pairs]
    row = dict(made.train_dataset[0])
    end = job.tokenizer.convert_tokens_to_ids(family.end)
    for text in ("Sun.", "<b>", ""):
        ids = [*tokens.encode(job.tokenizer, family.lead + text + family.tail), end]
        assert said(job.backend, row, ids) == text


def test_a_thought_that_was_cut_is_no_answer_to_a_reward(tmp_path: Path) -> None:
    made = base(tmp_path / "m", FAMILIES["deepseek-r1"])
    job, method = job_of(write_method_world(tmp_path, made, "grpo"), tmp_path / "w")
    row = dict(method.make(job).train_dataset[0])
    ids = list(tokens.encode(job.tokenizer, "Hm, is it"))
    assert said(job.backend, row, ids) == "<think>\nHm, is it"
    assert said(job.backend, row, [*ids, job.tokenizer.eos_token_id]) == "Hm, is it"
