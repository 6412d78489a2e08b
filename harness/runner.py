"""Generate, score, store: three stages, each of which can be run again alone.

Answers are cached by the bytes of the model and everything else that could change them, so a
second run of the same thing generates nothing, and a crash loses at most a second of answers.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import runs
from harness.backends.base import Backend, GenerationRequest, LogprobRequest
from harness.errors import UserError
from harness.fingerprint import provenance
from harness.metrics.base import Evidence, Metric, MetricItem
from harness.metrics.perplexity import rolling_windows
from harness.records import (
    Fingerprint,
    Response,
    ResponseKind,
    Run,
    Sample,
    Score,
    ScoreOutcome,
)
from harness.store import Store
from harness.suite import Suite, Task, digest_of, limited

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much is done, and of how much."""

FLUSH_EVERY_S = 1.0
FLUSH_EVERY_ROWS = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to be scored: its name, the digest of its bytes, and how to open it.

    `open` is called only when something has to be generated. `subject` says what is being
    compared (backend, dtype, quantisation) and is part of what answers are cached under.
    """

    name: str
    digest: str
    subject: Mapping[str, Any]
    open: Callable[[], Backend]


@dataclass(frozen=True, slots=True)
class Extent:
    """How much evidence: each sampled task's K times `responses`, and a share of the reserve.

    With `gated_only`, tasks that can stop nobody stay at their first look.
    """

    responses: int = 1
    reserve: float = 0.0
    gated_only: bool = False

    def of(self, suite: Suite, task: Task) -> Extent:
        """This extent as it applies to one task."""
        return self if not self.gated_only or suite.is_gated(task) else Extent()


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a call to `score` did. `failed` counts answers that are errors."""

    run: Run
    generated: int
    reused: int
    failed: int
    scored: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One answer that a run needs, with the address under which it is cached."""

    key: str
    task: Task
    sample: Sample
    kind: ResponseKind
    index: int
    draw: int


def silent(_stage: str, _done: int, _total: int) -> None:
    """Show no progress."""


def score(
    candidate: Candidate,
    suite: Suite,
    store: Store,
    *,
    seed: int = 0,
    limit: int | None = None,
    draw: int = 0,
    extent: Extent = Extent(),
    training_id: str | None = None,
    step: int | None = None,
    progress: Progress = silent,
) -> RunReport:
    """Score one model on one suite. Only what is missing is generated and scored.

    The run's id is a digest of everything that decides its numbers, so the same call names the
    same run, a larger `extent` extends it, and an interrupted one goes on where it was.
    """
    began = time.monotonic()
    run = _announce(candidate, suite, store, seed, limit, draw, training_id, step)
    try:
        wanted = list(_plan(candidate, suite, seed, limit, draw, extent))
        responses, fresh = generate(candidate, wanted, store, seed, progress)
        runs.link_responses(store, run.id, responses.values())
        scored = score_responses(run, suite, wanted, responses, store, draw, progress)
    except BaseException as error:
        event = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        runs.save_event(store, run.id, event, {"error": f"{type(error).__name__}: {error}"[:500]})
        raise
    failed = sum(response.error is not None for response in responses.values())
    report = RunReport(run, fresh, len(wanted) - fresh, failed, scored, time.monotonic() - began)
    if fresh or scored:
        detail = {"generated": fresh, "reused": report.reused, "seconds": round(report.seconds, 3)}
        runs.save_event(store, run.id, "finished", detail)
    return report


def rescore(
    run: Run, suite: Suite, store: Store, *, draw: int = 0, progress: Progress = silent
) -> RunReport:
    """Score a run's stored answers again with today's metrics; the model is not needed.

    Where the metrics' versions are the run's own, scores are appended to it; where they are not,
    the same answers become a new run, since its protocol is another.
    """
    began = time.monotonic()

    def closed() -> Backend:
        raise UserError(
            "some of the run's answers are missing, and rescoring does not generate",
            cure=f"`ratchet score {run.model} --suite {suite.path}` generates what is missing",
        )

    candidate = Candidate(run.model, run.model_digest, run.fingerprint.subject, closed)
    again = _announce(candidate, suite, store, run.seed, run.limit, draw, run.training_id, run.step)
    responses = {response.key: response for response in runs.run_responses(store, run.id)}
    everything = Extent(
        responses=max((1, *(_factor(suite, response) for response in responses.values()))),
        reserve=1.0,
    )
    wanted = [
        want
        for want in _plan(candidate, suite, run.seed, run.limit, draw, everything)
        if want.key in responses
    ]
    if not wanted:
        raise UserError(
            f"none of run {run.id}'s answers belong to this suite",
            file=suite.path,
            cure="rescore with the suite that it was scored on; new prompts need new answers",
        )
    runs.link_responses(store, again.id, (responses[want.key] for want in wanted))
    scored = score_responses(
        again, suite, wanted, responses, store, draw, progress, everything_again=True
    )
    runs.save_event(store, again.id, "rescored", {"from": run.id, "scores": scored})
    failed = sum(responses[want.key].error is not None for want in wanted)
    return RunReport(again, 0, len(wanted), failed, scored, time.monotonic() - began)


def missing_answers(
    candidate: Candidate,
    suite: Suite,
    store: Store,
    *,
    seed: int = 0,
    limit: int | None = None,
    draw: int = 0,
    extent: Extent = Extent(),
) -> dict[tuple[str, ResponseKind], tuple[int, int, int]]:
    """What a call to `score` would ask for: (task, kind) -> missing, of how many, and at most
    how many new tokens.
    """
    wanted = list(_plan(candidate, suite, seed, limit, draw, extent))
    known = runs.cached_responses(store, [want.key for want in wanted])
    counts: dict[tuple[str, ResponseKind], tuple[int, int, int]] = {}
    for want in wanted:
        missing, total, tokens = counts.get((want.task.name, want.kind), (0, 0, 0))
        new = want.key not in known
        longest = want.task.settings.max_new_tokens if want.kind == "generation" and new else 0
        counts[want.task.name, want.kind] = (missing + new, total + 1, tokens + longest)
    return counts


def _factor(suite: Suite, response: Response) -> int:
    names = {task.name: task for task in suite.tasks}
    task = names.get(response.task)
    return 1 if task is None else response.index // task.responses + 1


def protocol_of(suite: Suite, seed: int, limit: int | None) -> dict[str, Any]:
    """The suite's protocol, and which samples of it were taken."""
    return {**suite.protocol, "@sampling": {"limit": limit, "seed": seed if limit else None}}


