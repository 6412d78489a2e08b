"""Guesses from a file's columns what a task could ask, and what its right answers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Row
from harness.data.columns import Column
from harness.data.messages import MessagesError, read_messages

KINDS = {
    "chat": "conversations that end with the answer",
    "preference": "pairs: a chosen and a rejected answer",
    "choice": "questions with choices",
    "code": "problems with hidden tests",
    "label": "texts with one of few labels",
    "number": "questions with a number as their result",
    "json": "questions answered by a JSON object",
    "answer": "questions with a short answer",
    "text": "questions with an answer of some sentences",
    "prompt": "questions without an answer",
    "passage": "texts alone, whose perplexity is measured",
}
"""What a task may be, as `--kind` names it."""

_QUESTIONS = (
    *("question", "instruction", "prompt", "query", "problem", "message", "input", "user"),
    *("statement", "goal", "source", "sentence", "text", "review", "title", "content"),
    *("\u95ee\u9898", "\u9898\u76ee", "\u6307\u4ee4", "\u8f93\u5165", "\u6587\u672c"),
)
_ANSWERS = (
    *("answer", "completion", "response", "output", "label", "target", "reference", "solution"),
    *("answers", "intent", "class", "category", "sentiment", "expected", "gold", "reply"),
    *("\u7b54\u6848", "\u56de\u7b54", "\u8f93\u51fa", "\u6807\u7b7e"),
)
_CHOICES = ("choices", "options", "endings", "\u9009\u9879")
_RIGHT = ("answer", "label", "answer_index", "answer_idx", "gold", "correct", "\u7b54\u6848")
_MORE = ("input", "context", "passage", "\u8f93\u5165")
_TESTS = ("tests", "cases")
_PASSAGES = ("text", "content", "passage", "document", "\u6587\u672c")
_SHORT, _PASSAGE = 60, 200
"""Characters of the median answer up to which it is a short one, and of a text from which on it is
a passage and no question."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A kind of task, and the columns it reads: `more` stands below the question (a context)."""

    kind: str
    question: Column | None = None
    answer: Column | None = None
    choices: Column | None = None
    more: Column | None = None


def guess(columns: Sequence[Column], rows: Sequence[Row]) -> Guess:
    """What the file most likely is for. Raises UserError where no column can be asked."""
    by_name = {column.name.lower(): column for column in columns if column.kind != "empty"}
    chosen, rejected = by_name.get("chosen"), by_name.get("rejected")
    question = _named(by_name, _QUESTIONS)
    if chosen is not None and rejected is not None:
        return Guess("preference", question, chosen, choices=rejected)
    talks = [column for column in columns if column.kind == "conversation"]
    if talks:
        return Guess("chat" if _ends_with_answer(talks[0], rows) else "prompt", talks[0])
    choices = next((by_name[name] for name in _CHOICES if name in by_name), None)
    right = _named(by_name, _RIGHT, but=question)
    if choices is not None and choices.kind == "texts" and question and right:
        return Guess("choice", question, right, choices)
    if question is None:
        question = _longest(columns)
    if any(name in by_name for name in _TESTS):
        return Guess("code", question)
    answer = _named(by_name, _ANSWERS, but=question)
    more = _named(by_name, _MORE, but=question)
    more = None if more is answer else more
    if answer is not None:
        kind = "number" if ends_in_mark(answer, rows) else kind_of_answer(answer, len(rows))
        return Guess(kind, question, answer, more=more)
    alone = question.name.lower() in _PASSAGES or question.length >= _PASSAGE
    return Guess("passage" if alone else "prompt", question)


def kind_of_answer(answer: Column, rows: int) -> str:
    """What right answers are, by how many there are and how they read."""
    few = len(answer.values) >= 2 and answer.distinct * 3 <= rows and answer.length <= _SHORT
    if answer.kind == "yes or no" or (few and answer.kind == "text"):
        return "label"
    if answer.kind == "number":
        counted = {str(value) for value in answer.values} == {
            str(number) for number in range(len(answer.values))
        }
        return "label" if few and counted and len(answer.values) <= 5 else "number"
    if answer.kind in ("JSON", "object"):
        return "json"
    return "answer" if answer.length <= _SHORT else "text"


