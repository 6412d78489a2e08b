"""Elo: two runs' answers meet in pairs, each judged once and kept as a vote."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.digests import digest_of
from harness.core.protocol import MetricName, metrics_of, tasks_of
from harness.core.thoughts import without_thoughts
from harness.core.types import Row, Run, Sample, Score, ScoreOutcome
from harness.gate.metric_scores import MetricScores
from harness.metrics.elo import ELO, AnswerPair, Elo, Preference
from harness.store import runs
from harness.store.store import Store
from harness.suite.answers import read
from harness.suite.suite import Suite, Task

BATCH = 64
"""Pairs that are judged between two writes: a crash loses no more."""

_PASSED = "passed: "
"""Begins the comment of a pair that the judge can't read, whoever answers."""

_POINTS = {"left": 1.0, "tie": 0.5, "right": 0.0}

Only = Mapping[str, Collection[str]]
Limits = Mapping[str, int]


def pool_of(protocol: Mapping[str, Any], task: str) -> str | None:
    """The `session_id` of all votes of one judge on one version of a task: what was asked, and what
    of an answer is read. None where the task's metrics have no elo.
    """
    declared = tasks_of(protocol).get(task)
    if declared is None or ELO not in declared.metrics:
        return None
    return f"elo-{digest_of([declared.digest, declared.metrics[ELO]['signature']])[:16]}"


def tasks_with_elo(protocol: Mapping[str, Any]) -> list[str]:
    return [name.task for name, _ in metrics_of(protocol) if name.metric == ELO]


@dataclass(frozen=True, slots=True)
class _Answer:
    """One generated answer of a run: its key, and its text as it was written; None where it is an
    error.
    """

    key: str
    text: str | None


Answers = Mapping[str, list[_Answer]]
"""Sample id -> its answers by index."""


def meet(
    store: Store,
    suite: Suite,
    anchor: Run,
    candidate: Run,
    *,
    only: Only | None = None,
    limits: Limits | None = None,
) -> int:
    """Judge what is not judged yet of the pairs of two runs, for each task with elo.

    `only` (task -> sample ids) and `limits` (task -> answers of a sample) are what a look planned;
    None takes all that the candidate has. Returns how many pairs the judge was given. Runs of one
    model have no pairs, and neither have runs that weren't asked the same.
    """
    asked = 0
    for task in suite.tasks:
        metric = next((one for one in task.metrics if isinstance(one, Elo)), None)
        pools = {pool_of(run.fingerprint.protocol, task.name) for run in (anchor, candidate)}
        pool = pool_of(suite.protocol, task.name)
        if metric is None or pools != {pool} or anchor.model_digest == candidate.model_digest:
            continue
        assert pool is not None
        sides = [_answers(store, run, task.name) for run in (anchor, candidate)]
        chosen = None if only is None else set(only.get(task.name, ()))
        meetings = list(_meetings(sides[0], sides[1], chosen, (limits or {}).get(task.name)))
        asked += _Pool(store, pool, task, metric, (anchor, candidate)).judge(meetings)
    return asked


def _answers(store: Store, run: Run, task: str) -> Answers:
    found: dict[str, list[_Answer]] = {}
    for row in store.query(
        "SELECT l.sample_id, r.key, CASE WHEN r.error IS NULL THEN r.text END AS text "
        "FROM run_responses l JOIN responses r USING (key) WHERE l.run_id = ? AND l.task = ? "
        "AND l.kind = 'generation' ORDER BY l.sample_id, l.draw, l.response_index",
        [run.id, task],
    ):
        found.setdefault(row["sample_id"], []).append(_Answer(row["key"], row["text"]))
    return found


def _meetings(
    anchor: Answers, candidate: Answers, only: set[str] | None, limit: int | None
) -> Iterator[tuple[str, _Answer, _Answer]]:
    """(sample, the anchor's answer, the candidate's): each of the candidate's meets one, in order,
    and begins anew where the anchor has fewer.
    """
    for sample, answers in candidate.items():
        rivals = anchor.get(sample)
        if rivals and (only is None or sample in only):
            for index, answer in enumerate(answers[:limit]):
                yield sample, rivals[index % len(rivals)], answer


