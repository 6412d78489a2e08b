"""Results as the Hub's `model-index`, in the front matter of a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.protocol import MetricName
from harness.interop.exporters.results import Results


def export(results: Results, place: str) -> str:
    """Write into the model card `place` (a README.md, made where it is missing). The results of
    this suite are replaced, all others and the card's text stay.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    if not place:
        raise UserError("no model card is named", hint="--to model-index:README.md")
    path = Path(place)
    run = results.run
    try:
        card: Any = ModelCard.load(path) if path.exists() else ModelCard("---\n---\n")
    except (OSError, ValueError) as error:
        raise UserError(
            f"the model card can't be read: {error}",
            file=path,
            hint="mend its front matter, or name another file",
        ) from None
    data: Any = card.data or ModelCardData()
    ours = f"ratchet/{run.suite}"
    kept = [old for old in data.eval_results or () if old.dataset_type != ours]
    added = [
        EvalResult(
            task_type="text-generation",
            dataset_type=ours,
            dataset_name=f"{run.suite}: {MetricName.parse(metric.metric).task}",
            dataset_revision=run.suite_digest,
            metric_type=MetricName.parse(metric.metric).metric,
            metric_value=metric.estimate.value,
            metric_name=metric.metric,
            metric_args={
                "interval_95": [metric.estimate.low, metric.estimate.high],
                "scored": metric.counts.scored,
                "total": metric.counts.total,
                "run": run.id,
                "model_digest": run.model_digest,
            },
        )
        for metric in results.metrics
    ]
    data.model_name = data.model_name or Path(run.model).name
    data.eval_results = [*kept, *added]
    card.data = data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        card.save(path)
    except OSError as error:
        raise UserError(
            f"the model card can't be written: {error.strerror}",
            file=path,
            hint="fix the folder's permissions, or name another file",
        ) from error
    return f"{len(added)} results in {path}"
