"""A model as judge: which of two answers a rubric prefers, asked in both orders."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from harness.backends.base import Backend, Generation, GenerationRequest, GenerationSettings
from harness.backends.openers import Opening, open_prefixed, prefix_of
from harness.core.errors import UserError
from harness.core.thoughts import without_thoughts
from harness.core.types import ScoreOutcome
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.encoders import described, require
from harness.metrics.support.items import (
    Outcome,
    Pair,
    score_responses,
    with_references_that_speak,
)
from harness.metrics.support.silence import says_nothing, silent_as

Choice = Literal["left", "right", "tie"]

RUBRIC = (
    "Judge which answer serves the question better: first whether it is correct and complete, "
    "then whether it is clear. Length, tone and order of the answers don't count."
)
_INSTRUCTION = (
    "You compare two answers to one question. {rubric}\n"
    "Think briefly, then end with exactly one of [[A]], [[B]] or [[TIE]] and nothing after it."
)
_CASE = "Question:\n{question}\n\nAnswer A:\n{first}\n\nAnswer B:\n{second}"
_VERDICT = re.compile(r"\[\[(A|B|TIE)\]\]")
_AFTER = " \t\r\n.*_`\"'\u3002"
"""What may stand after it: a stop, and what ends emphasis or a quotation."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The judge's verdict on one pair of answers.

    choice       None where it gave no verdict that can be read; `problem` then says why
    consistent   whether both orders gave the same verdict; if not, the choice is a tie
    tokens       prompts and replies of both orders together
    lost         there was no reply, so that asking again may bring one
    """

    choice: Choice | None
    consistent: bool
    tokens: int
    problem: str | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Agreement:
    """Judge against humans over the pairs that both judged.

    `share` of equal choices and the `chance` of that many if both chose blindly, both 0..1; and
    Cohen's κ (1960; 1 at most, 0 as by chance; None where chance alone would always agree).
    """

    pairs: int
    share: float
    chance: float

    @property
    def kappa(self) -> float | None:
        return (self.share - self.chance) / (1 - self.chance) if self.chance < 1 else None


def judge(
    questions: Sequence[str],
    lefts: Sequence[str],
    rights: Sequence[str],
    *,
    backend: Backend,
    rubric: str = RUBRIC,
    max_new_tokens: int = 256,
) -> list[Judged]:
    """Ask `backend` about each pair of answers twice, each answer standing first once.

    At temperature 0. A verdict counts only if it is the only one in the reply and ends it. Judges
    tend to prefer an answer for its place, so a choice counts only if both orders agree on it;
    anything else is a tie. Raises UserError for lengths that differ.
    """
    if not len(questions) == len(lefts) == len(rights):
        raise UserError(
            f"{len(questions)} questions, {len(lefts)} left and {len(rights)} right answers"
        )
    system = _INSTRUCTION.format(rubric=rubric)
    requests = []
    for row, (question, left, right) in enumerate(zip(questions, lefts, rights, strict=True)):
        for order, (first, second) in enumerate(((left, right), (right, left))):
            case = _CASE.format(question=question, first=first, second=second)
            prompt = backend.encode_chat(
                [{"role": "system", "content": system}, {"role": "user", "content": case}]
            )
            requests.append(GenerationRequest(f"{row}/{order}", prompt, (0,)))
    settings = GenerationSettings(max_new_tokens=max_new_tokens)
    replies = {reply.request_id: reply for reply in backend.generate(requests, settings)}
    prompts = {request.id: len(request.prompt_ids) for request in requests}
    return [_judged(row, replies, prompts) for row in range(len(questions))]


def _judged(row: int, replies: dict[str, Generation], prompts: dict[str, int]) -> Judged:
    names = (f"{row}/0", f"{row}/1")
    tokens = sum(prompts[n] + (len(replies[n].token_ids) if n in replies else 0) for n in names)
    found: list[Choice] = []
    for name, swapped in zip(names, (False, True), strict=True):
        reply = replies.get(name)
        if reply is None or reply.error is not None:
            return Judged(None, False, tokens, reply.error if reply else "no reply", lost=True)
        choice = parse_verdict(reply.text, swapped=swapped)
        if choice is None:
            return Judged(None, False, tokens, f"no verdict in {reply.text[-80:]!r}")
        found.append(choice)
    first, second = found
    return Judged(first if first == second else "tie", first == second, tokens)


def parse_verdict(reply: str, *, swapped: bool = False) -> Choice | None:
    """The verdict at the end of `reply`; None without one, with several, or with text after it.

    `swapped` says that the right answer stood first. What the judge only thought is no verdict.
    """
    reply = without_thoughts(reply)
    verdicts = _VERDICT.findall(reply)
    if len(verdicts) != 1 or not reply.rstrip(_AFTER).endswith(f"[[{verdicts[0]}]]"):
        return None
    if verdicts[0] == "TIE":
        return "tie"
    return "left" if (verdicts[0] == "A") != swapped else "right"


def agreement(judged: Sequence[Choice | None], human: Sequence[Choice | None]) -> Agreement:
    """How far judge and humans agree; pairs that either left open are left out.

    Raises UserError for lengths that differ, or where no pair is left.
    """
    if len(judged) != len(human):
        raise UserError(
            f"{len(judged)} verdicts of the judge, but {len(human)} of humans",
            hint="give both for the same pairs, in the same order",
        )
    both = [(j, h) for j, h in zip(judged, human, strict=True) if j is not None and h is not None]
    if not both:
        raise UserError("judge and humans have no pair in common")
    n = len(both)
    share = sum(j == h for j, h in both) / n
    left, right = Counter(j for j, _ in both), Counter(h for _, h in both)
    chance = sum(left[choice] * right[choice] for choice in left) / n**2
    return Agreement(n, share, chance)


STATS = ("tokens", "consistent", "cost")
HUMAN_STATS = ("human_pairs", "human_share", "human_chance")


@dataclass(frozen=True, slots=True)
class JudgeMetric:
    """Win share of the responses over the reference answer: 1 a win, ½ a tie, 0 a loss.

    The judge is the language model `model`: a folder, a hub id or the embedded name, run on this
    machine, or a backend's, such as a server's `openai:URL#MODEL`. A reply without a readable
    verdict is an error. An answer that says nothing has lost, and nobody is asked.

    The statistics hold what was spent in tokens, prompts included, whether both orders agreed, and
    the cost at `price` (money per million tokens).

    `humans` names a JSONL file of pairs that people decided, each with `question`, `left`, `right`
    and `choice` (left, right or tie): the judge decides them as well, and its agreement with
    people is kept beside every score.
    """

    model: str
    rubric: str = RUBRIC
    max_new_tokens: int = 256
    price: float = 0.0
    humans: str | None = None

    def __post_init__(self) -> None:
        if prefix_of(self.model) is None:
            require(self.model)
        if self.humans is not None:
            read_humans(Path(self.humans))

    @property
    def spec(self) -> MetricSpec:
        options = [
            ("model", described(self.model)),
            ("rubric", hashlib.sha256(self.rubric.encode()).hexdigest()[:12]),
            ("max_new_tokens", str(self.max_new_tokens)),
        ]
        if self.humans is not None:
            content = Path(self.humans).read_bytes()
            options.append(("humans", hashlib.sha256(content).hexdigest()[:12]))
        return MetricSpec(
            "judge",
            "higher",
            unit="win share",
            version="3",
            stats=STATS + (HUMAN_STATS if self.humans else ()),
            options=tuple(options),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_responses(with_references_that_speak(items), self._values)

    def agreement(self) -> Agreement | None:
        """With the people of `humans`; None without them, or where no verdict could be read."""
        if self.humans is None:
            return None
        pairs = read_humans(Path(self.humans))
        judged = self._judge(*([pair[i] for pair in pairs] for i in range(3)))
        choices = [one.choice for one in judged]
        if not any(choices):
            return None
        return agreement(choices, [pair.choice for pair in pairs])

    def _judge(
        self, questions: Sequence[str], lefts: Sequence[str], rights: Sequence[str]
    ) -> list[Judged]:
        return judge(
            questions,
            lefts,
            rights,
            backend=open_judge(self.model),
            rubric=self.rubric,
            max_new_tokens=self.max_new_tokens,
        )

    def _values(self, pairs: list[Pair]) -> list[Outcome]:
        usable = [
            (sample, response)
            for sample, response in pairs
            if sample.references and not says_nothing(response.text)
        ]
        judged = iter(
            self._judge(
                [question_of(sample.prompt) for sample, _ in usable],
                [response.text for _, response in usable],
                [sample.references[0] for sample, _ in usable],
            )
            if usable
            else ()
        )
        people = () if self.humans is None else _human_stats(self.agreement())
        silent = silent_as(0.0, (0.0, 1.0, 0.0, *people))
        return [
            Evidence.unscored(None, _BARE)
            if not sample.references
            else silent
            if says_nothing(response.text)
            else self._evidence(next(judged), people)
            for sample, response in pairs
        ]

    def _evidence(self, judged: Judged, people: tuple[float, ...]) -> Evidence:
        cost = judged.tokens * self.price / 1e6
        stats = (float(judged.tokens), float(judged.consistent), cost, *people)
        if judged.choice is None:
            reason = f"the judge: {judged.problem}"
            return Evidence(None, None, ScoreOutcome.ERROR, reason, stats)
        return Evidence(None, {"left": 1.0, "tie": 0.5, "right": 0.0}[judged.choice], stats=stats)


_BARE = "the sample has no reference to be judged against"


def _human_stats(found: Agreement | None) -> tuple[float, ...]:
    """Pairs, share of equal choices, and what chance alone would give; zeros where none count."""
    return (0.0, 0.0, 0.0) if found is None else (float(found.pairs), found.share, found.chance)


class HumanPair(NamedTuple):
    """Two answers to a question, and which of them a person chose."""

    question: str
    left: str
    right: str
    choice: Choice


def read_humans(path: Path) -> list[HumanPair]:
    """The pairs of a JSONL file. Raises UserError with file, line and field."""
    from harness.data.rows import read_rows

    if not path.is_file():
        raise UserError("there is no such file of human verdicts", file=path, hint="check the path")
    pairs = []
    for line, row in read_rows(path):
        for field in HumanPair._fields:
            if not isinstance(row.get(field), str):
                raise UserError(
                    f"the pair has no {field!r}",
                    file=path,
                    line=line,
                    field=field,
                    hint='{"question": …, "left": …, "right": …, "choice": "left"}',
                )
        if row["choice"] not in ("left", "right", "tie"):
            raise UserError(
                f"{row['choice']!r} is not a choice",
                file=path,
                line=line,
                field="choice",
                hint="left, right or tie",
            )
        pairs.append(HumanPair(*(row[field] for field in HumanPair._fields)))
    return pairs


def question_of(prompt: Sequence[object]) -> str:
    """What a judge reads as the question: all turns but the system's."""
    turns = [turn for turn in prompt if isinstance(turn, dict)]
    return "\n\n".join(
        str(turn.get("content", "")) for turn in turns if turn.get("role") != "system"
    )


@lru_cache(maxsize=1)
def open_judge(model: str) -> Backend:
    """The model that judges: a folder, a hub id, or a backend's, as `openai:URL#MODEL`."""
    from harness.core.workspace import Workspace

    if (prefix := prefix_of(model)) is not None:
        asked = Opening(model, model.removeprefix(f"{prefix}:"), Workspace.at())
        return open_prefixed(asked, prefix).open()
    from harness.backends.transformers.backend import TransformersBackend
    from harness.models.resolve import load, resolve

    return TransformersBackend(*load(resolve(model, Workspace.at())))