def _announce(
    candidate: Candidate,
    suite: Suite,
    store: Store,
    seed: int,
    limit: int | None,
    draw: int,
    training_id: str | None,
    step: int | None,
) -> Run:
    protocol = protocol_of(suite, seed, limit)
    decides = [candidate.digest, dict(candidate.subject), protocol, seed, draw]
    run = Run(
        id=digest_of(decides),
        model=candidate.name,
        model_digest=candidate.digest,
        suite=suite.name,
        suite_digest=suite.digest,
        fingerprint=Fingerprint(protocol, dict(candidate.subject), provenance()),
        started_at=runs.now(),
        seed=seed,
        limit=limit,
        training_id=training_id,
        step=step,
    )
    runs.save_run(store, run, draw=draw, suite_path=str(suite.path.resolve()))
    for task in suite.tasks:
        runs.save_samples(store, task.digest, task.samples)
    return run


def samples_in(
    suite: Suite, task: Task, limit: int | None, seed: int, extent: Extent
) -> tuple[Sample, ...]:
    """The samples that an extent takes: all but the reserve, and then a share of the reserve."""
    first = tuple(sample for sample in task.samples if not sample.reserve)
    reserve = [sample for sample in task.samples if sample.reserve]
    taken = round(len(reserve) * min(max(extent.of(suite, task).reserve, 0.0), 1.0))
    return (*limited(first, limit, seed), *reserve[:taken])


def _plan(
    candidate: Candidate,
    suite: Suite,
    seed: int,
    limit: int | None,
    draw: int,
    extent: Extent,
) -> Iterator[_Wanted]:
    """Every answer that the run needs, in a fixed order."""
    for task in suite.tasks:
        settings = task.protocol["generate"]
        for kind in task.kinds:
            sampled = kind == "generation" and task.settings.temperature > 0
            count = task.responses * (extent.of(suite, task).responses if sampled else 1)
            for sample in samples_in(suite, task, limit, seed, extent):
                asked = {
                    "generation": [list(sample.prompt), settings],
                    "reference": [list(sample.prompt), sample.references],
                    "text": [sample.text],
                }[kind]
                base = [candidate.digest, dict(candidate.subject), task.name, kind, asked]
                for index in range(count if kind != "reference" else len(sample.references)):
                    # A greedy answer has no randomness, so neither seed nor draw changes it.
                    chance = [sample.id, seed, index, draw] if sampled else [sample.id, index]
                    key = digest_of([base, chance])
                    yield _Wanted(key, task, sample, kind, index, draw if sampled else 0)


