"""Loads text classifiers by hub id or folder, for toxicity and entailment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.metrics.support.encoders import load, readable_text, token_batches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Classifier = Callable[[Sequence[str]], "NDArray[np.float64]"]


@lru_cache(maxsize=2)
def text_classifier(name: str, positive: tuple[str, ...]) -> Classifier:
    """A function from texts to the probability, shape (n,), of the label that is in `positive`.

    `name` is the hub id or folder of a sequence-classification model. One with a single output
    gives its sigmoid; otherwise the softmax over labels (the sigmoid where the model's config says
    `multi_label_classification`). Labels are compared without case. A two-label model whose labels
    are unnamed (`LABEL_0`, `LABEL_1`) is taken to have the positive one second. Raises UserError
    where no label fits.
    """
    tokenizer, model = load(name, "AutoModelForSequenceClassification")
    column = _column(name, model.config, positive)

    def classify(texts: Sequence[str]) -> NDArray[np.float64]:
        import numpy as np
        import torch

        found = np.zeros(len(texts))
        for rows, inputs in token_batches(tokenizer, model, [readable_text(t) for t in texts]):
            with torch.inference_mode():
                logits = model(**inputs).logits.float()
            found[rows] = _probabilities(logits, model.config)[:, column].cpu().numpy()
        return found

    return classify


def entailment(name: str) -> Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]:
    """A function from (premise, hypothesis) pairs to the probability, shape (n,), of entailment.

    `name` is the hub id or folder of an NLI classifier. Raises UserError without such a label.
    """
    tokenizer, model = load(name, "AutoModelForSequenceClassification")
    column = _column(name, model.config, ("entailment", "entail", "entails"))

    def classify(pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        import numpy as np
        import torch

        found = np.zeros(len(pairs))
        cleaned = [(readable_text(left), readable_text(right)) for left, right in pairs]
        for rows, inputs in token_batches(tokenizer, model, cleaned):
            with torch.inference_mode():
                logits = model(**inputs).logits.float()
            found[rows] = _probabilities(logits, model.config)[:, column].cpu().numpy()
        return found

    return classify


@lru_cache(maxsize=2)
def detoxify(variant: str) -> Classifier:
    """The `toxicity` output of the package detoxify, which the user installs."""
    model = _detoxify(variant)

    def classify(texts: Sequence[str]) -> NDArray[np.float64]:
        import numpy as np

        cleaned = [readable_text(text) for text in texts]
        found = [model.predict(cleaned[i : i + 32])["toxicity"] for i in range(0, len(texts), 32)]
        return np.concatenate(found) if found else np.zeros(0)

    return classify


@lru_cache(maxsize=2)
def _detoxify(variant: str) -> Any:
    try:
        from detoxify import Detoxify
    except ImportError as error:
        raise UserError(
            "the classifier `detoxify` is not installed", hint="pip install detoxify"
        ) from error
    return Detoxify(variant)


def reader(name: str) -> tuple[Any, Any]:
    """The tokenizer and model of a toxicity classifier: what says how long a text it reads."""
    family, _, variant = name.partition(":")
    if family == "detoxify":
        found = _detoxify(variant or "original")
        return found.tokenizer, found.model
    return load(name, "AutoModelForSequenceClassification")


def _probabilities(logits: Any, config: Any) -> Any:
    multi_label = getattr(config, "problem_type", None) == "multi_label_classification"
    return logits.sigmoid() if multi_label or logits.shape[1] == 1 else logits.softmax(dim=1)


def _column(name: str, config: Any, positive: tuple[str, ...]) -> int:
    labels = {int(i): str(label).lower() for i, label in config.id2label.items()}
    if len(labels) == 1:
        return 0
    for index, label in labels.items():
        if label in positive:
            return index
    if set(labels.values()) == {"label_0", "label_1"}:
        return 1
    raise UserError(
        f"of the model's labels ({', '.join(labels.values())}) none is {' or '.join(positive)}",
        field=name,
        hint="choose another model, or rename its label in config.json (id2label)",
    )
