"""Runs in the store, read and written as typed records."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from harness.core.errors import UserError
from harness.core.protocol import MetricName
from harness.core.types import (
    Fingerprint,
    PromptOptions,
    Response,
    Run,
    Sample,
    Score,
    ScoreOutcome,
)
from harness.store.store import Store

_OPTIONS = "@options"
"""Where a stored sample keeps its options, beside the fields of its row."""


def now() -> datetime:
    return datetime.now(UTC)


def save_run(store: Store, run: Run, *, draw: int, suite_path: str) -> None:
    """Record a run when it begins. A run that is recorded already is left as it is."""
    if find_run(store, run.id) is not None:
        return
    store.append(
        "runs",
        [
            {
                "run_id": run.id,
                "model": run.model,
                "model_digest": run.model_digest,
                "suite": run.suite,
                "suite_path": suite_path,
                "suite_digest": run.suite_digest,
                "seed": run.seed,
                "sample_limit": run.limit,
                "draw": draw,
                "training_id": run.training_id,
                "step": run.step,
                "protocol": dict(run.fingerprint.protocol),
                "subject": dict(run.fingerprint.subject),
                "provenance": dict(run.fingerprint.provenance),
                "started_at": run.started_at,
            }
        ],
    )


def save_event(store: Store, run_id: str, event: str, detail: dict[str, Any]) -> None:
    """Record that a run is `finished`, `failed`, `interrupted` or `rescored`; `detail` is JSON."""
    store.append(
        "run_events", [{"run_id": run_id, "event": event, "detail": detail, "happened_at": now()}]
    )


def find_run(store: Store, run_id: str) -> Run | None:
    """The run of that id, or of the one id that begins so (4 digits or more); None if none does.

    Raises UserError where several ids begin so.
    """
    rows = store.query(
        "SELECT * FROM runs WHERE run_id = ? OR (length(?) >= 4 AND starts_with(run_id, ?)) "
        "ORDER BY run_id LIMIT 2",
        [run_id, run_id, run_id],
    )
    exact = [row for row in rows if row["run_id"] == run_id]
    if not rows:
        return None
    if len(rows) > 1 and not exact:
        raise UserError(f"{run_id!r} begins the ids of several runs", hint="give more digits")
    row = (exact or rows)[0]
    return Run(
        id=row["run_id"],
        model=row["model"],
        model_digest=row["model_digest"],
        suite=row["suite"],
        suite_digest=row["suite_digest"],
        fingerprint=Fingerprint(
            _json(row["protocol"]), _json(row["subject"]), _json(row["provenance"])
        ),
        started_at=row["started_at"],
        seed=row["seed"],
        limit=row["sample_limit"],
        training_id=row["training_id"],
        step=row["step"],
    )


def require_run(store: Store, run_id: str) -> Run:
    """The run of that id, or the one that was imported under that name. Raises UserError where
    there is none, or where several were imported under it.
    """
    run = find_run(store, run_id) or imported_as(store, run_id)
    if run is None:
        raise UserError(f"there is no run {run_id!r} here", hint="`ratchet runs` lists them")
    return run


def imported_as(store: Store, name: str) -> Run | None:
    """The run that was imported under that name. Raises UserError where several were."""
    rows = store.query(
        "SELECT run_id, provenance FROM runs WHERE model = ? ORDER BY started_at, run_id", [name]
    )
    found = [row["run_id"] for row in rows if "imported" in _json(row["provenance"])]
    if len(found) > 1:
        raise UserError(
            f"several runs were imported as {name!r}",
            hint=f"name one by its id: {', '.join(found)}",
        )
    return find_run(store, found[0]) if found else None


def save_samples(store: Store, task_digest: str, samples: Sequence[Sample]) -> None:
    """Store a task's samples, those that are not stored yet, to show scores beside what was asked.

    `task_digest` is the task's as its run's protocol has it.
    """
    known = {
        row["sample_id"]
        for row in store.query("SELECT sample_id FROM samples WHERE task_digest = ?", [task_digest])
    }
    rows = [
        {
            "task_digest": task_digest,
            "task": sample.task,
            "sample_id": sample.id,
            "cluster": sample.cluster,
            "language": sample.language,
            "reserve": sample.reserve,
            "fields": {
                **{str(key): _storable(value) for key, value in sample.fields.items()},
                **({_OPTIONS: sample.options.stored} if sample.options.stored else {}),
            },
            "prompt": [dict(message) for message in sample.prompt],
            "text": sample.text,
            "reference_texts": list(sample.references),
        }
        for sample in samples
        if sample.id not in known
    ]
    if rows:
        store.append("samples", rows)


def load_samples(store: Store, task_digest: str) -> dict[str, Sample]:
    """A task's samples by id, as they were when it was scored."""
    rows = store.query("SELECT * FROM samples WHERE task_digest = ?", [task_digest])
    fields = {row["sample_id"]: _json(row["fields"]) for row in rows}
    return {
        row["sample_id"]: Sample(
            id=row["sample_id"],
            task=row["task"],
            options=PromptOptions.of(fields[row["sample_id"]].pop(_OPTIONS, {})),
            fields=fields[row["sample_id"]],
            prompt=tuple(_json(row["prompt"])),
            text=row["text"],
            references=tuple(row["reference_texts"] or ()),
            cluster=row["cluster"],
            language=row["language"],
            reserve=bool(row["reserve"]),
        )
        for row in rows
    }


