"""One sample's answer as a reward model or a classifier sees it: which words move its score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.attribution.black_box import Score, WordScores, word_scores
from harness.attribution.sample import answers_to, files_of, sample_of
from harness.core.errors import UserError
from harness.core.types import Sample
from harness.core.workspace import Workspace
from harness.store.runs import require_run
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Rewarded:
    """The answer that was read, by what, and what its words add to the score; `unit` is what the
    score is.
    """

    task: str
    sample: Sample
    answer: str
    model: str
    unit: str
    found: WordScores

    def pictures(self) -> dict[str, str]:
        about = f"{self.task}/{self.sample.id}: {self.unit}"
        return self.found.pictures(about, self.unit)


def explain_reward(
    store: Store, workspace: Workspace, verdict_id: str, sample_id: str, model: str | None
) -> Rewarded:
    """The candidate's answer to a sample of a stored verdict, as `model` sees it: a reward model
    or a classifier. Where the candidate is itself a reward model, it reads the better answer.

    Raises UserError for a sample that isn't the verdict's or has no answer, and for a model that
    is no classifier.
    """
    candidate, task, sample = sample_of(store, verdict_id, sample_id)
    judges = candidate.fingerprint.subject.get("backend") == "reward"
    said = sample.references[:1] if judges else answers_to(store, candidate, sample)
    if not said:
        raise UserError(
            f"the candidate gave no answer to {task}/{sample.id}",
            field="--sample",
            hint="name one that was answered",
        )
    if model is None and not judges:
        raise UserError(
            "an answer is scored by a reward model or a classifier, and none is named",
            field="--by",
            hint="name its folder: --by MODEL",
        )
    name = model or _place(files_of(candidate, workspace))
    score, unit = _scorer(name, sample, said[0])
    return Rewarded(task, sample, said[0], name, unit, word_scores(score, said[0]))


def is_reward_model(store: Store, verdict_id: str) -> bool:
    """Whether the candidate of a stored verdict writes no answers, and scores them."""
    [verdict] = store.query("SELECT candidate_run FROM verdicts WHERE verdict_id = ?", [verdict_id])
    run = require_run(store, verdict["candidate_run"])
    return bool(run.fingerprint.subject.get("backend") == "reward")


def _place(files: Any) -> str:
    return str(files.adapter or files.folder)


def _scorer(name: str, sample: Sample, answer: str) -> tuple[Score, str]:
    """How `name` scores answers, and what the score is."""
    from harness.metrics.reward_model import reward
    from harness.metrics.support.encoders import load

    if not (Path(name) / "adapter_config.json").is_file():
        tokenizer, classifier = load(name, "AutoModelForSequenceClassification")
        if classifier.config.num_labels > 1:
            return _label_score(tokenizer, classifier, answer)

    def rewards(texts: Sequence[str]) -> list[float]:
        found: list[float] = reward([sample.prompt] * len(texts), texts, model=name).tolist()
        return found

    return rewards, "reward"


def _label_score(tokenizer: Any, classifier: Any, answer: str) -> tuple[Score, str]:
    """Log p of the label that a classifier gives the answer, in nats."""
    import torch

    from harness.metrics.support.encoders import readable_text, token_batches

    def labels(texts: Sequence[str]) -> Any:
        found = torch.zeros(len(texts), classifier.config.num_labels)
        # Some tokenizers make no token of no text, and no model reads that.
        said = [readable_text(text) or "." for text in texts]
        for rows, inputs in token_batches(tokenizer, classifier, said):
            with torch.inference_mode():
                found[rows] = classifier(**inputs).logits.float().log_softmax(-1).cpu()
        return found

    label = int(labels([answer])[0].argmax())
    named = classifier.config.id2label.get(label, str(label))
    return (lambda texts: labels(texts)[:, label].tolist()), f"ln p({named}), nats"