@dataclass(frozen=True, slots=True)
class _Pool:
    """All pairs of two runs on one task that one judge decides."""

    store: Store
    pool: str
    task: Task
    metric: Elo
    sides: tuple[Run, Run]

    def judge(self, meetings: Sequence[tuple[str, _Answer, _Answer]]) -> int:
        samples = {sample.id: sample for sample in self.task.samples}
        rows = {
            row["vote_id"]: (row, AnswerPair(samples[sample], self._read(left), self._read(right)))
            for sample, *two in meetings
            if sample in samples and all(one.text is not None for one in two)
            for left, right in [sorted(two, key=lambda one: one.key)]
            if left.key != right.key
            for row in [self._row(samples[sample], left, right, swapped=left is not two[0])]
        }
        known = {
            row["vote_id"]
            for row in self.store.query(
                "SELECT vote_id FROM votes WHERE session_id = ?", [self.pool]
            )
        }
        todo = [(row, pair) for vote, (row, pair) in rows.items() if vote not in known]
        before = self._judged_before([row["pair_id"] for row, _ in todo])
        self.store.append(
            "votes", [row | before[row["pair_id"]] for row, _ in todo if row["pair_id"] in before]
        )
        fresh = [(row, pair) for row, pair in todo if row["pair_id"] not in before]
        for start in range(0, len(fresh), BATCH):
            some = fresh[start : start + BATCH]
            found = self.metric.prefer([pair for _, pair in some])
            told = [
                row | _told(one) for (row, _), one in zip(some, found, strict=True) if not one.lost
            ]
            self.store.append("votes", told)
        return len(fresh)

    def _read(self, answer: _Answer) -> str:
        text, filters = answer.text or "", self.task.answer
        return without_thoughts((read(text) if filters is None else filters.read(text)).text)

    def _judged_before(self, pairs: Sequence[str]) -> dict[str, Row]:
        """Pair -> the choice, where the same two answers were judged for another version of the
        task: one more row of its data changes none of them.
        """
        if not pairs:
            return {}
        rows = self.store.query(
            "SELECT pair_id, any_value(choice) AS choice, any_value(comment) AS comment FROM votes "
            "WHERE starts_with(session_id, 'elo-') AND pair_id IN (SELECT unnest(?::VARCHAR[])) "
            "GROUP BY pair_id",
            [list(pairs)],
        )
        return {row.pop("pair_id"): row for row in rows}

    def _row(self, sample: Sample, left: _Answer, right: _Answer, *, swapped: bool) -> Row:
        """A vote without its choice. The lesser key stands left, whichever run it is of."""
        models = [run.model_digest for run in self.sides][:: -1 if swapped else 1]
        filters = self.task.answer.protocol if self.task.answer else None
        signature = self.metric.spec.signature
        pair = digest_of([signature, filters, list(sample.references), left.key, right.key])
        return {
            "vote_id": digest_of([self.pool, pair]),
            "session_id": self.pool,
            "rater": self.metric.rater,
            "rater_kind": self.metric.kind,
            "pair_id": pair,
            "purpose": "plain",
            "task": self.task.name,
            "sample_id": sample.id,
            "left_key": left.key,
            "right_key": right.key,
            "left_model": models[0],
            "right_model": models[1],
            "dimension": "preference",
        }


def _told(found: Preference) -> Row:
    if found.choice is not None:
        return {"choice": found.choice}
    # No verdict is kept as well, or the judge would be asked again for ever.
    comment = f"{_PASSED if found.passed else ''}{found.problem}"
    return {"choice": "skip", "comment": comment}


