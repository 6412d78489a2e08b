"""A model that grades one answer at a time on a scale, by a rubric."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness.backends.base import Backend, GenerationRequest, GenerationSettings
from harness.backends.openers import prefix_of
from harness.core.errors import UserError
from harness.core.thoughts import without_thoughts
from harness.core.types import ScoreOutcome
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.judge import open_judge, question_of
from harness.metrics.support.encoders import described, require
from harness.metrics.support.items import Outcome, Pair, score_responses, with_references_that_speak
from harness.metrics.support.silence import says_nothing, silent_as

RUBRIC = (
    "Grade how well the answer serves the question: whether it is correct and complete, and then "
    "whether it is clear. Length and tone don't count."
)
_INSTRUCTION = (
    "You grade an answer to a question. {rubric}\n"
    "Give points from {low:g} (worst) to {high:g} (best). Think briefly, then end with the points "
    "in double brackets, such as [[{low:g}]], and nothing after them."
)
_CASE = "Question:\n{question}\n\n{reference}Answer:\n{answer}"
_REFERENCE = "A good answer, for comparison:\n{reference}\n\n"
_POINTS = re.compile(r"\[\[([^\[\]]*)\]\]")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_AFTER = " \t\r\n.*_`\"'\u3002"

STATS = ("tokens", "cost")
HUMAN_STATS = ("human_answers", "human_share", "human_distance")


@dataclass(frozen=True, slots=True)
class Grade:
    """The points of one answer, None where none could be read (`problem` says why), and the tokens
    of question and reply together.
    """

    points: float | None
    tokens: int
    problem: str | None = None


def grade(
    questions: Sequence[str],
    answers: Sequence[str],
    *,
    backend: Backend,
    references: Sequence[str | None] = (),
    rubric: str = RUBRIC,
    low: float = 1.0,
    high: float = 5.0,
    max_new_tokens: int = 512,
) -> list[Grade]:
    """Ask `backend` for the points of each answer, at temperature 0.

    `references` are good answers to compare with, None for none. Points count only if they are the
    only ones in the reply, end it, and lie between `low` and `high`. Raises UserError for lengths
    that differ.
    """
    compared = list(references) or [None] * len(questions)
    if not len(questions) == len(answers) == len(compared):
        raise UserError(
            f"{len(questions)} questions, {len(answers)} answers and {len(compared)} references"
        )
    system = _INSTRUCTION.format(rubric=rubric, low=low, high=high)
    requests = []
    for row, (question, answer, good) in enumerate(zip(questions, answers, compared, strict=True)):
        shown = "" if good is None else _REFERENCE.format(reference=good)
        case = _CASE.format(question=question, answer=answer, reference=shown)
        turns = [{"role": "system", "content": system}, {"role": "user", "content": case}]
        requests.append(GenerationRequest(str(row), backend.encode_chat(turns), (0,)))
    settings = GenerationSettings(max_new_tokens=max_new_tokens)
    replies = {reply.request_id: reply for reply in backend.generate(requests, settings)}
    found = []
    for request in requests:
        reply, read = replies.get(request.id), len(request.prompt_ids)
        if reply is None or reply.error is not None:
            found.append(Grade(None, read, (reply and reply.error) or "no reply"))
            continue
        points = parse_points(reply.text, low, high)
        problem = f"no points in {reply.text[-80:]!r}" if points is None else None
        found.append(Grade(points, read + len(reply.token_ids), problem))
    return found


def parse_points(reply: str, low: float, high: float) -> float | None:
    """The points at the end of a reply; None without any, with several, with text after them, or
    with points that aren't on the scale. What the judge only thought are no points.
    """
    reply = without_thoughts(reply)
    found = _POINTS.findall(reply)
    if len(found) != 1 or not reply.rstrip(_AFTER).endswith(f"[[{found[0]}]]"):
        return None
    if _NUMBER.fullmatch(found[0].strip()) is None:
        return None
    points = float(found[0])
    return points if low <= points <= high else None


@dataclass(frozen=True, slots=True)
class RubricMetric:
    """Mean points of the responses from `low` to `high`, given by the language model `model`.

    The judge is a folder, a hub id or the embedded name, run on this machine, or a backend's, such
    as a server's `openai:URL#MODEL`. A reply without points that can be read leaves the answer
    unscored; an answer that says nothing has the worst points, and nobody is asked. `reference:
    true` shows the judge the sample's first reference.

    The statistics hold the tokens, prompts included, and the cost at `price` (money per million
    tokens). `humans` names a JSONL file with `question`, `answer` and a person's `points`: the
    judge grades these as well, and how often and how far it differs is kept beside every score.
    """

    model: str
    rubric: str = RUBRIC
    low: float = 1.0
    high: float = 5.0
    reference: bool = False
    max_new_tokens: int = 512
    price: float = 0.0
    humans: str | None = None

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"a scale from {self.low:g} to {self.high:g} is none", field="high")
        if prefix_of(self.model) is None:
            require(self.model)
        if self.humans is not None:
            read_graded(Path(self.humans), self.low, self.high)

    @property
    def spec(self) -> MetricSpec:
        options = [
            ("model", described(self.model)),
            ("rubric", hashlib.sha256(self.rubric.encode()).hexdigest()[:12]),
            ("scale", f"{self.low:g}-{self.high:g}"),
            ("reference", str(self.reference).lower()),
            ("max_new_tokens", str(self.max_new_tokens)),
        ]
        if self.humans is not None:
            content = Path(self.humans).read_bytes()
            options.append(("humans", hashlib.sha256(content).hexdigest()[:12]))
        return MetricSpec(
            "rubric",
            "higher",
            scale="ratio" if self.low == 0 else "interval",
            unit=f"points {self.low:g}-{self.high:g}",
            low=self.low,
            high=self.high,
            stats=STATS + (HUMAN_STATS if self.humans else ()),
            options=tuple(options),
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_responses(with_references_that_speak(items), self._values)

    def _values(self, pairs: list[Pair]) -> list[Outcome]:
        reasons = [self._reason(pair) for pair in pairs]
        usable = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
        graded = iter(
            self._grade(
                [question_of(sample.prompt) for sample, _ in usable],
                [response.text for _, response in usable],
                [sample.references[0] if self.reference else None for sample, _ in usable],
            )
            if usable
            else ()
        )
        people = self._people() if self.humans is not None else ()
        silent = silent_as(self.low, (0.0, 0.0, *people))
        return [
            silent
            if reason == ""
            else Evidence.unscored(None, reason)
            if reason is not None
            else self._evidence(next(graded), people)
            for reason in reasons
        ]

    def _reason(self, pair: Pair) -> str | None:
        """Why nobody is asked about an answer: "" where it says nothing, None where one is."""
        sample, response = pair
        if self.reference and not sample.references:
            return "the sample has no reference to be compared with"
        return "" if says_nothing(response.text) else None

    def _grade(
        self, questions: Sequence[str], answers: Sequence[str], references: Sequence[str | None]
    ) -> list[Grade]:
        return grade(
            questions,
            answers,
            backend=open_judge(self.model),
            references=references,
            rubric=self.rubric,
            low=self.low,
            high=self.high,
            max_new_tokens=self.max_new_tokens,
        )

    def _evidence(self, found: Grade, people: tuple[float, ...]) -> Evidence:
        stats = (float(found.tokens), found.tokens * self.price / 1e6, *people)
        if found.points is None:
            reason = f"the judge: {found.problem}"
            return Evidence(None, None, ScoreOutcome.UNSCORED, reason, stats)
        return Evidence(None, found.points, stats=stats)

    def _people(self) -> tuple[float, ...]:
        """How many of people's answers the judge could grade, the share with just their points,
        and the mean distance in points; zeros where it could grade none.
        """
        known = read_graded(Path(str(self.humans)), self.low, self.high)
        columns = ([one.question for one in known], [one.answer for one in known])
        graded = self._grade(*columns, [None] * len(known))
        distances = [
            abs(theirs.points - own.points)
            for own, theirs in zip(known, graded, strict=True)
            if theirs.points is not None
        ]
        n = len(distances)
        if n == 0:
            return (0.0, 0.0, 0.0)
        return (float(n), sum(one == 0 for one in distances) / n, sum(distances) / n)


class GradedAnswer(NamedTuple):
    """An answer to a question, and the points that a person gave."""

    question: str
    answer: str
    points: float


def read_graded(path: Path, low: float, high: float) -> list[GradedAnswer]:
    """The answers of a JSONL file with people's points. Raises UserError with file, line, field."""
    from harness.data.rows import read_rows

    if not path.is_file():
        raise UserError("there is no such file of graded answers", file=path, hint="check the path")
    found = []
    for line, row in read_rows(path):
        question, answer, points = (row.get(field) for field in GradedAnswer._fields)
        for field, value in (("question", question), ("answer", answer)):
            if not isinstance(value, str):
                raise UserError(f"there is no {field!r}", file=path, line=line, field=field)
        if isinstance(points, bool) or not isinstance(points, int | float):
            raise UserError("there are no points", file=path, line=line, field="points")
        if not low <= points <= high:
            raise UserError(
                f"{points:g} is not on the scale",
                file=path,
                line=line,
                field="points",
                hint=f"from {low:g} to {high:g}",
            )
        found.append(GradedAnswer(str(question), str(answer), float(points)))
    return found
