"""Elo: which of two models' answers to one prompt is the better, judged pair by pair."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from harness.backends.openers import prefix_of
from harness.core.errors import UserError
from harness.core.told_language import NO_WORDS, language_named, tell_language
from harness.core.types import Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.judge import RUBRIC, Choice, judge, open_judge, question_of
from harness.metrics.support.encoders import described, require
from harness.metrics.support.silence import says_nothing

ELO = "elo"
SIMILARITY, OVERLAP = "reference_similarity", "reference_overlap"
"""Judges that need no model of the user's: which answer is nearer to the sample's reference, by the
cosine of the embedded encoder (English), or by chrF (any language). Neither is anybody's taste.
"""

NEAR = 0.01
"""Of a cosine or of chrF (0 to 1): answers that differ by less are a tie."""

NOT_MET = "no opponent yet: answers meet the anchor's where the gate compares"

RaterKind = Literal["reference", "reward_model", "llm"]

Points = Callable[[Sample, str], float | None]


class AnswerPair(NamedTuple):
    """A sample with an answer of each of two models, as they are read (without thoughts)."""

    sample: Sample
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class Preference:
    """A judge's choice between two answers; without one `problem` says why.

    passed   the judge can't read this sample at all: it counts for nobody, whoever answers
    lost     a server that died: ask again
    """

    choice: Choice | None
    problem: str | None = None
    passed: bool = False
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Elo:
    """Win share of a model's answers against those of the run that it is compared with: 1 a win, ½
    a tie, 0 a loss; a line of ratings follows from all pairs that were ever judged.

    `judge` is `reference_similarity` (the default), `reference_overlap`, or a language model as in
    the metric `judge`, asked in both orders; `reward` is a reward model instead. Equal answers are
    a tie, and one that says nothing has lost, without asking. Each checkpoint also meets the last
    `earlier` promoted versions of its line, which makes ratings surer and moves no verdict.

    By itself a run has no win share: pairs are judged where two runs meet (`comparison.elo`).
    """

    judge: str = SIMILARITY
    reward: str | None = None
    rubric: str = RUBRIC
    max_new_tokens: int = 256
    earlier: int = 2

    def __post_init__(self) -> None:
        if self.reward is not None:
            if self.judge != SIMILARITY:
                what = "elo has one judge, and both `judge` and `reward` are given"
                raise UserError(what, field="reward", hint="keep one of them")
            require(self.reward)
        elif self.judge == SIMILARITY:
            require(None)
        elif self.judge != OVERLAP and prefix_of(self.judge) is None:
            require(self.judge)
        if self.earlier < 0:
            raise UserError("elo's `earlier` is below 0", field="earlier", hint="0, 1, 2, …")

    @property
    def kind(self) -> RaterKind:
        """As it is kept beside the votes: never mixed with people's."""
        if self.reward is not None:
            return "reward_model"
        return "reference" if self.judge in (SIMILARITY, OVERLAP) else "llm"

    @property
    def rater(self) -> str:
        """The judge's name, a folder's with its digest."""
        if self.kind == "reference":
            return self.judge
        return described(self.reward or self.judge)

    @property
    def spec(self) -> MetricSpec:
        options = [("reward" if self.reward is not None else "judge", self.rater)]
        if self.kind == "llm":
            digest = hashlib.sha256(self.rubric.encode()).hexdigest()[:12]
            options += [("rubric", digest), ("max_new_tokens", str(self.max_new_tokens))]
        return MetricSpec(ELO, "higher", form="winshare", unit="win share", options=tuple(options))

    def among(self, samples: Sequence[Sample]) -> Elo:
        """The metric itself. Raises UserError where its judge can read none of these samples."""
        if self.kind != "reference" or not samples:
            return self
        others = "name a judge: elo: {judge: MODEL}, or elo: {reward: MODEL}"
        if not any(sample.references for sample in samples):
            raise UserError(
                f"elo's judge {self.judge} holds answers to the reference, and this task has none",
                hint=f'add `reference: "{{{{ field }}}}"` to the task, or {others}',
            )
        if all(self._unread(sample) is not None for sample in samples):
            raise UserError(
                f"elo's judge {self.judge} reads English, and no reference here is in it",
                hint=f"any language: elo: {{judge: {OVERLAP}}}; or {others}",
            )
        return self

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        """Unscored: there is no win share without an opponent."""
        return [
            [
                Evidence.error(response.index, response.error)
                if response.error is not None
                else Evidence.unscored(response.index, NOT_MET)
                for response in item.responses
            ]
            for item in items
        ]

    def prefer(self, pairs: Sequence[AnswerPair]) -> list[Preference]:
        """The judge's choice for each pair, in order; the same for either order of its answers."""
        known = [self._unasked(pair) for pair in pairs]
        asked = [pair for pair, found in zip(pairs, known, strict=True) if found is None]
        told = iter(self._ask(asked) if asked else ())
        return [next(told) if found is None else found for found in known]

    def _unasked(self, pair: AnswerPair) -> Preference | None:
        """What needs no judge: samples that it can't read, equal answers, and silence."""
        reason = self._unread(pair.sample) if self.kind == "reference" else None
        if reason is not None:
            return Preference(None, reason, passed=True)
        silent = [says_nothing(answer) for answer in (pair.left, pair.right)]
        if pair.left == pair.right or all(silent):
            return Preference("tie")
        if any(silent):
            return Preference("right" if silent[0] else "left")
        return None

    def _unread(self, sample: Sample) -> str | None:
        """Why a judge by reference can't read a sample, whatever the answer. An answer in another
        language than its reference is read: to answer so must be no way out.
        """
        if not sample.references:
            return "the sample has no reference"
        if self.judge == OVERLAP:
            return None
        named = language_named(sample)
        told = {named} if named else {tell_language(text) for text in sample.references}
        if told - {"en", NO_WORDS, None}:
            return f"the reference is not English, which is all that {SIMILARITY} reads"
        return None

    def _ask(self, pairs: Sequence[AnswerPair]) -> list[Preference]:
        if self.kind == "llm":
            return self._asked_in_both_orders(pairs)
        sides = [(pair.sample, answer) for pair in pairs for answer in (pair.left, pair.right)]
        # An answer meets several opponents: it is read once.
        distinct = list({(s.id, answer): (s, answer) for s, answer in sides}.values())
        found = dict(
            zip(((s.id, answer) for s, answer in distinct), self._points(distinct), strict=True)
        )
        near = NEAR if self.kind == "reference" else 0.0
        return [
            _nearer(found[pair.sample.id, pair.left], found[pair.sample.id, pair.right], near)
            for pair in pairs
        ]

    def _points(self, answers: Sequence[tuple[Sample, str]]) -> list[float | None]:
        if self.reward is not None:
            from harness.metrics.reward_model import rewards_of_whole

            prompts = [[*sample.prompt] for sample, _ in answers]
            return rewards_of_whole(prompts, [text for _, text in answers], model=self.reward)
        texts = [text for sample, text in answers for _ in sample.references]
        references = [reference for sample, _ in answers for reference in sample.references]
        compare = _overlap if self.judge == OVERLAP else _cosine
        near = iter(compare(texts, references))
        return [max(next(near) for _ in sample.references) for sample, _ in answers]

    def _asked_in_both_orders(self, pairs: Sequence[AnswerPair]) -> list[Preference]:
        judged = judge(
            [question_of(pair.sample.prompt) for pair in pairs],
            [pair.left for pair in pairs],
            [pair.right for pair in pairs],
            backend=open_judge(self.judge),
            rubric=self.rubric,
            max_new_tokens=self.max_new_tokens,
        )
        return [Preference(one.choice, one.problem, lost=one.lost) for one in judged]


def _nearer(left: float | None, right: float | None, near: float) -> Preference:
    if left is None or right is None:
        return Preference(None, "a conversation is longer than the reward model reads")
    if abs(left - right) <= near:
        return Preference("tie")
    return Preference("left" if left > right else "right")


def _cosine(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    from harness.metrics.similarity import similarity

    found: list[float] = similarity(answers, references).tolist()
    return found


def _overlap(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    from harness.metrics.bleu import chrf

    return [chrf([a], [r]).score / 100 for a, r in zip(answers, references, strict=True)]
