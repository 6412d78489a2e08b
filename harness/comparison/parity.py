"""Whether one checkpoint is the same model behind two backends: the gate, both ways.

The weights are the same, so any difference between the two scorings comes from serving: another
chat template, a missing BOS token, a wrong kernel, quantization.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from harness.comparison.looks import decide_once
from harness.comparison.verdict_log import Decision
from harness.core.types import Response, Run, VerdictOutcome
from harness.gate.policy import GatePolicy
from harness.store import runs
from harness.store.store import Store
from harness.suite.suite import Suite


@dataclass(frozen=True, slots=True)
class Divergence:
    """Two greedy answers to one sample that differ from character `at` on, counted from 0."""

    task: str
    sample_id: str
    at: int
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class LogprobGap:
    """How far the log-probabilities of the same tokens differ between the two backends, in nats.

    The median and the largest absolute difference over `tokens` tokens, and the sample with the
    largest.
    """

    tokens: int
    median: float
    largest: float
    sample_id: str


@dataclass(frozen=True, slots=True)
class Parity:
    """Whether two backends agree: `pass` where neither is worse than the other by the margin.

    there, back      the second side compared with the first, and the first with the second
    compared, same   greedy answers that both gave, and those that are equal in every character
    divergences      the greedy answers that differ
    logprob_gap      None where no log-probabilities of the same tokens were stored
    """

    outcome: VerdictOutcome
    there: Decision
    back: Decision
    compared: int
    same: int
    divergences: tuple[Divergence, ...]
    logprob_gap: LogprobGap | None


def parity(store: Store, first: Run, second: Run, suite: Suite, policy: GatePolicy) -> Parity:
    """Decide both ways on all evidence that the two runs have, and find where answers part.

    Two one-sided tests at the policy's alpha each, so a false `pass` has at most that probability
    (the intersection-union form of an equivalence test; Schuirmann 1987).
    """
    # A server that asks in other tokens is what this is to find: the verdict's note says it.
    there = decide_once(store, "parity", first, second, suite, policy, other_prompts=True)
    back = decide_once(store, "parity", second, first, suite, policy, other_prompts=True)
    pairs = list(_pairs(store, first, second))
    greedy = [
        (a, b)
        for a, b in pairs
        if a.kind == "generation" and not suite.task(a.task).sampled and not (a.error or b.error)
    ]
    divergences = tuple(_divergence(a, b) for a, b in greedy if a.text != b.text)
    return Parity(
        outcome=_both(there.verdict.outcome, back.verdict.outcome),
        there=there,
        back=back,
        compared=len(greedy),
        same=len(greedy) - len(divergences),
        divergences=divergences,
        logprob_gap=_logprob_gap(pairs),
    )


def _both(there: VerdictOutcome, back: VerdictOutcome) -> VerdictOutcome:
    # Both directions must pass, so the worse of the two counts.
    for outcome in (
        VerdictOutcome.INCOMPARABLE,
        VerdictOutcome.FAIL,
        VerdictOutcome.INCONCLUSIVE,
    ):
        if outcome in (there, back):
            return outcome
    return VerdictOutcome.PASS


def _pairs(store: Store, first: Run, second: Run) -> Iterator[tuple[Response, Response]]:
    def place(response: Response) -> tuple[str, str, str, int, int]:
        return (
            response.task,
            response.kind,
            response.sample_id,
            response.index,
            response.draw,
        )

    others = {place(response): response for response in runs.run_responses(store, second.id)}
    for response in runs.run_responses(store, first.id):
        other = others.get(place(response))
        if other is not None:
            yield response, other


def _divergence(a: Response, b: Response) -> Divergence:
    shorter = min(len(a.text), len(b.text))
    at = next((n for n in range(shorter) if a.text[n] != b.text[n]), shorter)
    return Divergence(a.task, a.sample_id, at, a.text, b.text)


def _logprob_gap(pairs: list[tuple[Response, Response]]) -> LogprobGap | None:
    gaps = [
        (abs(x - y), a.sample_id)
        for a, b in pairs
        if a.kind != "generation" and a.token_ids == b.token_ids
        for x, y in zip(a.logprobs or (), b.logprobs or (), strict=False)
    ]
    if not gaps:
        return None
    largest, sample_id = max(gaps)
    return LogprobGap(len(gaps), median(gap for gap, _ in gaps), largest, sample_id)
