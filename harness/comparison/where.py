"""Where a metric fell: the slices of a task whose samples lost more than its others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.comparison.evidence import metric_scores
from harness.comparison.topics import topics
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
WORDS = 60
"""Words of the questions that are asked about, the most frequent ones."""
LONGEST_LABEL = 40

Condition = tuple[str, str]
Conditions = dict[tuple[Condition, ...], Any]


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


@dataclass(frozen=True, slots=True)
class Fell:
    """A metric of a verdict: its mean harm over `n` samples, in its unit (`nats` or none), and the
    slices that lost more than the rest.
    """

    metric: str
    harm: float
    n: int
    unit: str
    slices: tuple[Slice, ...]


def fell(store: Store, verdict_id: str) -> list[Fell]:
    """Where each failed metric of a stored verdict fell; of each that binds, where none failed.

    Raises UserError where there is no other run, or no metric has values of single samples.
    """
    _, candidate, pairs = compared(store, verdict_id)
    if not pairs:
        raise UserError("no metric of this verdict has values of single samples in both runs")
    declared = tasks_of(candidate.fingerprint.protocol)
    asked: dict[tuple[str, tuple[str, ...]], Conditions] = {}
    found = []
    for name, paired in pairs.items():
        digest = declared[MetricName.parse(name).task].digest
        if (digest, paired.ids) not in asked:
            asked[digest, paired.ids] = conditions(paired.ids, load_samples(store, digest))
        slices = _standing_out(paired, asked[digest, paired.ids], len(pairs))
        unit = "nats" if paired.logarithmic else ""
        found.append(Fell(name, float(paired.harm.mean()), paired.n, unit, tuple(slices)))
    return found


def worst_slices(paired: Paired, samples: Mapping[str, Sample], tests: int = 1) -> list[Slice]:
    """The slices that stand out by their harm, the clearest first; empty where none does.

    Of each field that has at most `LABELS` labels, the language, the length of the question in
    thirds, its topic, pairs of those, and the question's frequent words. `tests` is how many
    metrics are asked about at once: with all of them together, a slice is named in at most 5% of
    worlds in which no slice differs.
    """
    return _standing_out(paired, conditions(paired.ids, samples), tests)


def _standing_out(paired: Paired, asked: Conditions, tests: int) -> list[Slice]:
    if not asked:
        return []
    parts = np.stack(list(asked.values())).astype(float)
    found = standing_out(paired.harm, parts, clusters=paired.clusters, alpha=0.05 / tests)
    named = list(asked)
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
    for each in fell(store, verdict_id):
        unit = f" {each.unit}" if each.unit else ""
        tail = "" if each.slices else " No slice stands out."
        mean = moved(each.harm, unit)
        print_plain(console, f"{each.metric}: {mean} on average over {each.n} samples.{tail}")
        for one in each.slices:
            print_plain(
                console,
                f"  {visible(one.name, 100)}: {moved(one.inside, unit)} on {one.n}, "
                f"{moved(one.outside, unit)} on the others (p = {one.p:.2g} over all slices)",
            )


def moved(harm: float, unit: str) -> str:
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


def conditions(ids: Sequence[str], samples: Mapping[str, Sample]) -> Conditions:
    """Each slice that may be named, with which samples are in it, bool of shape (n,)."""
    rows = [samples.get(name) for name in ids]
    labels = _labels(rows)
    about = topics([None if row is None else _question(row) for row in rows])
    own = {named: inside for field in labels for named, inside in _alone(field, labels[field])}
    mine = dict(_alone("topic", about))
    # The suite's own names first: of two names for the same samples the first is told.
    every = [own, _both(own, own), mine, _both(own, mine), _frequent(rows)]
    found: dict[bytes, tuple[tuple[Condition, ...], Any]] = {}
    for some in every:
        for named, inside in some.items():
            if _carries(inside):
                found.setdefault(inside.tobytes(), (named, inside))
    return dict(found.values())


def _alone(field: str, labels: Sequence[str | None]) -> Iterator[tuple[tuple[Condition, ...], Any]]:
    for label in sorted({each for each in labels if each is not None}):
        inside = np.array([each == label for each in labels])
        if _carries(inside):
            yield ((field, label),), inside


def _both(some: Conditions, others: Conditions) -> Conditions:
    """Pairs of two fields: what is no more than one of them alone is left out."""
    pairs = combinations(some, 2) if some is others else product(some, others)
    found = {}
    for one, other in pairs:
        inside = some[one] & others[other]
        if one[0][0] != other[0][0] and inside.sum() < min(some[one].sum(), others[other].sum()):
            found[(*one, *other)] = inside
    return found


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


def _frequent(rows: Sequence[Sample | None]) -> Conditions:
    """Those in which a word stands that many questions have."""
    asked = [set() if row is None else _words(_question(row)) for row in rows]
    times = Counter(word for each in asked for word in each)
    half = len(asked) / 2
    frequent = [word for word, n in times.most_common() if FEWEST <= n <= half][:WORDS]
    return {
        (("word", f"{word!r}"),): np.array([word in each for each in asked]) for word in frequent
    }


def _words(text: str) -> set[str]:
    return {word for word in words(text.lower()) if any(map(str.isalpha, word))}


def print_plain(console: Console, text: str) -> None:
    """A line of an explanation: what models and data say in it is text, and no markup."""
    console.print(text, markup=False, highlight=False)
