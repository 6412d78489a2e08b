"""What kind of mistakes answers make, by rules, and which kinds became more or fewer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from harness.comparison.where import print_plain
from harness.core.errors import UserError
from harness.core.escape import visible
from harness.core.language import detect_language
from harness.core.protocol import tasks_of
from harness.core.scripts import words
from harness.core.thoughts import without_thoughts
from harness.core.told_language import can_tell, tell_language
from harness.core.types import Response, Sample
from harness.metrics.json_answers import NotJsonError, fields_of, parse_answer, same_json
from harness.metrics.refusal import refuses
from harness.statistics.multiplicity import holm
from harness.store.runs import load_samples, require_run, run_responses
from harness.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

MOST = 12
"""Kinds that are shown, those that changed most clearly first."""
SURE = 0.05
FIELDS = 40

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?")
_RUN = 4
_SIDES = ("anchor", "candidate")
_LONG = 20


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of mistake in one task: in how many of `n` samples the anchor and the candidate
    make it (a share of a sample's answers counts as that share), and the p-value of the change
    over all kinds, two-sided.
    """

    task: str
    kind: str
    before: float
    after: float
    n: int
    p: float


def kinds_of(sample: Sample, response: Response) -> set[str]:
    """The mistakes that a rule finds in one answer; empty where it finds none.

    Of any answer: an error, nothing said, cut at the length limit, a refusal (its wording), words
    repeated over and over. Of one with a reference: another language, and by what the reference is,
    no JSON object, a field of it missing, wrong or not asked for, or another number.
    """
    if response.error is not None:
        return {"no answer: an error"}
    found = set()
    text = without_thoughts(response.text).strip()
    if not text:
        found.add("nothing said")
    if response.finish_reason == "length":
        found.add("cut at the length limit")
    if refuses(text):
        found.add("refuses")
    if _repeats(text):
        found.add("repeats itself")
    if sample.references and text:
        found |= _beside(text, sample.references)
    return found


def changes(
    samples: Mapping[str, Sample], anchor: Sequence[Response], candidate: Sequence[Response]
) -> list[Change]:
    """The kinds that either run's answers show on the samples that both answered, the clearest
    change first. Of each, samples (clusters, where there are any) on which it came are held against
    those on which it went (the sign test, exact), by Holm over all kinds.
    """
    sides = [_shares(samples, side) for side in (anchor, candidate)]
    both = sorted(sides[0].keys() & sides[1].keys())
    found: list[tuple[str, str, float, float, int]] = []
    p: list[float] = []
    for task in sorted({samples[name].task for name in both}):
        mine = [name for name in both if samples[name].task == task]
        kinds = sorted({kind for name in mine for side in sides for kind in side[name]})
        for kind in kinds:
            before, after = (sum(side[name].get(kind, 0.0) for name in mine) for side in sides)
            found.append((task, kind, before, after, len(mine)))
            p.append(_sign_test(samples, mine, kind, *sides))
    adjusted = holm(p).tolist() if p else []
    made = [Change(*each, value) for each, value in zip(found, adjusted, strict=True)]
    return sorted(made, key=lambda each: (each.p, -abs(each.after - each.before), each.kind))


def mistakes(store: Store, workspace: object, verdict_id: str, console: Console) -> None:
    """What kind of mistakes"""
    found = kinds_between(store, verdict_id)
    if not found:
        print_plain(console, "No rule finds a mistake in the answers of either model.")
    sure = [each for each in found if each.p <= SURE]
    for each in (sure or found)[:MOST]:
        p = f"p = {each.p:.2g}" if each.p >= 1e-4 else "p < 0.0001"
        counts = f"{count(each.before)} → {count(each.after)} of {each.n} samples"
        print_plain(console, f"  {each.task}: {visible(each.kind, 60)}  {counts} ({p})")
    if found and len(sure) < len(found):
        kinds = f"{len(found) - len(sure)} {'more ' if sure else ''}kinds"
        print_plain(console, f"Of {kinds} none became surely more or fewer.")