def generate(
    candidate: Candidate,
    wanted: Sequence[_Wanted],
    store: Store,
    seed: int,
    progress: Progress = silent,
) -> tuple[dict[str, Response], int]:
    """Stage one: answers for everything wanted, from the cache where they are known.

    Returns the answers by key, and how many of them had to be asked for.
    """
    known = runs.cached_responses(store, [want.key for want in wanted])
    missing = [want for want in wanted if want.key not in known]
    if not missing:
        return known, 0
    backend = candidate.open()
    groups: dict[tuple[str, ResponseKind], list[_Wanted]] = defaultdict(list)
    for want in missing:
        groups[want.task.name, want.kind].append(want)
    for (name, kind), group in groups.items():
        stage = f"{'generate' if kind == 'generation' else 'read'} {name}"
        progress(stage, 0, len(group))
        answers = (
            _generations(backend, group, seed)
            if kind == "generation"
            else _likelihoods(backend, group)
        )
        done = 0
        for batch in _in_flushes(answers):
            runs.save_responses(store, batch, model_digest=candidate.digest)
            known.update((response.key, response) for response in batch)
            done += len(batch)
            progress(stage, done, len(group))
    return known, len(missing)


def _in_flushes(answers: Iterable[Response]) -> Iterator[list[Response]]:
    """Batches so small that a crash loses little, so large that fsync costs nothing."""
    batch: list[Response] = []
    began = time.monotonic()
    try:
        for answer in answers:
            batch.append(answer)
            if len(batch) >= FLUSH_EVERY_ROWS or time.monotonic() - began >= FLUSH_EVERY_S:
                yield batch
                batch, began = [], time.monotonic()
    except GeneratorExit:
        raise
    except BaseException:
        if batch:
            yield batch  # what was answered before the interruption is kept
        raise
    if batch:
        yield batch


def seed_of(seed: int, task: str, sample_id: str, index: int, draw: int) -> int:
    """The 64-bit seed of one response: the same whatever batch it is answered in."""
    text = f"{seed}|{task}|{sample_id}|{index}|{draw}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _generations(backend: Backend, group: Sequence[_Wanted], seed: int) -> Iterator[Response]:
    by_sample: dict[str, list[_Wanted]] = defaultdict(list)
    for want in group:
        by_sample[want.sample.id].append(want)
    requests = [
        GenerationRequest(
            id=sample_id,
            prompt_ids=backend.encode_chat(wants[0].sample.prompt),
            seeds=tuple(
                seed_of(seed, want.task.name, sample_id, want.index, want.draw) for want in wants
            ),
        )
        for sample_id, wants in by_sample.items()
    ]
    for answer in backend.generate(requests, group[0].task.settings):
        want = by_sample[answer.request_id][answer.position]
        yield Response(
            key=want.key,
            sample_id=want.sample.id,
            task=want.task.name,
            kind=want.kind,
            index=want.index,
            draw=want.draw,
            text=answer.text,
            token_ids=answer.token_ids,
            logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
            latency_s=answer.latency_s,
            first_token_s=answer.first_token_s,
            error=answer.error,
        )


def _likelihoods(backend: Backend, group: Sequence[_Wanted]) -> Iterator[Response]:
    """Log-probabilities of given texts; a text longer than the model's window goes in pieces."""
    pieces: dict[str, list[LogprobRequest]] = {}
    wants: dict[str, _Wanted] = {}
    for want in group:
        wants[want.key] = want
        pieces[want.key] = [
            LogprobRequest(f"{want.key}#{number}", context, target)
            for number, (context, target) in enumerate(_windows(backend, want))
        ]
    results: dict[str, dict[int, tuple[tuple[float, ...], float, str | None]]] = defaultdict(dict)
    for key in [key for key, parts in pieces.items() if not parts]:
        yield _likelihood(wants[key], pieces[key], {})
    for part in backend.logprobs([part for parts in pieces.values() for part in parts]):
        key, _, number = part.request_id.rpartition("#")
        results[key][int(number)] = (part.logprobs, part.latency_s, part.error)
        if len(results[key]) == len(pieces[key]):
            yield _likelihood(wants[key], pieces[key], results.pop(key))


def _windows(backend: Backend, want: _Wanted) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    if want.kind == "reference":
        target = backend.encode(want.sample.references[want.index])
        return [(backend.encode_chat(want.sample.prompt), target)] if target else []
    token_ids = backend.encode(want.sample.text or "")
    windows = rolling_windows(token_ids, backend.max_length, backend.prefix_token_id)
    return [(tuple(context), tuple(target)) for context, target in windows]


