"""Where a metric fell: the slices of a task whose samples lost more than its others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.comparison.evidence import metric_scores
from harness.core.errors import UserError
from harness.core.escape import visible
from harness.core.format import number
from harness.core.protocol import MetricName, tasks_of
from harness.core.scripts import words
from harness.core.types import Run, Sample
from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, Paired, pair
from harness.gate.verdict import MetricVerdict, Verdict
from harness.statistics.standing_out import standing_out
from harness.store.runs import load_samples, require_run
from harness.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

FEWEST = 8
"""Samples inside a slice, and outside it."""
LABELS = 20
"""Of one field: one with more is a text or a number, not a kind."""
TOPICS = 60
"""Words of the questions that are asked about, the most frequent ones."""
LONGEST_LABEL = 40

Condition = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Slice:
    """`conditions` that hold together, on how many samples, their mean harm inside and outside (in
    the metric's unit; nats for perplexity), and the p-value over all slices that were asked about.
    """

    conditions: tuple[Condition, ...]
    n: int
    inside: float
    outside: float
    p: float

    @property
    def name(self) -> str:
        return " and ".join(f"{field} {label}" for field, label in self.conditions)


def worst_slices(paired: Paired, samples: Mapping[str, Sample], tests: int = 1) -> list[Slice]:
    """The slices that stand out by their harm, the clearest first; empty where none does.

    Of each field that has at most `LABELS` labels, the language, the length of the question in
    thirds, pairs of those, and the question's frequent words. `tests` is how many metrics are asked
    about at once: with all of them together, a slice is named in at most 5% of worlds in which no
    slice differs.
    """
    conditions = _conditions(paired, samples)
    if not conditions:
        return []
    parts = np.stack(list(conditions.values())).astype(float)
    found = standing_out(paired.harm, parts, clusters=paired.clusters, alpha=0.05 / tests)
    named = list(conditions)
    return [
        Slice(
            named[each.part],
            int(parts[each.part].sum()),
            float(paired.harm[parts[each.part] == 1].mean()),
            float(paired.harm[parts[each.part] == 0].mean()),
            min(1.0, each.p * tests),
        )
        for each in found
    ]


def compared(store: Store, verdict_id: str) -> tuple[Run, Run, dict[str, Paired]]:
    """A verdict's anchor and candidate, and its failed metrics sample by sample; where none failed,
    all that bind. Raises UserError where it compares with no run.
    """
    [stored] = store.query("SELECT * FROM verdicts WHERE verdict_id = ?", [verdict_id])
    verdict = Verdict.from_dict(stored["detail"])
    if stored["anchor_run"] is None:
        raise UserError("the verdict compares with no other run")
    runs = [require_run(store, stored[side]) for side in ("anchor_run", "candidate_run")]
    rows = [row for row in _asked_about(verdict) if row.slice is None]
    return runs[0], runs[1], dict(_paired(store, rows, runs[0], runs[1]))


def where(store: Store, workspace: object, verdict_id: str, console: Console) -> None:
    """Where it fell"""
    _, candidate, pairs = compared(store, verdict_id)
    if not pairs:
        raise UserError("no metric of this verdict has values of single samples in both runs")
    protocol = candidate.fingerprint.protocol
    for name, paired in pairs.items():
        samples = load_samples(store, tasks_of(protocol)[MetricName.parse(name).task].digest)
        found = worst_slices(paired, samples, len(pairs))
        unit = " nats" if paired.logarithmic else ""
        mean = _moved(float(paired.harm.mean()), unit)
        tail = "" if found else " No slice stands out."
        print_plain(console, f"{name}: {mean} on average over {paired.n} samples.{tail}")
        for each in found:
            print_plain(
                console,
                f"  {visible(each.name, 100)}: {_moved(each.inside, unit)} on {each.n}, "
                f"{_moved(each.outside, unit)} on the others (p = {each.p:.2g} over all slices)",
            )


def _moved(harm: float, unit: str) -> str:
    return f"{number(abs(harm))}{unit} {'lost' if harm > 0 else 'gained'}"


def _asked_about(verdict: Verdict) -> Sequence[MetricVerdict]:
    """What failed; where nothing did, all that binds."""
    return verdict.failing() or tuple(row for row in verdict.rows if row.binding)


def _paired(
    store: Store, rows: Sequence[MetricVerdict], anchor: Run, candidate: Run
) -> Iterator[tuple[str, Paired]]:
    before, after = (metric_scores(store, run) for run in (anchor, candidate))
    for row in rows:
        if row.metric not in after:
            continue
        one, other = before.get(row.metric), after[row.metric]
        # One of them may have met more samples than the other: the verdict is on those of both.
        if one is not None:
            one, other = _of(other, one), _of(one, other)
        try:
            yield row.metric, pair(one, other, error_share=1.0)
        except MismatchError:
            continue


def _of(known: MetricScores, scores: MetricScores) -> MetricScores:
    """`scores` of the samples that are `known` in the other run too."""
    return replace(scores, values={i: v for i, v in scores.values.items() if i in known.values})


def _conditions(paired: Paired, samples: Mapping[str, Sample]) -> dict[tuple[Condition, ...], Any]:
    """Each slice that may be named, with which samples are in it, bool of shape (n,)."""
    rows = [samples.get(name) for name in paired.ids]
    single: dict[tuple[Condition, ...], Any] = {}
    for field, labels in _labels(rows).items():
        for label in sorted({each for each in labels if each is not None}):
            single[((field, label),)] = np.array([each == label for each in labels])
    kept = {named: inside for named, inside in single.items() if _carries(inside)}
    for one, other in combinations(list(kept), 2):
        if one[0][0] == other[0][0]:
            continue
        both = kept[one] & kept[other]
        if _carries(both) and both.sum() < min(kept[one].sum(), kept[other].sum()):
            kept[(*one, *other)] = both
    return kept | _topics(rows)


def _carries(inside: Any) -> bool:
    return bool(FEWEST <= inside.sum() <= inside.size - FEWEST)


def _labels(rows: Sequence[Sample | None]) -> dict[str, list[str | None]]:
    fields = sorted({field for row in rows if row is not None for field in row.fields})
    found: dict[str, list[str | None]] = {}
    for field in fields:
        labels = [None if row is None else _label(row.fields.get(field)) for row in rows]
        if 2 <= len(set(labels) - {None}) <= LABELS:
            found[field] = labels
    languages = [None if row is None else row.language for row in rows]
    if len(set(languages) - {None}) > 1 and languages not in found.values():
        found["language"] = languages
    lengths = [None if row is None else len(_question(row)) for row in rows]
    found["length"] = _in_thirds(lengths)
    return found


def _label(value: Any) -> str | None:
    fine = isinstance(value, str | bool | int) and len(str(value)) <= LONGEST_LABEL
    return str(value) if fine and str(value).strip() else None


def _in_thirds(lengths: Sequence[int | None]) -> list[str | None]:
    known = [length for length in lengths if length is not None]
    if not known:
        return [None] * len(lengths)
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    return [
        None if length is None
        else f"up to {low:.0f} characters" if length <= low
        else f"over {high:.0f} characters" if length > high
        else "in between"
        for length in lengths
    ]  # fmt: skip


def _question(sample: Sample) -> str:
    if sample.text is not None:
        return sample.text
    if sample.question is not None:
        return sample.question
    said = [turn["content"] for turn in sample.prompt if turn.get("role") == "user"]
    return str(said[-1]) if said else ""


def _topics(rows: Sequence[Sample | None]) -> dict[tuple[Condition, ...], Any]:
    asked = [set() if row is None else _words(_question(row)) for row in rows]
    times = Counter(word for each in asked for word in each)
    half = len(asked) / 2
    frequent = [word for word, n in times.most_common() if FEWEST <= n <= half][:TOPICS]
    return {
        (("word", f"{word!r}"),): np.array([word in each for each in asked]) for word in frequent
    }


def _words(text: str) -> set[str]:
    return {word for word in words(text.lower()) if any(map(str.isalpha, word))}


def print_plain(console: Console, text: str) -> None:
    """A line of an explanation: what models and data say in it is text, and no markup."""
    console.print(text, markup=False, highlight=False)