def kinds_between(store: Store, verdict_id: str) -> list[Change]:
    """The `changes` between the answers of a stored verdict's two runs. Raises UserError where it
    compares with no run.
    """
    [stored] = store.query("SELECT * FROM verdicts WHERE verdict_id = ?", [verdict_id])
    if stored["anchor_run"] is None:
        raise UserError("the verdict compares with no other run")
    anchor, candidate = (require_run(store, stored[f"{side}_run"]) for side in _SIDES)
    protocol = candidate.fingerprint.protocol
    samples = {
        (name, sample.id): sample
        for name, task in tasks_of(protocol).items()
        for sample in load_samples(store, task.digest).values()
    }
    named = {f"{task}\0{name}": sample for (task, name), sample in samples.items()}
    sides = [
        [
            response
            for response in run_responses(store, run.id)
            if response.kind == "generation" and (response.task, response.sample_id) in samples
        ]
        for run in (anchor, candidate)
    ]
    return changes(named, *sides)


def count(samples: float) -> str:
    """So many samples: shares of some samples' answers may make them no whole number."""
    return f"{samples:.0f}" if samples == round(samples) else f"{samples:.1f}"


def _shares(
    samples: Mapping[str, Sample], responses: Sequence[Response]
) -> dict[str, dict[str, float]]:
    """Sample -> kind -> the share of its answers that make this mistake."""
    answers: dict[str, list[Response]] = defaultdict(list)
    for response in responses:
        answers[f"{response.task}\0{response.sample_id}"].append(response)
    found: dict[str, dict[str, float]] = {}
    for name, each in answers.items():
        counted: defaultdict[str, float] = defaultdict(float)
        for response in each:
            for kind in kinds_of(samples[name], response):
                counted[kind] += 1 / len(each)
        found[name] = counted
    return found


def _sign_test(
    samples: Mapping[str, Sample],
    names: Sequence[str],
    kind: str,
    before: Mapping[str, Mapping[str, float]],
    after: Mapping[str, Mapping[str, float]],
) -> float:
    from scipy.stats import binomtest

    moved: defaultdict[str, float] = defaultdict(float)
    for name in names:
        change = after[name].get(kind, 0.0) - before[name].get(kind, 0.0)
        moved[samples[name].cluster or name] += change
    more = sum(change > 1e-9 for change in moved.values())
    fewer = sum(change < -1e-9 for change in moved.values())
    return float(binomtest(more, more + fewer).pvalue) if more + fewer else 1.0


@lru_cache(maxsize=20_000)
def _beside(text: str, references: tuple[str, ...]) -> frozenset[str]:
    """Both runs often say the same, and many what is right: each is looked at once."""
    if text in references:
        return frozenset()
    return frozenset(_wrong_beside(text, references))


def _wrong_beside(text: str, references: Sequence[str]) -> set[str]:
    found = set()
    language = tell_language if can_tell() else detect_language
    told = language(text)
    meant = {language(reference) for reference in references}
    if told is not None and None not in meant and told not in meant:
        found.add("another language")
    try:
        objects = [parse_answer(reference) for reference in references]
    except NotJsonError:
        return found | _numbers(text, references)
    return found | set(_fields(text, [fields_of(each) for each in objects]))


def _fields(text: str, references: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """What is wrong with a JSON answer, beside the reference that it is nearest to."""
    try:
        given = fields_of(parse_answer(text))
    except NotJsonError:
        yield "no JSON object"
        return
    wrong = [
        {
            **dict.fromkeys(reference.keys() - given.keys(), "missing"),
            **dict.fromkeys(given.keys() - reference.keys(), "not asked for"),
            **{
                path: "wrong"
                for path in given.keys() & reference.keys()
                if not same_json(given[path], reference[path])
            },
        }
        for reference in references
    ]
    for path, what in min(wrong, key=len).items():
        yield f"field {path[:FIELDS]} {what}"


def _numbers(text: str, references: Sequence[str]) -> set[str]:
    """Whether the last number of every reference is missing from the answer."""
    wanted = [_NUMBER.findall(reference)[-1:] for reference in references]
    if not all(wanted):
        return set()
    said = {_plain(number) for number in _NUMBER.findall(text)}
    right = any(_plain(number) in said for [number] in wanted)
    return set() if right else {"another number"}


def _plain(number: str) -> float:
    return float(number.replace(",", ""))


def _repeats(text: str) -> bool:
    """Whether over half of an answer's runs of four words stand in it more than once."""
    said = words(text)
    if len(said) < _LONG:
        return False
    runs = Counter(tuple(said[start : start + _RUN]) for start in range(len(said) - _RUN + 1))
    return sum(n for n in runs.values() if n > 1) > sum(runs.values()) / 2