def with_wins(
    store: Store,
    anchor: Run,
    candidate: Run,
    scores: Mapping[str, MetricScores],
    *,
    only: Only | None = None,
    limits: Limits | None = None,
) -> dict[str, MetricScores]:
    """The candidate's `scores`, those of elo replaced by its win share against `anchor`.

    A sample's value is the mean over its pairs. One without a verdict on all of its pairs is an
    error; one that the judge can't read, whoever answers, is left out. Without pairs no sample has
    a value. Against its own answers a run wins a half.
    """
    found = dict(scores)
    for task in tasks_with_elo(candidate.fingerprint.protocol):
        name = str(MetricName(task, ELO))
        if name in found:
            own = None if only is None else set(only.get(task, ()))
            points = _points(store, anchor, candidate, task, own, (limits or {}).get(task))
            whole = {s: v for s, v in points.items() if v and None not in v}
            found[name] = replace(
                found[name],
                values={s: sum(v) / len(v) for s, v in whole.items()},  # type: ignore[arg-type]
                errors=sum(None in v for v in points.values()),
                lost=0,
                total=sum(bool(v) for v in points.values()),
                clusters=_clusters(store, candidate, task) or None,
                variance=None,
                stats=None,
                rates={},
            )
    return found


def _points(
    store: Store,
    anchor: Run,
    candidate: Run,
    task: str,
    only: set[str] | None,
    limit: int | None,
) -> dict[str, list[float | None]]:
    """Sample -> the candidate's points in each of its pairs, None without a verdict; no pairs for a
    sample that the judge can't read.
    """
    votes = {}
    for row in store.query(
        "SELECT left_key, right_key, choice, comment FROM votes WHERE session_id = ? "
        "AND ? IN (left_model, right_model) AND ? IN (left_model, right_model)",
        [
            pool_of(candidate.fingerprint.protocol, task),
            anchor.model_digest,
            candidate.model_digest,
        ],
    ):
        votes[row["left_key"], row["right_key"]] = row
    same = anchor.model_digest == candidate.model_digest
    found: dict[str, list[float | None]] = {}
    sides = [_answers(store, run, task) for run in (anchor, candidate)]
    for sample, theirs, ours in _meetings(sides[0], sides[1], only, limit):
        points = found.setdefault(sample, [])
        if same or ours.key == theirs.key:
            points.append(0.5)
            continue
        vote = votes.get((min(ours.key, theirs.key), max(ours.key, theirs.key)), {})
        if (vote.get("comment") or "").startswith(_PASSED):
            continue
        share = _POINTS.get(vote.get("choice", ""))
        points.append(share if share is None or vote["left_key"] == ours.key else 1 - share)
    return found


def _clusters(store: Store, run: Run, task: str) -> dict[str, str]:
    rows = store.query(
        "SELECT sample_id, cluster FROM samples WHERE task_digest = ? AND cluster IS NOT NULL",
        [tasks_of(run.fingerprint.protocol)[task].digest],
    )
    return {row["sample_id"]: row["cluster"] for row in rows}


def save_wins(store: Store, anchor: Run, candidate: Run) -> None:
    """Keep the win share of each answer against `anchor` among the run's scores, so that tables and
    pages show on which samples it lost. The last anchor's is the one that is shown.
    """
    signatures = {
        str(name): says["signature"]
        for name, says in metrics_of(candidate.fingerprint.protocol)
        if name.metric == ELO
    }
    if not signatures or anchor.model_digest == candidate.model_digest:
        return
    known = {
        (old.task, old.sample_id, old.response_index): old
        for old in runs.load_scores(store, candidate.id)
        if old.metric == ELO
    }
    fresh = []
    for task in tasks_with_elo(candidate.fingerprint.protocol):
        clusters = _clusters(store, candidate, task)
        for sample, points in _points(store, anchor, candidate, task, None, None).items():
            for index, value in enumerate(points):
                old = known.get((task, sample, index))
                if value is not None and old is not None and old.value != value:
                    fresh.append(
                        Score(
                            run_id=candidate.id,
                            task=task,
                            metric=ELO,
                            sample_id=sample,
                            response_index=index,
                            draw=old.draw,
                            outcome=ScoreOutcome.SCORED,
                            value=value,
                            reason=None,
                            stats=(),
                            cluster=clusters.get(sample),
                        )
                    )
    runs.save_scores(store, fresh, signatures=signatures)