def _likelihood(
    want: _Wanted,
    parts: Sequence[LogprobRequest],
    results: Mapping[int, tuple[tuple[float, ...], float, str | None]],
) -> Response:
    given = want.sample.text if want.kind == "text" else want.sample.references[want.index]
    errors = [error for _, _, error in results.values() if error]
    return Response(
        key=want.key,
        sample_id=want.sample.id,
        task=want.task.name,
        kind=want.kind,
        index=want.index,
        draw=want.draw,
        text=given or "",
        token_ids=tuple(token for part in parts for token in part.target_ids),
        logprobs=tuple(value for number in sorted(results) for value in results[number][0]),
        latency_s=sum(latency for _, latency, _ in results.values()),
        error=errors[0] if errors else None,
        finish_reason="error" if errors else "stop",
    )


def score_responses(
    run: Run,
    suite: Suite,
    wanted: Sequence[_Wanted],
    responses: Mapping[str, Response],
    store: Store,
    draw: int,
    progress: Progress = silent,
    *,
    everything_again: bool = False,
) -> int:
    """Stage two: every metric's evidence for every sample. Returns how many scores were added."""
    known: dict[tuple[str, str, str, int | None], Score] = {}
    if not everything_again:
        known = {_place(old): old for old in runs.load_scores(store, run.id)}
    signatures = {
        f"{task.name}/{metric.spec.name}": metric.spec.signature for task, metric in suite.metrics()
    }
    added = 0
    pairs = list(suite.metrics())
    for number, (task, metric) in enumerate(pairs):
        progress("score", number, len(pairs))
        items = [
            item
            for item in _items(task, metric, wanted, responses)
            if not _is_settled(task, metric, item, known)
        ]
        evidence = metric.score(items) if items else []
        scores = [
            score
            for item, found in zip(items, evidence, strict=True)
            for score in (_score(run.id, task, metric, item, one, draw) for one in found)
            if not _says_the_same(score, known.get(_place(score)))
        ]
        runs.save_scores(store, scores, signatures=signatures)
        added += len(scores)
    progress("score", len(pairs), len(pairs))
    return added


def _place(score: Score) -> tuple[str, str, str, int | None]:
    return score.task, score.metric, score.sample_id, score.response_index


def _says_the_same(new: Score, old: Score | None) -> bool:
    if old is None:
        return False
    return (new.outcome, new.value, new.reason, new.stats) == (
        old.outcome,
        old.value,
        old.reason,
        old.stats,
    )


def _is_settled(
    task: Task,
    metric: Metric,
    item: MetricItem,
    known: Mapping[tuple[str, str, str, int | None], Score],
) -> bool:
    """Whether every score of this item is known and can't change; an error is tried again.

    A score over *all* of a sample's answers (Pass@k) changes when more answers come, so it is
    always computed anew, and kept only where it says something else.
    """
    spec = metric.spec
    if spec.per == "sample" and spec.form != "group":
        return False
    old = (
        known.get((task.name, spec.name, item.sample.id, index)) for index in _indices(item, metric)
    )
    return all(score is not None and score.outcome is not ScoreOutcome.ERROR for score in old)


def _items(
    task: Task,
    metric: Metric,
    wanted: Sequence[_Wanted],
    responses: Mapping[str, Response],
) -> Iterator[MetricItem]:
    """One item a sample; for a metric over groups of K answers, one item a group of exactly K."""
    spec = metric.spec
    by_sample: dict[str, list[_Wanted]] = defaultdict(list)
    for want in wanted:
        if want.task.name == task.name and want.kind == spec.needs:
            by_sample[want.sample.id].append(want)
    for wants in by_sample.values():
        answers = tuple(
            responses.get(want.key) or _lost(want)
            for want in sorted(wants, key=lambda want: want.index)
        )
        size = task.responses if spec.per == "sample" and spec.form == "group" else len(answers)
        for start in range(0, len(answers), size):
            yield MetricItem(wants[0].sample, answers[start : start + size])


def _lost(want: _Wanted) -> Response:
    """An answer that the backend never gave is an error with a name, never a missing row."""
    return Response(
        want.key,
        want.sample.id,
        want.task.name,
        want.kind,
        want.index,
        want.draw,
        "",
        finish_reason="error",
        error="the backend gave no answer",
    )


def _indices(item: MetricItem, metric: Metric) -> list[int | None]:
    if metric.spec.per == "response":
        return [response.index for response in item.responses]
    return [item.responses[0].index if metric.spec.form == "group" else None]


def _score(
    run_id: str, task: Task, metric: Metric, item: MetricItem, evidence: Evidence, draw: int
) -> Score:
    index = evidence.response_index
    if index is None:
        index = _indices(item, metric)[0] if metric.spec.per == "sample" else None
    return Score(
        run_id=run_id,
        task=task.name,
        metric=metric.spec.name,
        sample_id=item.sample.id,
        response_index=index,
        draw=draw,
        outcome=evidence.outcome,
        value=evidence.value,
        reason=evidence.reason,
        stats=evidence.stats,
        cluster=item.sample.cluster,
    )
