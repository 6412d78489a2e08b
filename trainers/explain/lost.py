"""The samples that a verdict found worse, as texts that the candidate should have found likely."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.attribution.sample import right_answer
from harness.comparison.evidence import metric_scores
from harness.core.errors import UserError
from harness.core.protocol import MetricName, tasks_of
from harness.core.types import Run, Sample
from harness.gate.verdict import MetricVerdict, Verdict
from harness.store.runs import load_samples, require_run
from harness.store.store import Store
from trainers.explain.influence import IGNORED, Tokens

MOST = 64
"""Samples whose gradient is taken: those that lost most."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A sample of `task` that got worse on `metric`, by `harm` > 0 in its unit, and what should
    have been said: the sample's text, its reference, or else what the anchor said.
    """

    task: str
    metric: str
    sample: Sample
    harm: float
    said: str

    def tokens(self, backend: Any) -> Tokens:
        """As the model is asked for it when it is scored, cut to what it reads."""
        most = backend.max_length
        if self.sample.text is not None:
            ids = (backend.prefix_token_id, *backend.encode(self.sample.text))[:most]
            return Tokens(ids, (IGNORED, *ids[1:]))
        prompt = backend.encode_chat(self.sample.prompt, self.sample.options)
        before, answer = backend.encode_answer(self.said, prompt)
        asked = (*prompt, *before)
        labels = (*[IGNORED] * len(asked), *answer)
        return Tokens((*asked, *answer)[:most], labels[:most])


def lost_samples(store: Store, verdict_id: str, *, most: int = MOST) -> list[Lost]:
    """Those on which a stored verdict's two runs differ most, for the worse: in turn of each metric
    that failed, or of all binding ones where none did. A sample is named once.

    Raises UserError where none got worse, or none has a text that it should have had.
    """
    [stored] = store.query("SELECT * FROM verdicts WHERE verdict_id = ?", [verdict_id])
    verdict = Verdict.from_dict(stored["detail"])
    runs = [require_run(store, stored[side]) for side in ("anchor_run", "candidate_run")]
    rows = verdict.failing() or tuple(row for row in verdict.rows if row.binding)
    queues = [list(_worst(store, row, runs[0], runs[1])) for row in rows]
    found: list[Lost] = []
    seen: set[tuple[str, str]] = set()
    for place in range(max(map(len, queues), default=0)):
        for lost in (queue[place] for queue in queues if place < len(queue)):
            name = (lost.task, lost.sample.id)
            if name not in seen and len(found) < most:
                seen.add(name)
                found.append(lost)
    if not found:
        raise UserError(
            "no sample got worse that has a text to learn: nothing asks which rows taught it",
            hint="explain a verdict in which a metric fell",
        )
    return found


def _worst(store: Store, row: MetricVerdict, anchor: Run, candidate: Run) -> Iterator[Lost]:
    """The samples of one metric, those that lost most first."""
    task = MetricName.parse(row.metric).task
    tasks = tasks_of(candidate.fingerprint.protocol)
    if task not in tasks:
        return
    samples = load_samples(store, tasks[task].digest)
    for harm, name in sorted(_harms(store, row, anchor, candidate), key=lambda h: (-h[0], h[1])):
        sample = samples.get(name)
        said = None if sample is None else right_answer(store, anchor, sample)
        if sample is not None and said:
            yield Lost(task, row.metric, sample, harm, said)


def _harms(
    store: Store, row: MetricVerdict, anchor: Run, candidate: Run
) -> Iterator[tuple[float, str]]:
    better = 1 if row.measured.direction == "higher" else -1
    if row.slice is not None:
        pairs = {moved.id: (moved.anchor, moved.candidate) for moved in row.measured.moved}
    else:
        before, after = (
            metric_scores(store, run)[row.metric].values for run in (anchor, candidate)
        )
        pairs = {name: (before[name], after[name]) for name in before.keys() & after.keys()}
    for name, (was, now) in pairs.items():
        if (harm := better * (was - now)) > 0:
            yield harm, name
