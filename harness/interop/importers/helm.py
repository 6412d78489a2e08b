"""Imports what HELM writes: the statistics of every instance of its runs."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Direction, Sample
from harness.interop.importers.common import (
    Answer,
    Imported,
    ImportedTask,
    Point,
    Series,
    finite,
    moment,
    read_as_written_by,
    read_json,
    task_name,
)
from harness.interop.importers.series import mean_of, point_of, with_lower, with_numbers

Row = Mapping[str, Any]
FILES = ("run_spec.json", "scenario_state.json", "per_instance_stats.json", "stats.json")
_MODEL = frozenset({"model", "model_deployment"})
_GENERATION = ("temperature", "max_tokens", "stop_sequences", "num_outputs")
_OF_THE_REQUEST = re.compile(
    r"num_(?!correct).*|max_num_.*|finish_reason_.*|batch_size|prompt_truncated|max_prob"
    r"|predicted_index|training_.*_cost|inference_.*runtime|logprob|logprob_per_byte"
)
"""Statistics that count what was sent and how, and say nothing of an answer's quality."""
_LOWER = re.compile(
    r"(.*_)?(wer|cer|mer)(_score)?|.*toxic.*|.*nsfw.*|ece_.*|error_rate|absolute_value_difference"
    r"|distance|bits_per_byte|perplexity|.*_leakage_rate|longest_common_prefix_length"
)
"""Of which HELM's own schemas say that less is better: the files of a run don't."""


@read_as_written_by("HELM")
def read_helm(path: Path, *, name: str | None = None, lower: Collection[str] = ()) -> Imported:
    """The run in a folder that helm-run wrote, called `name`: each of its runs is a task, and
    `lower` names further metrics of which less is better.

    Raises UserError for a folder of several models, and for a run that isn't whole.
    """
    folders = _folders(path)
    runs = [_read_run(folder) for folder in folders]
    models = sorted({run.model for run in runs})
    if len(models) > 1:
        raise UserError(
            f"there are runs of {len(models)} models: {', '.join(models)}",
            file=path,
            hint="name the folder of one run, or run each model with its own --suite",
        )
    tasks, skipped = with_numbers(_task(run) for run in runs)
    return Imported(
        source="helm",
        model=name or models[0],
        tasks=with_lower(tasks, lower, path),
        subject={
            "backend": "helm",
            "model": models[0],
            "deployment": runs[0].adapter.get("model_deployment"),
        },
        provenance={},
        measured_at=moment(max(run.asked_at for run in runs)),
        file=path,
        skipped=skipped,
        notes=tuple(note for run in runs for note in _other_means(run, tasks)),
    )


def _folders(path: Path) -> list[Path]:
    """The runs at or below a folder. Raises UserError for one that stopped before its end."""
    if not path.is_dir():
        what = "this is a file" if path.exists() else "there is no such folder"
        raise UserError(what, file=path, hint="name the folder that helm-run wrote")
    found = sorted(one.parent for one in path.rglob("run_spec.json"))
    if not found:
        raise UserError(
            "there is no run_spec.json here",
            file=path,
            hint="name a run's folder, or the suite's: benchmark_output/runs/SUITE",
        )
    for folder in found:
        for file in FILES:
            if not (folder / file).is_file():
                raise UserError(
                    f"the run has no {file}: it didn't finish",
                    file=folder,
                    hint="run helm-run again",
                )
    return found


@dataclass(frozen=True, slots=True)
class _State:
    """One request on behalf of an instance: its `trial` counts the draws of shots from 0."""

    key: str
    trial: int
    instance: Row
    request: Row
    result: Row
    reference: int | None

    @property
    def answer(self) -> str:
        completions = self.result.get("completions") or []
        return str(completions[0].get("text") or "") if completions else ""

    @property
    def error(self) -> str | None:
        if self.result.get("success") is True:
            return None
        return str(self.result.get("error") or "the request failed")

    @property
    def asked(self) -> list[dict[str, str]]:
        turns = self.request.get("messages")
        if turns:
            return [{"role": str(t["role"]), "content": _text(t["content"])} for t in turns]
        return [{"role": "user", "content": str(self.request.get("prompt") or "")}]

    @property
    def references(self) -> list[str]:
        """The correct ones; all where none is marked."""
        given = self.instance.get("references") or []
        right = [one for one in given if "correct" in (one.get("tags") or [])]
        return [str(one["output"].get("text") or "") for one in right or given]


def _text(content: Any) -> str:
    if not isinstance(content, list):
        return "" if content is None else str(content)
    return "".join(str(one.get("text") or "") for one in content if isinstance(one, Mapping))


@dataclass(frozen=True, slots=True)
class _Run:
    folder: Path
    spec: Row
    adapter: Row
    states: tuple[_State, ...]
    stats: tuple[Row, ...]

    @property
    def model(self) -> str:
        return str(self.adapter.get("model") or self.adapter.get("model_deployment"))

    @property
    def task(self) -> str:
        """Its name without the model: `mmlu:subject=anatomy`."""
        scenario, _, told = str(self.spec.get("name") or self.folder.name).partition(":")
        kept = [one for one in told.split(",") if one and one.partition("=")[0] not in _MODEL]
        return task_name(f"{scenario}:{','.join(kept)}" if kept else scenario)

    @property
    def perturbed(self) -> bool:
        """Whether instances are the same question in other words, which are then of one cluster."""
        return any(state.instance.get("perturbation") for state in self.states)

    @property
    def asked_at(self) -> float:
        return max((finite(s.result.get("request_datetime")) or 0.0) for s in self.states)