def told(
    guessed: Guess,
    columns: Sequence[Column],
    rows: int,
    *,
    question: str | None = None,
    answer: str | None = None,
    kind: str | None = None,
) -> Guess:
    """The guess with what the user says instead. `answer` may be `-`: there is none. Raises
    UserError for a column that isn't there, and for a kind that these columns can't be.
    """
    if kind is not None and kind not in KINDS:
        raise UserError(
            f"there is no kind {kind!r}", field="--kind", hint=f"the kinds are {', '.join(KINDS)}"
        )
    found = guessed
    if question is not None:
        asked = _column(question, columns, "--question")
        talk = asked.kind == "conversation"
        other = "prompt" if found.kind == "chat" else found.kind
        found = replace(found, question=asked, kind="chat" if talk else other)
    if answer is not None:
        right = None if answer == "-" else _column(answer, columns, "--answer")
        of_answer = kind_of_answer(right, rows) if right else "prompt"
        keeps = right is not None and found.kind in ("choice", "preference")
        found = replace(found, answer=right, kind=found.kind if keeps else of_answer)
    if found.more in (found.question, found.answer):
        found = replace(found, more=None)
    found = replace(found, kind=kind or found.kind)
    _check(found)
    return found


def _check(found: Guess) -> None:
    if found.question is None and found.kind != "preference":
        raise UserError(
            "no column says what is asked",
            field="--question",
            hint="name it: --question COLUMN",
        )
    missing = {
        "choice": found.choices is None or found.answer is None,
        "preference": found.choices is None or found.answer is None,
        "chat": found.question is None or found.question.kind != "conversation",
    }.get(found.kind, found.kind not in ("code", "prompt", "passage") and found.answer is None)
    if missing:
        needs = {
            "choice": "a column `choices` with lists of texts, and --answer",
            "preference": "the columns `chosen` and `rejected`",
            "chat": "a column of conversations",
        }.get(found.kind, "a column with the right answers: --answer COLUMN")
        raise UserError(
            f"a task of the kind {found.kind} can't be made of these columns",
            field="--kind",
            hint=f"it needs {needs}",
        )


def _column(name: str, columns: Sequence[Column], field: str) -> Column:
    for column in columns:
        if column.name == name:
            return column
    raise UserError(
        f"there is no column {name!r}",
        field=field,
        hint=f"the columns are {', '.join(column.name for column in columns)}",
    )


def _named(
    by_name: dict[str, Column], names: Sequence[str], *, but: Column | None = None
) -> Column | None:
    found = (by_name[name] for name in names if name in by_name)
    return next((c for c in found if c is not but and (c.says or c.kind == "object")), None)


def _longest(columns: Sequence[Column]) -> Column:
    texts = [column for column in columns if column.kind == "text"]
    if not texts:
        raise UserError(
            "no column holds texts: there is nothing to ask",
            hint="name a file with questions, conversations or texts",
        )
    return max(texts, key=lambda column: column.length)


def _ends_with_answer(column: Column, rows: Sequence[Row]) -> bool:
    talks = [row[column.name] for row in rows if row.get(column.name)][:100]
    return sum(_last_role(talk) == "assistant" for talk in talks) * 2 > len(talks)


def _last_role(talk: Any) -> str:
    try:
        return str(read_messages(talk)[-1]["role"])
    except MessagesError:
        return ""


def ends_in_mark(answer: Column, rows: Sequence[Row]) -> bool:
    """Whether the answers end with `#### RESULT`, as GSM8K's do."""
    given = [str(row[answer.name]) for row in rows if row.get(answer.name)][:100]
    return sum("####" in text for text in given) * 2 > len(given)
