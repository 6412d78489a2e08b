"""GRPO and RLOO draw through the writer that scoring has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from tests.chat_templates import FAMILIES, tokenizer_of
from tests.tiny import tiny_model
from tests.trainers.method_builders import job_of, write_method_world
from trainers.config.load import load_recipe
from trainers.config.precision import Machine
from trainers.methods.models import require_options

WITH_TOOLS = (
    "{% for tool in tools or [] %}{{ tool['function']['name'] }} {% endfor %}"
    "{% if not enable_thinking %}quietly {% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GPU = Machine("cuda", bfloat16=True, free_bytes=80 * 2**30)


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_a_group_shares_one_reading_and_transformers_generate_is_not_asked(
    tmp_path: Path, tiny_llama: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    job, method = job_of(write_method_world(tmp_path, tiny_llama, trainer), tmp_path / "w")
    made = method.make(job)
    asked: list[Any] = []
    inner = job.backend.generate

    def generate(requests: Any, settings: Any) -> Any:
        asked.append((requests, settings))
        return inner(requests, settings)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("transformers' own generate was asked")

    monkeypatch.setattr(type(job.backend), "generate", lambda _, *words: generate(*words))
    monkeypatch.setattr(job.model.get_base_model(), "generate", never)
    rows = [dict(made.train_dataset[n]) for n in (0, 0, 1, 1)]

    def drawn() -> list[list[int]]:
        torch.manual_seed(11)
        with torch.no_grad():
            found: list[list[int]] = made._generate_and_score_completions(rows)[
                "completion_ids"
            ].tolist()
        return found

    assert drawn() == drawn()
    requests, settings = asked[0]
    assert [len(request.seeds) for request in requests] == [2, 2]
    assert len({seed for request in requests for seed in request.seeds}) == 4
    assert (settings.max_new_tokens, settings.temperature) == (6, 1.0)
    assert (settings.top_k, settings.top_p, settings.stop) == (0, 1.0, ())


@pytest.mark.parametrize("trainer", ["grpo", "rloo", "ppo"])
def test_answers_are_drawn_to_tools_and_arguments_of_the_template(
    tmp_path: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two rows that ask the same with different tools, each is asked with its own."""
    (tmp_path / "tools.jsonl").write_text(
        "".join(
            json.dumps({"ask": "Which day?", "tools": [{"name": name, "parameters": {}}]}) + "\n"
            for name in ("today", "calendar")
        ),
        encoding="utf-8",
    )
    source = {
        "source": "tools.jsonl",
        "weight": 1,
        "prompt": {"user": "{{ ask }}"},
        "tools": "{{ tools }}",
    }
    data = {"seed": 3, "mix": [source], "template": {"enable_thinking": False}}
    base = tmp_path / "m"
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.chat_template = WITH_TOOLS
    tiny_model(len(tokenizer), layers=1, pad_token_id=tokenizer.pad_token_id).save_pretrained(base)
    tokenizer.save_pretrained(base)
    job, method = job_of(write_method_world(tmp_path, base, trainer, data=data), tmp_path / "w")
    asked: set[tuple[int, ...]] = set()
    inner = job.backend.generate

    def generate(requests: Any, settings: Any) -> Any:
        asked.update(tuple(request.prompt_ids) for request in requests)
        return inner(requests, settings)

    monkeypatch.setattr(type(job.backend), "generate", lambda _, *words: generate(*words))
    made = method.make(job)
    if trainer == "ppo":
        made.rollout(0)
    else:
        made._generate_and_score_completions([dict(made.train_dataset[n]) for n in (0, 0, 1, 1)])
    expected = {tuple(example.asked(job.backend)) for example in job.stage.examples}
    assert len(expected) == 2
    assert asked == expected
    texts = sorted(job.tokenizer.decode(ids) for ids in asked)
    assert [text.split()[0] for text in texts] == ["calendar", "today"]
    assert all("quietly" in text for text in texts)


def test_tools_that_a_template_leaves_out_are_refused(tmp_path: Path, tiny_llama: Path) -> None:
    source = {"tools": "{{ [{'name': ask}] }}"}
    recipe = write_method_world(tmp_path, tiny_llama, "grpo", source=source)
    job, method = job_of(recipe, tmp_path / "w")
    with pytest.raises(UserError, match="writes nothing of the tools") as caught:
        method.make(job)
    assert caught.value.line is not None


def test_vllm_draws_only_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recipe(trainer: str = "grpo", **more: Any) -> Any:
        stage = {"generate_on": "vllm"}
        return load_recipe(
            write_method_world(tmp_path, Path("nowhere"), trainer, stage=stage, **more)
        )

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="vLLM is not installed") as caught:
        require_options(recipe(), GPU)
    assert caught.value.field == "stages.0.generate_on"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    require_options(recipe(), GPU)
    with pytest.raises(UserError, match="needs a GPU"):
        require_options(recipe(), Machine())
    with pytest.raises(UserError, match="can't draw from a dora adapter"):
        require_options(recipe(adapter={"kind": "dora"}), GPU)
    with pytest.raises(UserError, match="the trainer ppo has no 'generate_on'"):
        recipe("ppo")
