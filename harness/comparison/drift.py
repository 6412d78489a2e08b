"""Perplexity of a run's answers under the anchor's model, measured once and stored."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.backends.base import Backend, Candidate, LogprobRequest, encode_answer
from harness.core.errors import UserError
from harness.core.protocol import tasks_of
from harness.core.types import Run, Sample
from harness.evaluation.generate import Progress, silent
from harness.evaluation.prompts import encoded
from harness.statistics.drift import distance, perplexity
from harness.statistics.intervals import Estimate
from harness.store import runs
from harness.store.store import Store

LIMIT = 200
"""How many samples of a task are measured by default; which ones is the same for every run."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One measure of one task.

    measure   `perplexity`: of the run's answers under the anchor's model; `meaning`: distance
              of embeddings between both answers to a sample
    found     its value with interval
    own       the same of the anchor's own answers: their perplexity, or the distance between two
              answers of the anchor to one sample; None where it gave one answer only
    left_out  samples without words on one side, or too long for the model
    """

    task: str
    measure: str
    found: Estimate
    own: float | None
    left_out: int


@dataclass(frozen=True, slots=True)
class _Pair:
    """Both first answers to one sample, and the anchor's second if it gave one."""

    sample: Sample
    ours: str
    theirs: str
    again: str | None


def measure(
    store: Store,
    run: Run,
    anchor: Run,
    model: Candidate,
    *,
    limit: int | None = LIMIT,
    progress: Progress = silent,
) -> list[Drift]:
    """Measure every task that both runs answered. `model` is the anchor's; it is opened once.

    Raises UserError where they share no answers, or the model gives no log-probabilities.
    """
    asked = {name: _pairs(store, run, anchor, name, limit) for name in _shared(run, anchor)}
    tasks = {name: pairs for name, pairs in asked.items() if pairs}
    if not tasks:
        raise UserError(
            f"run {run.id} and run {anchor.id} share no task with answers",
            hint="score both on one suite whose tasks have `generate:`",
        )
    backend = model.open()
    refuses = getattr(backend, "refuses", None)
    problem = refuses("reference") if refuses is not None else None
    if problem is not None:
        raise UserError(problem, hint="name the anchor's files with --model FOLDER")
    return [
        drift for name, pairs in tasks.items() for drift in _of_task(name, pairs, backend, progress)
    ]


def keep(store: Store, run: Run, anchor: Run, found: Sequence[Drift], limit: int | None) -> None:
    """Store what was measured; of several measurements of a run the last one counts."""
    store.append(
        "drifts",
        [
            {
                "run_id": run.id,
                "anchor_run": anchor.id,
                "anchor_digest": anchor.model_digest,
                "task": drift.task,
                "measure": drift.measure,
                "value": drift.found.value,
                "low": drift.found.low,
                "high": drift.found.high,
                "own": drift.own,
                "samples": drift.found.n,
                "detail": {"left_out": drift.left_out, "limit": limit},
            }
            for drift in found
        ],
    )


def _shared(run: Run, anchor: Run) -> Iterator[str]:
    """The tasks whose data, prompts and settings are the same in both runs."""
    theirs = tasks_of(anchor.fingerprint.protocol)
    for name, says in tasks_of(run.fingerprint.protocol).items():
        if name in theirs and says.generates and says.digest == theirs[name].digest:
            yield name


def _pairs(store: Store, run: Run, anchor: Run, task: str, limit: int | None) -> list[_Pair]:
    rows = store.query(
        """
        SELECT l.run_id, l.sample_id, r.text,
            row_number() OVER (
                PARTITION BY l.run_id, l.sample_id ORDER BY l.draw, l.response_index
            ) AS place
        FROM run_responses l JOIN responses r USING (key)
        WHERE l.run_id IN (?, ?) AND l.task = ? AND l.kind = 'generation' AND r.error IS NULL
        QUALIFY place <= 2
        """,
        [run.id, anchor.id, task],
    )
    said = {(row["run_id"], row["sample_id"], row["place"]): row["text"] for row in rows}
    samples = runs.load_samples(store, tasks_of(anchor.fingerprint.protocol)[task].digest)
    both = [name for name in samples if (run.id, name, 1) in said and (anchor.id, name, 1) in said]
    both.sort(key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())
    return [
        _Pair(
            samples[name],
            said[run.id, name, 1],
            said[anchor.id, name, 1],
            said.get((anchor.id, name, 2)),
        )
        for name in both[:limit]
    ]


def _of_task(
    task: str, pairs: list[_Pair], backend: Backend, progress: Progress
) -> Iterator[Drift]:
    whole = [pair for pair in pairs if pair.ours.strip() and pair.theirs.strip()]
    likely = _likelihoods(task, whole, backend, progress)
    sides = [likely[at] for at in range(len(whole)) if len(likely[at]) == 2]
    if sides:
        ours, theirs = ([side[which] for side in sides] for which in ("ours", "theirs"))
        own = perplexity(*zip(*theirs, strict=True)).value
        left = len(pairs) - len(sides)
        yield Drift(task, "perplexity", perplexity(*zip(*ours, strict=True)), own, left)
    if whole:
        yield _meaning(task, whole, len(pairs) - len(whole))


def _likelihoods(
    task: str, pairs: list[_Pair], backend: Backend, progress: Progress
) -> list[dict[str, tuple[float, int]]]:
    """Per pair: side -> nats and tokens of its answer under the model, where it could be read."""
    requests = []
    for at, pair in enumerate(pairs):
        context = encoded(backend, pair.sample)
        for side, text in (("ours", pair.ours), ("theirs", pair.theirs)):
            before, target = encode_answer(backend, text, context)
            if target:
                requests.append(LogprobRequest(f"{at}#{side}", (*context, *before), target))
    found: list[dict[str, tuple[float, int]]] = [{} for _ in pairs]
    stage = f"{task}: answers under the anchor"
    progress(stage, 0, len(requests))
    for done, answer in enumerate(backend.logprobs(requests), start=1):
        number, _, side = answer.request_id.partition("#")
        nats = -sum(answer.logprobs)
        if answer.error is None and math.isfinite(nats):
            found[int(number)][side] = (nats, len(answer.logprobs))
        progress(stage, done, len(requests))
    return found


def _meaning(task: str, pairs: list[_Pair], left_out: int) -> Drift:
    from harness.metrics.similarity import embed

    twice = [pair for pair in pairs if pair.again is not None and pair.again.strip()]
    again = [pair.again or "" for pair in twice]
    texts = list(dict.fromkeys([*(p.ours for p in pairs), *(p.theirs for p in pairs), *again]))
    at = dict(zip(texts, embed(texts), strict=True))
    found = distance([at[pair.ours] for pair in pairs], [at[pair.theirs] for pair in pairs])
    own = None
    if twice:
        own = distance([at[text] for text in again], [at[pair.theirs] for pair in twice]).value
    return Drift(task, "meaning", found, own, left_out)