def _read_run(folder: Path) -> _Run:
    spec, state, stats, _ = (read_json(folder / file) for file in FILES)
    adapter = spec.get("adapter_spec") if isinstance(spec, Mapping) else None
    if not isinstance(adapter, Mapping):
        raise _odd(folder / "run_spec.json", "adapter_spec")
    rows = state.get("request_states") if isinstance(state, Mapping) else None
    if not isinstance(rows, list) or not rows:
        raise _odd(folder / "scenario_state.json", "request_states")
    if not isinstance(stats, list) or not all(_is_stats(one) for one in stats):
        raise _odd(folder / "per_instance_stats.json", "instance_id, train_trial_index, stats")
    states = tuple(_state(row, folder / "scenario_state.json") for row in rows)
    known = {(one.key, one.trial) for one in states}
    missing = next((one for one in stats if _place(one) not in known), None)
    if missing is not None:
        raise UserError(
            f"there is no request for instance {missing['instance_id']}",
            file=folder / "scenario_state.json",
            field="request_states",
            hint="the folder may hold files of two runs: run helm-run again",
        )
    return _Run(folder, spec, adapter, states, tuple(stats))


def _odd(file: Path, field: str) -> UserError:
    return UserError(
        "this is not as HELM writes it",
        file=file,
        field=field,
        hint="name the folder that helm-run wrote",
    )


def _is_stats(one: Any) -> bool:
    return (
        isinstance(one, Mapping)
        and isinstance(one.get("instance_id"), str)
        and isinstance(one.get("train_trial_index"), int)
        and isinstance(one.get("stats"), list)
    )


def _state(row: Any, file: Path) -> _State:
    instance = row.get("instance") if isinstance(row, Mapping) else None
    if not isinstance(instance, Mapping) or not isinstance(instance.get("id"), str):
        raise _odd(file, "request_states.instance.id")
    return _State(
        key=_key(instance["id"], instance.get("perturbation")),
        trial=row["train_trial_index"],
        instance=instance,
        request=row.get("request") or {},
        result=row.get("result") or {},
        reference=row.get("reference_index"),
    )


def _key(instance: str, perturbation: Any) -> str:
    return f"{instance}/{perturbation['name']}" if perturbation else instance


def _place(one: Row) -> tuple[str, int]:
    return _key(one["instance_id"], one.get("perturbation")), one["train_trial_index"]


def _task(run: _Run) -> ImportedTask:
    firsts = {state.key: state for state in reversed(run.states)}
    documents = sorted(
        (key, digest_of([s.instance.get("input"), s.instance.get("references")]))
        for key, s in firsts.items()
    )
    adapter = run.adapter
    return ImportedTask(
        name=run.task,
        protocol={
            "data": {"documents": digest_of(documents), "n": len(documents)},
            "prompt": {
                "scenario": run.spec.get("scenario_spec"),
                **{k: v for k, v in adapter.items() if k not in (*_MODEL, *_GENERATION)},
            },
            "generate": {key: adapter.get(key) for key in _GENERATION},
        },
        metrics=tuple(_series(run)),
        samples=tuple(
            Sample(
                id=key,
                task=run.task,
                fields={"split": state.instance.get("split")},
                prompt=tuple(state.asked),
                references=tuple(state.references),
                cluster=str(state.instance["id"]) if run.perturbed else None,
            )
            for key, state in reversed(firsts.items())
        ),
        answers=tuple(
            Answer(s.key, s.trial, s.answer, s.error) for s in run.states if s.reference is None
        ),
    )


def _series(run: _Run) -> Iterator[Series]:
    several = any(state.trial for state in run.states)
    errors = {(s.key, s.trial): s.error for s in run.states if s.error is not None}
    values: dict[str, list[Point]] = {}
    for one in run.stats:
        key, trial = _place(one)
        for metric, value in _values(one):
            point = point_of(
                key, value, index=trial if several else None, error=errors.get((key, trial))
            )
            cluster = one["instance_id"] if run.perturbed else None
            values.setdefault(metric, []).append(replace(point, cluster=cluster))
    for metric, points in values.items():
        direction: Direction = "lower" if _LOWER.fullmatch(metric) else "higher"
        yield mean_of(metric, points, measure=f"{metric}|helm", direction=direction)


def _values(one: Row) -> Iterator[tuple[str, float | None]]:
    """A metric's value for one instance; the mean where HELM counted several numbers."""
    for stat in one["stats"]:
        metric = str(stat["name"]["name"])
        if not _OF_THE_REQUEST.fullmatch(metric) and stat.get("count"):
            yield metric, finite(stat.get("mean"))


def _other_means(run: _Run, tasks: Collection[ImportedTask]) -> Iterator[str]:
    """A note on each metric whose mean HELM reports otherwise; it does so by splits."""
    task = next(one for one in tasks if one.name == run.task)
    splits = {s.instance.get("split") for s in run.states}
    if len(splits) > 1 or run.perturbed:
        return
    reported = {
        one["name"]["name"]: finite(one.get("mean"))
        for one in read_json(run.folder / "stats.json")
        if not one["name"].get("perturbation") and not one["name"].get("sub_split")
    }
    for series in task.metrics:
        values = [p.value for p in series.points if p.value is not None]
        told, mean = reported.get(series.name), math.fsum(values) / len(values)
        if told is not None and not math.isclose(told, mean, rel_tol=1e-6, abs_tol=1e-9):
            yield (
                f"HELM reported {told:.6g} for {task.name}/{series.name}, and the numbers of its "
                f"instances have the mean {mean:.6g}: that is imported"
            )
