"""What a chat template writes around an answer, so that it is learned, scored and served alike.

Before an answer's own words stands, in some formats, what the model has to write itself:
`<|channel|>final<|message|>` (gpt-oss), an empty thought (Qwen 3, GLM 4.5), `<|START_RESPONSE|>`
(Command A), a space (Llama 2), or the end of the thought that the prompt has opened (DeepSeek R1).
Behind them may stand more than the turn's end.

Training learns all of it. Scoring reads a given answer behind what stands before it, and takes both
off what a model says. An answer that brings its own thought or channel gets neither.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

from harness.backends import chat_template
from harness.backends import tokenization as tokens
from harness.core.thoughts import brings_own, closing, opened_by

Ids = tuple[int, ...]

_WORD = "Wednesday"
_ASKED, _OTHER = ({"role": "user", "content": text} for text in ("Which day?", "How much is it"))
_PROBES = (_WORD, "7", "\u661f\u671f\u4e09")
_TOKEN = re.compile(r"<\|[^<>|\s]+\|>")
_BEHIND, _MORE = 32, 8
"""Characters of a prompt's end behind which an answer is cut into tokens, where none is special;
and how many tokens more of it are looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where answers stand: `behind` is how every prompt ends, `opened` the mark of a thought in it;
    `lead` and `tail` are what a model writes before and behind its words.
    """

    behind: str
    opened: str
    lead: str
    tail: str


_PLACES: WeakKeyDictionary[Any, dict[tuple[str, frozenset[int]], Place]] = WeakKeyDictionary()


def place_of(tokenizer: Any, ends: frozenset[int] = frozenset()) -> Place:
    """Where a model's answers stand. `ends` are the tokens at which the scorer stops."""
    known = _PLACES.setdefault(tokenizer, {})
    key = (str(tokenizer.chat_template or ""), ends)
    if key not in known:
        known[key] = _found(tokenizer, ends)
    return known[key]


def read(tokenizer: Any, text: str, prompt: Sequence[int] | None = None) -> tuple[Ids, Ids]:
    """(what stands between a prompt and the answer `text`, the answer's own tokens): their sum is
    what the tokenizer makes of both behind the prompt. Where a token holds the end of the first and
    the beginning of the second, it counts with the second.

    Nothing stands before the answer to a `prompt` that ends otherwise than the template ends it
    unasked: one that closes the thought itself, or has begun the answer.
    """
    place = place_of(tokenizer)
    return _cut(tokenizer, _as_it_is(tokenizer, place, prompt), text, "")


def written(
    tokenizer: Any,
    text: str,
    ends: frozenset[int] = frozenset(),
    prompt: Sequence[int] | None = None,
) -> Ids:
    """All that a model has to write behind a prompt (see `read`) to answer `text`, but for the
    turn's end.
    """
    place = _as_it_is(tokenizer, place_of(tokenizer, ends), prompt)
    own = place.tail.strip() and place.tail.strip() in text
    before, words = _cut(tokenizer, place, text, "" if own else place.tail)
    return before + words


def words_of(tokenizer: Any, said: str, ends: frozenset[int] = frozenset()) -> str:
    """An answer's own words, of all that a model has said, without what frames it."""
    place = place_of(tokenizer, ends)
    frame = tokens.frame_of(tokenizer, ends)
    lead, tail = (
        tokens.text_of(tokenizer, tokens.encode(tokenizer, text), frame) if text else ""
        for text in (place.lead, place.tail)
    )
    if lead.startswith(said) and _is_mark(said):
        return ""  # it was cut before its first word
    words = said.removeprefix(lead)
    return words.removesuffix(tail) if tail else words


def noted(tokenizer: Any) -> str:
    """What a subject says of all this: "" where an answer is what stands between a prompt and the
    turn's end, and nothing more.
    """
    place = place_of(tokenizer, tokens.end_tokens(tokenizer))
    if place.lead or place.tail:
        return f"{place.lead}\u2026{place.tail}".replace("\n", "\\n")
    joined = any(read(tokenizer, p)[1] != tokens.encode(tokenizer, p) for p in _PROBES)
    return "cut into tokens behind the prompt" if joined else ""


def _is_mark(said: str) -> bool:
    """Whether the beginning of a lead is more than a sign that may be an answer, such as `<`."""
    return said.isspace() or brings_own(said) or _TOKEN.search(said) is not None


def _found(tokenizer: Any, ends: frozenset[int]) -> Place:
    if not tokenizer.chat_template:
        return Place("\n", "", "", "")
    close = tokens.turn_close(tokenizer, ends)
    tail = "" if close is None else close[0]
    try:
        asked, other = (
            chat_template.render(tokenizer, [turn], add_generation_prompt=True)
            for turn in (_ASKED, _OTHER)
        )
    except Exception:  # noqa: BLE001  a template is a program of its own, and may want other turns
        return Place("\n", "", "", tail)
    opened = opened_by(asked)
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(asked[::-1], other[::-1], strict=False))
    same = "".join(one for one, _ in pairs)[::-1]
    return Place(_last_piece(tokenizer, same), opened, _lead(tokenizer, asked, opened), tail)


def _as_it_is(tokenizer: Any, place: Place, prompt: Sequence[int] | None) -> Place:
    """The place behind this very prompt."""
    if prompt is None:
        return place
    length = len(tokens.encode(tokenizer, place.behind)) + _MORE
    end = tokens.as_read(tokenizer, prompt[-length:])
    return place if end.endswith(place.behind) else replace(place, behind=end, opened="", lead="")


def _lead(tokenizer: Any, asked: str, opened: str) -> str:
    """What the template writes between a prompt and an answer's words. Where a prompt opens a
    thought, and answers that were given stand without one, it is the end of that thought.
    """
    try:
        turns = [_ASKED, {"role": "assistant", "content": _WORD}]
        before, said, _ = chat_template.render(tokenizer, turns).rpartition(_WORD)
    except Exception:  # noqa: BLE001  a template is a program of its own, and may want other turns
        return closing(opened)
    if said and before.startswith(asked):
        return before[len(asked) :]
    return closing(opened)


def _last_piece(tokenizer: Any, asked: str) -> str:
    """A prompt's end from its last special token on."""
    special = tokens.special_tokens(tokenizer)
    last = next((i for i in reversed(tokens.encode(tokenizer, asked)) if i in special), None)
    at = -1 if last is None else asked.rfind(tokens.as_read(tokenizer, [last]))
    return asked[at:] if at >= 0 else asked[-_BEHIND:]


def _cut(tokenizer: Any, place: Place, text: str, tail: str) -> tuple[Ids, Ids]:
    lead, text = _fitting(place, text)
    begun = tokens.encode(tokenizer, place.behind)
    whole = tokens.encode(tokenizer, place.behind + lead + text + tail)
    for stem in dict.fromkeys((lead, lead.rstrip(), "")):
        before = tokens.encode(tokenizer, place.behind + stem)
        if before[: len(begun)] == begun and whole[: len(before)] == before:
            return before[len(begun) :], whole[len(before) :]
    return tokens.encode(tokenizer, lead), tokens.encode(tokenizer, text + tail)


def _fitting(place: Place, text: str) -> tuple[str, str]:
    """(what stands before `text`, what of it the prompt has not written yet)."""
    mark, lead = place.opened.strip(), place.lead.strip()
    if mark and text.lstrip().startswith(mark):
        rest = text.lstrip()[len(mark) :]
        return "", rest.removeprefix(place.opened[len(place.opened.rstrip()) :])
    token = _TOKEN.search(lead)
    own = token[0] in text if token else brings_own(lead) and brings_own(text)
    return ("" if own else place.lead), text
