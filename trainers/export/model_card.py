"""The model card of an export: what it scores, what the gate said, and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from harness.core.format import opponent_name
from harness.core.protocol import MetricName

if TYPE_CHECKING:
    from harness.comparison.evidence import MetricSummary
    from harness.core.types import Run
    from harness.registry.registry import Registry
    from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Origin:
    """What the store knows of a model; everything but its name and base may be unknown."""

    name: str
    base: str | None
    digest: str
    line: str | None = None
    version: int | None = None
    run: Run | None = None
    scores: tuple[MetricSummary, ...] = ()
    verdict: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def origin_of(
    name: str, folder: Path, digest: str, base: str | None, registry: Registry, store: Store
) -> Origin:
    """Trace a checkpoint from its line, or from its bytes, to run, verdict and training."""
    from harness.comparison.evidence import summarize
    from harness.store.runs import find_run

    line = name if name in registry.lines() else None
    promoted = registry.promoted(line) if line else None
    run_id = (promoted.run_id if promoted else None) or registry.run_of(digest)
    verdict_id = (promoted.verdict_id if promoted else None) or registry.latest_verdict(digest)
    run = find_run(store, run_id) if run_id else None
    return Origin(
        name=line or folder.name,
        base=base,
        digest=digest,
        line=line,
        version=promoted.number if promoted else None,
        run=run,
        scores=tuple(summarize(store, run)) if run else (),
        verdict=_row(store, "verdicts", "verdict_id", verdict_id),
        training=_row(store, "trainings", "training_id", run.training_id if run else None),
    )


def _row(store: Store, table: str, key: str, value: str | None) -> dict[str, Any]:
    rows = store.query(f"SELECT * FROM {table} WHERE {key} = ?", [value]) if value else []
    return rows[0] if rows else {}


def model_card(origin: Origin, form: str) -> str:
    """README.md with YAML front matter, whose `model-index` holds every score that there is."""
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=f"ratchet/{origin.run.suite}",
            dataset_name=f"{origin.run.suite} / {MetricName.parse(line.metric).task}",
            metric_type=MetricName.parse(line.metric).metric,
            metric_name=f"{line.metric} ({line.unit})",
            metric_value=line.estimate.value,
        )
        for line in origin.scores
        if origin.run is not None and line.estimate.value is not None
    ]
    data = ModelCardData(
        model_name=origin.name,
        base_model=origin.base,
        library_name="peft" if form == "adapter" else "transformers",
        pipeline_tag="text-generation",
        tags=["ratchet"],
        eval_results=results or None,
        ratchet=_provenance(origin),
    )
    front = data.to_yaml()
    text = f"---\n{front}\n---\n\n{_body(origin, form)}"
    try:
        ModelCard(text)
    except (ValueError, TypeError) as error:
        raise UserError(f"the model card can't be read back: {error}") from error
    return text


def _provenance(origin: Origin) -> dict[str, Any]:
    """Digests and ids, so that every number can be traced."""
    run, verdict, training = origin.run, origin.verdict, origin.training
    found: dict[str, Any] = {"checkpoint": origin.digest}
    if origin.line:
        found["line"], found["version"] = origin.line, origin.version
    if run is not None:
        found["run"], found["suite"], found["suite_digest"] = run.id, run.suite, run.suite_digest
        found["provenance"] = dict(run.fingerprint.provenance)
    if verdict:
        found["verdict"] = {key: verdict[key] for key in ("verdict_id", "outcome", "against")}
    if training:
        found["training"] = {
            key: training[key] for key in ("training_id", "recipe_digest", "base_digest")
        }
    return found


def _body(origin: Origin, form: str) -> str:
    lines = [f"# {origin.name}", ""]
    what = {"merge": "Merged weights", "adapter": "A LoRA adapter", "gguf-ready": "Merged weights"}
    lines.append(f"{what[form]}{f' of {origin.base}' if origin.base else ''}, exported by Ratchet.")
    if form == "gguf-ready":
        lines += ["", "For llama.cpp: `python convert_hf_to_gguf.py THIS_FOLDER --outtype f16`."]
    lines += ["", "## Scores", ""]
    if origin.scores and origin.run is not None:
        lines += [f"Suite `{origin.run.suite}`, run `{origin.run.id}`.", ""]
        lines += [
            "| metric | value | 95% interval | unit | scored |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_score(line) for line in origin.scores]
    else:
        lines.append("This checkpoint has no run in the workspace it was exported from.")
    lines += ["", "## Verdict", ""]
    if origin.verdict:
        against = opponent_name(origin.verdict["against"])
        lines.append(
            f"**{origin.verdict['outcome']}** against {against}: {origin.verdict['headline']}"
        )
    else:
        lines.append("None.")
    lines += ["", "## Provenance", "", f"- checkpoint `{origin.digest}`"]
    if origin.line:
        lines.append(f"- version {origin.version} of the line `{origin.line}`")
    if origin.training:
        lines.append(f"- training `{origin.training['training_id']}`")
        lines.append(f"- recipe digest `{origin.training['recipe_digest']}`")
        lines.append(f"- base digest `{origin.training['base_digest']}`")
    return "\n".join(lines) + "\n"


def _score(line: MetricSummary) -> str:
    found, counts = line.estimate, line.counts
    value = "–" if found.value is None else f"{found.value:.4g}"
    between = "–" if found.low is None else f"{found.low:.4g} to {found.high:.4g}"
    scored = f"{counts.scored} of {counts.total}"
    return f"| {line.metric} | {value} | {between} | {line.unit} | {scored} |"