def save_responses(store: Store, responses: Iterable[Response], *, model_digest: str) -> None:
    """Add answers to the cache. When this returns they are durable, and are not asked for again."""
    at = now()
    rows = [
        {
            "key": response.key,
            "model_digest": model_digest,
            "task": response.task,
            "sample_id": response.sample_id,
            "kind": response.kind,
            "response_index": response.index,
            "draw": response.draw,
            "text": response.text,
            "token_ids": list(response.token_ids),
            "logprobs": None if response.logprobs is None else list(response.logprobs),
            "finish_reason": response.finish_reason,
            "latency_s": response.latency_s,
            "first_token_s": response.first_token_s,
            "error": response.error,
            "created_at": at,
            "asked": response.asked,
            "prompt": response.prompt,
        }
        for response in responses
    ]
    if rows:
        store.append("responses", rows)


def cached_responses(store: Store, keys: Sequence[str]) -> dict[str, Response]:
    """The answers that the cache has, by key. Errors are left out, so they are asked for again."""
    if not keys:
        return {}
    rows = store.query(
        "SELECT * FROM responses WHERE error IS NULL AND key IN (SELECT unnest(?::VARCHAR[]))",
        [list(keys)],
    )
    return {row["key"]: _response(row) for row in rows}


def link_responses(store: Store, run_id: str, responses: Iterable[Response]) -> None:
    """Record which answers belong to a run; those that are recorded already are left out."""
    known = {
        row["key"]
        for row in store.query("SELECT key FROM run_responses WHERE run_id = ?", [run_id])
    }
    rows = [
        {
            "run_id": run_id,
            "key": response.key,
            "task": response.task,
            "sample_id": response.sample_id,
            "kind": response.kind,
            "response_index": response.index,
            "draw": response.draw,
        }
        for response in responses
        if response.key not in known
    ]
    if rows:
        store.append("run_responses", rows)


def run_responses(store: Store, run_id: str) -> list[Response]:
    """All answers of a run, in a fixed order."""
    rows = store.query(
        "SELECT r.* FROM run_responses l JOIN responses r USING (key) WHERE l.run_id = ? "
        "ORDER BY r.task, r.kind, r.sample_id, r.draw, r.response_index",
        [run_id],
    )
    return [_response(row) for row in rows]


def save_scores(store: Store, scores: Sequence[Score], *, signatures: dict[str, str]) -> None:
    """Append scores; `signatures` maps `task/metric` to the metric's signature."""
    at = now()
    if scores:
        store.append(
            "scores",
            [
                {
                    "run_id": score.run_id,
                    "task": score.task,
                    "metric": score.metric,
                    "sample_id": score.sample_id,
                    "response_index": score.response_index,
                    "draw": score.draw,
                    "outcome": score.outcome.value,
                    "value": score.value,
                    "reason": score.reason,
                    "stats": list(score.stats),
                    "cluster": score.cluster,
                    "signature": signatures[str(MetricName(score.task, score.metric))],
                    "scored_at": at,
                }
                for score in scores
            ],
        )


def load_scores(store: Store, run_id: str) -> list[Score]:
    """The current scores of a run: where one was rescored, the last."""
    rows = store.query(
        "SELECT run_id, task, metric, sample_id, response_index, draw, outcome, value, reason, "
        "stats, cluster FROM current_scores WHERE run_id = ? "
        "ORDER BY task, metric, sample_id, draw, response_index",
        [run_id],
    )
    outcomes = {str(outcome): outcome for outcome in ScoreOutcome}
    return [
        Score(
            run_id=row["run_id"],
            task=row["task"],
            metric=row["metric"],
            sample_id=row["sample_id"],
            response_index=row["response_index"],
            draw=row["draw"],
            outcome=outcomes[row["outcome"]],
            value=row["value"],
            reason=row["reason"],
            stats=tuple(row["stats"] or ()),
            cluster=row["cluster"],
        )
        for row in rows
    ]


def _response(row: dict[str, Any]) -> Response:
    return Response(
        key=row["key"],
        sample_id=row["sample_id"],
        task=row["task"],
        kind=row["kind"],
        index=row["response_index"],
        draw=row["draw"],
        text=row["text"],
        token_ids=tuple(row["token_ids"] or ()),
        logprobs=None if row["logprobs"] is None else tuple(row["logprobs"]),
        finish_reason=row["finish_reason"],
        latency_s=row["latency_s"],
        first_token_s=row["first_token_s"],
        error=row["error"],
        asked=row["asked"],
        prompt=row["prompt"],
    )


def _storable(value: Any) -> Any:
    """A value of a row of data in JSON types: what Parquet and Python have beyond those is written
    as a reader would write it, and NaN, which stands for a missing value, is null.
    """
    if isinstance(value, Mapping):
        return {str(key): _storable(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if isinstance(value, list | tuple | set | frozenset):
        return [_storable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    return _storable(value.tolist()) if hasattr(value, "tolist") else str(value)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
