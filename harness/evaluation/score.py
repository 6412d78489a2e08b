"""Stage two: every metric's evidence for every sample that has none yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from harness.core.types import Response, Run, Score, ScoreOutcome
from harness.evaluation.generate import Progress, silent
from harness.evaluation.plan import Wanted
from harness.evaluation.read import Readings
from harness.metrics.base import Evidence, Metric, MetricItem
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite, Task


def score_responses(
    run: Run,
    suite: Suite,
    wanted: Sequence[Wanted],
    responses: Mapping[str, Response],
    store: Store,
    draw: int,
    progress: Progress = silent,
    *,
    everything_again: bool = False,
) -> int:
    """Stage two: score every sample with every metric. Returns how many scores were added.

    `responses` are the answers by key. Scores that are known and can't change are left as they
    are, unless `everything_again`; a score that comes out as the stored one is not added again.
    """
    known: dict[tuple[str, str, str, int | None], Score] = {}
    if not everything_again:
        known = {_place(old): old for old in runs.load_scores(store, run.id)}
    signatures = {task.named(metric): metric.spec.signature for task, metric in suite.metrics()}
    added = 0
    pairs = list(suite.metrics())
    readings = {task.name: Readings(task) for task in suite.tasks}
    for number, (task, metric) in enumerate(pairs):
        progress("score", number, len(pairs))
        items = [
            item
            for item in _items(readings[task.name], metric, wanted, responses)
            if not _is_settled(task, metric, item, known)
        ]
        evidence = metric.score(items) if items else []
        scores = [
            score
            for item, found in zip(items, evidence, strict=True)
            for score in (
                _score(run.id, task, metric, item, one, draw)
                for one in _explained(readings[task.name], item, found)
            )
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

    A score over *all* of a sample's answers changes when more answers come, so it is computed
    anew, and added only where it differs. Pass@k stores over how many answers it was computed, so
    its programs run again only where there are more.
    """
    spec = metric.spec
    if not known:
        return False
    if spec.form == "pass_at_k":
        score = known.get((task.name, spec.name, item.sample.id, None))
        return score is not None and score.stats[:1] == (float(len(item.responses)),)
    if spec.per == "sample" and spec.form != "group":
        return False
    old = (
        known.get((task.name, spec.name, item.sample.id, index)) for index in _indices(item, metric)
    )
    return all(score is not None and score.outcome is not ScoreOutcome.ERROR for score in old)


def _explained(
    readings: Readings, item: MetricItem, found: Sequence[Evidence]
) -> Iterator[Evidence]:
    """The evidence of one item, that of single responses with what is wrong with them."""
    by_index = {response.index: response for response in item.responses}
    for evidence in found:
        response = by_index.get(-1 if evidence.response_index is None else evidence.response_index)
        yield evidence if response is None else readings.explained(evidence, response)


def _items(
    readings: Readings,
    metric: Metric,
    wanted: Sequence[Wanted],
    responses: Mapping[str, Response],
) -> Iterator[MetricItem]:
    """One item a sample; for a metric over groups of K answers, one item a group of exactly K."""
    spec = metric.spec
    by_sample: dict[str, list[Wanted]] = defaultdict(list)
    for want in wanted:
        if want.task.name == readings.task.name and want.kind == spec.needs:
            by_sample[want.sample.id].append(want)
    for wants in by_sample.values():
        answers = tuple(
            readings.of(responses.get(want.key) or _lost(want))
            for want in sorted(wants, key=lambda want: want.index)
        )
        size = (
            readings.task.responses
            if spec.per == "sample" and spec.form == "group"
            else len(answers)
        )
        for start in range(0, len(answers), size):
            yield MetricItem(wants[0].sample, answers[start : start + size])


def _lost(want: Wanted) -> Response:
    """The response in place of one that the backend never gave: an error, never a missing row."""
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
