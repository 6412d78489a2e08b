"""What is learned of a conversation: the assistant's turns as the chat template writes them.

Where the template marks them (`{% generation %}`), its marks are taken. Else each turn is what
stands in the whole between the prompt that the scorer would ask and the next turn, and that is
verified, in characters and in tokens: a template that writes a turn otherwise once more follows
(Qwen 3 takes thoughts out of the past) is not guessed at. In both cases the turn's end is learned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.backends import chat_template
from harness.backends import tokenization as tokens
from harness.data.messages import Message
from trainers.config.recipe import Example

IGNORED = -100
_THOUGHT = re.compile(r"<think>(.*?)</think>", re.DOTALL)
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class TurnsError(ValueError):
    """The base's chat template doesn't say what is to be learned of a row; the message says why."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The tokens of a conversation, and beside each its label: itself, or `IGNORED`."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def begin(self) -> int:
        """Behind how many tokens the first one that is learned stands."""
        return next(n for n, label in enumerate(self.labels) if label != IGNORED)

    @property
    def answer(self) -> int:
        """Where the last answer begins: with its first token that is learned, after all others."""
        last = len(self.labels)
        while last and self.labels[last - 1] != IGNORED:
            last -= 1
        return last


def learned(
    tokenizer: Any,
    example: Example,
    *,
    ends: frozenset[int],
    end: int | None,
    written: Callable[[str, Sequence[int]], Sequence[int]],
) -> Learned:
    """The tokens of an example with `turns`, and which of them are learned.

    `ends` are the tokens at which the scorer stops, `end` the one that ends an answer behind which
    the template writes nothing; `written` gives what is learned of a text that answers a prompt,
    for a template that writes an answer otherwise than behind its own prompt. Raises TurnsError,
    and what the template raises.
    """
    if not tokenizer.chat_template:
        return _only_last(tokenizer, example, end, written)
    ends = ends if end is None else ends | {end}
    page = _Page(tokenizer, example)
    page.require_tools()
    spans = list(page.marked()) or list(page.found())
    if not spans:
        return _only_last(tokenizer, example, end, written)
    for turn, (start, stop) in zip(example.learned, spans, strict=True):
        page.require_said(turn, page.whole[start:stop])
    ids, cuts = page.cut(spans)
    labels = [IGNORED] * len(ids)
    for turn, (first, stop) in zip(example.learned, cuts, strict=True):
        last = _to_its_end(ids, first, stop, ends)
        if last is None and turn != example.learned[-1]:
            raise TurnsError(f"the template ends turn {turn + 1} with no token that ends an answer")
        if last is None:
            ids = [*_without_space(tokenizer, ids, first), _required(end)]
            labels, last = [*labels[: len(ids) - 1], IGNORED], len(ids)
        labels[first:last] = ids[first:last]
        if turn == example.learned[-1]:
            ids, labels = ids[:last], labels[:last]
    begun = tokens.beginning(tokenizer)
    if tuple(ids[: len(begun)]) != begun:
        ids, labels = [*begun, *ids], [*([IGNORED] * len(begun)), *labels]
    return Learned(tuple(ids), tuple(labels))


def _to_its_end(ids: Sequence[int], first: int, last: int, ends: frozenset[int]) -> int | None:
    """Behind the token that ends the turn `ids[first:last]`; None where none does. For some formats
    it is what begins the next turn.
    """
    for place in range(last - 1, first - 1, -1):
        if ids[place] in ends:
            return place + 1
    return last + 1 if last < len(ids) and ids[last] in ends else None


def _without_space(tokenizer: Any, ids: Sequence[int], first: int) -> Sequence[int]:
    """The tokens without those at their end that are space, behind number `first`."""
    last = len(ids)
    while last > first + 1 and tokens.as_read(tokenizer, ids[last - 1 : last]).isspace():
        last -= 1
    return ids[:last]


def _required(end: int | None) -> int:
    if end is None:
        raise TurnsError("the base has no end token: no answer would ever end")
    return end


def _only_last(
    tokenizer: Any,
    example: Example,
    end: int | None,
    written: Callable[[str, Sequence[int]], Sequence[int]],
) -> Learned:
    """The last answer behind the prompt that the scorer asks, where the template has no place for
    it, or there is none.
    """
    answer = example.turns[-1]
    if len(example.learned) > 1:
        raise TurnsError(
            "the chat template writes an earlier turn otherwise once more follows: learn from "
            "`each` turn by itself, or from the `last`"
        )
    if answer.get("tool_calls"):
        raise TurnsError("the chat template has no way to write a call of a tool")
    thought = answer.get("reasoning_content")
    said = answer["content"]
    text = f"<think>\n{thought.strip()}\n</think>\n\n{said}" if thought else said
    asked = tokens.encode_chat(tokenizer, example.prompt, example.options)
    said_ids = (*written(text, asked), _required(end))
    return Learned((*asked, *said_ids), (*([IGNORED] * len(asked)), *said_ids))


