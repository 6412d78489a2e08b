"""A reward model's score of an answer: a sequence classifier with one output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.chat_template import render
from harness.core.errors import UserError
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.encoders import (
    cut_off,
    described,
    load,
    max_tokens,
    readable_text,
    require,
    token_batches,
)
from harness.metrics.support.items import Outcome, Pair, score_responses
from harness.metrics.support.silence import silent_unscored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Messages = Sequence[Mapping[str, str]]


def reward(prompts: Sequence[Messages], answers: Sequence[str], *, model: str) -> NDArray[Any]:
    """The reward of each answer to its chat prompt, shape (n,), as logits: higher is better.

    `model` is a hub id or a folder: a sequence classifier with one output, or an adapter of one.
    It reads prompt and answer through its tokenizer's chat template, one under the other where it
    has none. Raises UserError for a model with more than one output.
    """
    import numpy as np
    import torch

    tokenizer, classifier = _loaded(model)
    texts = [_conversation(tokenizer, p, a) for p, a in zip(prompts, answers, strict=True)]
    found: NDArray[np.float64] = np.zeros(len(texts))
    for rows, inputs in token_batches(tokenizer, classifier, texts):
        with torch.inference_mode():
            found[rows] = classifier(**inputs).logits[:, 0].double().cpu().numpy()
    return found


def rewards_of_whole(
    prompts: Sequence[Messages], answers: Sequence[str], *, model: str
) -> list[float | None]:
    """As `reward`, and None where a conversation is longer than the model reads."""
    tokenizer, classifier = _loaded(model)
    texts = [_conversation(tokenizer, p, a) for p, a in zip(prompts, answers, strict=True)]
    values = reward(prompts, answers, model=model).tolist()
    return [
        None if cut else value
        for value, cut in zip(values, cut_off(tokenizer, classifier, texts), strict=True)
    ]


def _conversation(tokenizer: Any, prompt: Messages, answer: str) -> str:
    messages = [*map(dict, prompt), {"role": "assistant", "content": answer}]
    if tokenizer.chat_template:
        return readable_text(render(tokenizer, messages))
    return readable_text("\n".join(message["content"] for message in messages))


def _loaded(name: str) -> tuple[Any, Any]:
    folder = Path(name)
    adapter = (folder / "adapter_config.json").is_file()
    tokenizer, model = (
        _adapted(name) if adapter else load(name, "AutoModelForSequenceClassification")
    )
    if model.config.num_labels != 1:
        raise UserError(
            f"{name} has {model.config.num_labels} outputs; a reward model has one",
            field="model",
            hint="use it as a classifier, or train a reward model",
        )
    # The classifier reads the last token that is not padding, so it must know what padding is.
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model


@lru_cache(maxsize=2)
def _adapted(name: str) -> tuple[Any, Any]:
    """An adapter on its base, which may be a name that only `harness.models` knows."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from harness.core.quiet import quiet_libraries
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve

    files = resolve(name, Workspace.at())
    with quiet_libraries():
        tokenizer: Any = AutoTokenizer.from_pretrained(files.tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        base = AutoModelForSequenceClassification.from_pretrained(files.folder, num_labels=1)
        model: Any = PeftModel.from_pretrained(base, str(files.adapter))
    return tokenizer, model.float().eval()


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Mean reward by `model`. A reward has no true zero: its margin is absolute.

    It has no worst value either: an answer that says nothing is unscored, and so is one whose
    conversation is longer than the model reads, because the reward stands at its end.
    """

    model: str

    def __post_init__(self) -> None:
        require(self.model)

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec(
            "reward_model",
            "higher",
            scale="interval",
            unit="logits",
            low=None,
            high=None,
            version="2",
            options=(("model", described(self.model)),),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_responses(items, self._values, silent=silent_unscored())

    def _values(self, pairs: list[Pair]) -> list[Outcome]:
        prompts = [sample.prompt for sample, _ in pairs]
        answers = [response.text for _, response in pairs]
        values = rewards_of_whole(prompts, answers, model=self.model)
        limit = max_tokens(*_loaded(self.model))
        longer = Evidence.unscored(
            None, f"longer than the {limit} tokens that the reward model reads"
        )
        return [longer if value is None else value for value in values]