class _Page:
    """A conversation as the chat template writes it."""

    def __init__(self, tokenizer: Any, example: Example) -> None:
        self._tokenizer, self._example = tokenizer, example
        self._turns = [_as_templates_read(turn) for turn in example.turns]
        try:
            self.whole = self._text(len(self._turns))
        except (TypeError, ValueError, LookupError):
            self._say_arguments_as_text()
        if any(_spelled_by_python(turn, self.whole) for turn in self._turns):
            self._say_arguments_as_text()

    def _say_arguments_as_text(self) -> None:
        """Some templates put arguments together as texts, or write them out as they are."""
        self._turns = [_with_arguments_as_text(turn) for turn in self._turns]
        self.whole = self._text(len(self._turns))

    def _text(self, turns: int, *, ask: bool = False, tools: bool = True) -> str:
        told: dict[str, Any] = dict(self._example.options.template)
        if tools and self._tools:
            told["tools"] = self._tools
        return chat_template.render(
            self._tokenizer, self._turns[:turns], add_generation_prompt=ask, **told
        )

    @property
    def _tools(self) -> list[dict[str, Any]]:
        return [dict(tool) for tool in self._example.options.tools]

    def require_tools(self) -> None:
        """Raises TurnsError where the template writes nothing of the tools."""
        if self._tools and self._text(len(self._turns), tools=False) == self.whole:
            raise TurnsError("the chat template writes nothing of the row's tools")

    def require_said(self, turn: int, text: str) -> None:
        """Raises TurnsError where a turn's words, thought or call are not in what is learned."""
        said = self._example.turns[turn]
        own = _THOUGHT.search(said["content"])
        thoughts = (said.get("reasoning_content"), own[1] if own else None)
        if any(thought and thought.strip() not in text for thought in thoughts):
            raise TurnsError(
                f"the chat template leaves out the thought of turn {turn + 1}: write "
                "`thoughts: drop`"
            )
        if _THOUGHT.sub("", said["content"]).strip() not in text:
            raise TurnsError(
                f"the chat template leaves out or changes the words of turn {turn + 1}"
            )
        for call in said.get("tool_calls") or ():
            if call["function"]["name"] not in text:
                raise TurnsError(f"the chat template leaves out the call of turn {turn + 1}")

    def marked(self) -> Iterator[tuple[int, int]]:
        """Where the template says that the turns to be learned begin and end; nothing where it
        marks none, or not each turn.
        """
        template = str(self._tokenizer.get_chat_template(tools=self._tools or None))
        if not _MARKS.search(template):
            return
        from transformers.utils.chat_template_utils import render_jinja_template

        render: Any = render_jinja_template
        written, marks = render(
            conversations=[self._turns],
            tools=self._tools or None,
            chat_template=template,
            return_assistant_tokens_mask=True,
            **{**self._tokenizer.special_tokens_map, **self._example.options.template},
        )
        said = [n for n, turn in enumerate(self._turns) if turn["role"] == "assistant"]
        if written[0] != self.whole or len(marks[0]) != len(said):
            return
        places = dict(zip(said, marks[0], strict=True))
        for turn in self._example.learned:
            start, stop = places[turn]
            yield start, stop

    def found(self) -> Iterator[tuple[int, int]]:
        """The same by what stands behind each turn's prompt; nothing where an answer doesn't stand
        behind its prompt, or not in the whole as when it was the last.
        """
        places = []
        for turn in self._example.learned:
            asked, told = self._text(turn, ask=True), self._text(turn + 1)
            if not told.startswith(asked) or not self.whole.startswith(told):
                return
            places.append((len(asked), len(told)))
        yield from places

    def cut(self, spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """(tokens of the whole, the places in them of these stretches of its text). Where a token
        reaches over the beginning of the one answer, it is cut there, as it is when it is asked.
        """
        ids = list(tokens.encode(self._tokenizer, self.whole))
        places = [(self._count(ids, a), self._count(ids, b, loose=True)) for a, b in spans]
        if all(first is not None and last is not None for first, last in places):
            return ids, [(int(first or 0), int(last or 0)) for first, last in places]
        if len(spans) > 1:
            raise TurnsError(
                "the tokenizer joins an answer with what stands around it: learn from `each` turn "
                "by itself, or from the `last`"
            )
        start, stop = spans[0]
        asked = tokens.encode(self._tokenizer, self.whole[:start])
        said = tokens.encode(self._tokenizer, self.whole[start:stop])
        return [*asked, *said], [(len(asked), len(asked) + len(said))]

    def _count(self, ids: Sequence[int], place: int, *, loose: bool = False) -> int | None:
        """How many of the tokens the text up to `place` has, or, `loose`, without the space at its
        end; None where a token reaches over it.
        """
        text = self.whole[:place]
        for start in (text, text.rstrip()) if loose else (text,):
            begun = tokens.encode(self._tokenizer, start)
            if tuple(ids[: len(begun)]) == begun:
                return len(begun)
        return None


def _as_templates_read(turn: Message) -> Message:
    """A turn with its thought under each name that a template may look for."""
    thought = turn.get("reasoning_content")
    return turn if thought is None else {**turn, "thinking": thought, "reasoning": thought}


def _spelled_by_python(turn: Message, text: str) -> bool:
    """Whether a call's arguments stand in a text as Python would spell them, and not as JSON."""
    given = [call["function"]["arguments"] for call in turn.get("tool_calls") or ()]
    spelled = (str(each) for each in given if isinstance(each, dict) and each)
    return any(one in text for one in spelled if one != one.replace("'", '"'))


def _with_arguments_as_text(turn: Message) -> Message:
    if not turn.get("tool_calls"):
        return turn
    calls = [
        {
            **call,
            "function": {
                **call["function"],
                "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
            },
        }
        for call in turn["tool_calls"]
    ]
    return {**turn, "tool_calls": calls}
