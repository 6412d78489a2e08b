"""What a model only thought is not its answer: the one rule that every metric of texts goes by."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

_WORDS = r"(?:seed:)?(?:think|thinking|thought|thoughts|reasoning)"
# A tag of its own name may carry attributes; every other mark is a token of one family of models.
_MARKS = (
    (rf"<\s*{_WORDS}(?:\s[^<>\n]{{0,80}})?>", rf"<\s*/\s*{_WORDS}\s*>"),
    (
        r"<\|(?:begin_of_)?(?:think|thought|thinking)\|>",
        r"<\|(?:/|end_of_)(?:think|thought|thinking)\|>",
    ),
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    (r"\[THINK\]", r"\[/THINK\]"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    (r"<\|channel>\s*thought\b", r"<channel\|>"),
    (r"<\|im_start\|>\s*think\b", r"<\|im_start\|>\s*answer\b"),
)
_CLOSES = {
    "<|think|>": "<|/think|>",
    "<|thinking|>": "<|/thinking|>",
    "<|thought|>": "<|/thought|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|start_thinking|>": "<|END_THINKING|>",
    "[think]": "[/THINK]",
    "\u25c1think\u25b7": "\u25c1/think\u25b7",
    "<|channel>thought": "<channel|>",
}
_MARK = re.compile(
    "|".join(
        f"(?P<o{number}>{opens})|(?P<c{number}>{closes})"
        for number, (opens, closes) in enumerate(_MARKS)
    ),
    re.IGNORECASE,
)
_LONGEST = 120
"""Characters that a mark with its attributes takes, at most."""

PROMPT_TAIL = 64
"""Tokens at the end of a prompt that hold the mark of a thought, also letter by letter."""

_ENDING = "\n\ue0fd"
"""A line that no text holds."""

_HINTS = ("think", "thought", "reasoning", "channel", "|im_start|")

_CHANNEL = re.compile(
    r"(?:<\|start\|>\s*assistant)?\s*<\|channel\|>\s*(?P<name>[a-z]+)[^<]*(?:<\|constrain\|>[^<]*)?"
    r"<\|message\|>"
)
_CHANNEL_ENDS = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
# The same turn where the marks themselves were skipped in decoding.
_BARE_FINAL = "assistantfinal"
_BARE_ANALYSIS = re.compile(r"\s*analysis(?=[A-Z\"'\u201c\u4e00-\u9fff]|\s*$)")

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_QUOTES = "\"'`\u201c\u201d\u2018\u2019"


class _Mark(NamedTuple):
    """Where a mark stands, which family it is of, and whether it opens a thought."""

    start: int
    end: int
    family: int
    opens: bool


class _Fence(NamedTuple):
    """A line that opens or closes a block of code; `bare`: it says nothing but its marks."""

    start: int
    end: int
    marks: str
    bare: bool


def without_thoughts(text: str) -> str:
    """What is left of `text` once the model's thoughts are taken out; "" where there is no more.

    - Between an opening and a closing mark all is thought: `<think>`, `<thinking>`, `<thought>`,
      `<reasoning>` (in any case, with attributes), and the tokens `<|think|>`,
      `<|begin_of_thought|>`, `<|START_THINKING|>`, `[THINK]`, Kimi's and `<|channel>thought`.
      Marks nest: the outermost pair counts. Where fewer close than open, the last that closes ends
      the thought, because the others were only spoken of.
    - What opens and never closes is thought to the end: the model was cut off in it.
    - What closes without having been opened was opened by the prompt: all before it is thought.
    - Of a turn in channels (gpt-oss) only the channel `final` is the answer, also where the marks
      were lost in decoding (`analysis\u2026assistantfinal\u2026`).
    - A mark inside quotes, inside backticks or in a fenced block of the answer is one that the
      answer speaks of, and stays.

    A text without marks comes back as it is; any other without the spaces at its ends.
    """
    channels = _final_channel(text)
    if channels is not None:
        text = channels
    if not any(hint in text.lower() for hint in _HINTS):
        return text
    if not _MARK.search(text):
        return text
    return "".join(_spoken(text)).strip()


def ends_in_thought(text: str) -> bool:
    """Whether a thought of the text never ends, so that no answer follows it."""
    if not any(hint in text.lower() for hint in _HINTS) and not _BARE_ANALYSIS.match(text):
        return False
    # What is said after all of the text is heard only where no thought is open.
    spoken = without_thoughts(text + _ENDING)
    return not spoken.endswith(_ENDING[-1]) and not without_thoughts(text)


def closes_thought(mark: str) -> bool:
    """Whether a text is a mark with which a thought ends."""
    found = _MARK.fullmatch(mark.strip())
    return found is not None and (found.lastgroup or "")[:1] == "c"


def after_thoughts(text: str, most: int = 8) -> Iterator[str]:
    """What follows each mark that closes a thought, as it is: the first `most` of them.

    For an answer in a grammar of its own, which tells by itself that it is whole, and where marks
    may be part of a text in it.
    """
    closing = (found for found in _MARK.finditer(text) if (found.lastgroup or "")[:1] == "c")
    return (text[found.end() :] for found in islice(closing, most))


def opened_by(prompt: str) -> str:
    """The mark with which a prompt ends that opens a thought, as some chat templates write it for
    the model; "" where it ends otherwise.
    """
    rest = prompt.rstrip()
    begin = max(0, len(rest) - _LONGEST)
    for mark in _MARK.finditer(rest, begin):
        if mark.end() == len(rest) and (mark.lastgroup or "")[:1] == "o":
            return prompt[mark.start() :]
    for channel in _CHANNEL.finditer(rest, begin):
        if channel.end() == len(rest) and channel["name"] != "final":
            return prompt[channel.start() :]
    return ""


def closing(opened: str) -> str:
    """What ends a thought in which nothing was thought, behind the mark `opened` that `opened_by`
    found; "" where that isn't known.
    """
    mark = opened.strip()
    tag = re.fullmatch(rf"<\s*({_WORDS})(?:\s[^<>]*)?>", mark, re.IGNORECASE)
    close = f"</{tag[1]}>" if tag else _CLOSES.get(mark.lower(), "")
    return ("\n" if close and opened.endswith("\n") else "") + close + ("\n\n" if close else "")


def brings_own(text: str) -> bool:
    """Whether a text holds thoughts or channels of its own, and not only words about them."""
    return without_thoughts(text).strip() != text.strip()


def cut_in_thought(prompt: str, answer: str) -> str:
    """An answer that was cut at its length, with the mark before it that opened the thought in
    which it was cut. What holds a mark of its own, or answers a prompt that ends otherwise, comes
    back as it is. The end of the prompt is enough.
    """
    opened = opened_by(prompt)
    ended = _MARK.search(answer) or _CHANNEL_ENDS.search(answer)
    return opened + answer if opened and not ended else answer


def _final_channel(text: str) -> str | None:
    """The text of the channel `final`; None where the text has no channels."""
    found = list(_CHANNEL.finditer(text))
    if found:
        parts = []
        for mark in found:
            if mark["name"] != "final":
                continue
            ends = _CHANNEL_ENDS.search(text, mark.end())
            parts.append(text[mark.end() : ends.start() if ends else len(text)])
        return "".join(parts).strip()
    if _BARE_ANALYSIS.match(text):
        return text.rpartition(_BARE_FINAL)[2].strip() if _BARE_FINAL in text else ""
    return None


def _spoken(text: str) -> list[str]:
    """The parts of `text` that are no thought, in one pass over its marks and fences."""
    kept: list[str] = []
    start = end = 0
    fence, spoken_of = "", 0
    events: list[_Mark | _Fence] = sorted([*_marks(text), *_fences(text)], key=_start)
    marks = [event for event in events if isinstance(event, _Mark)]
    for event in events:
        if event.start < end:
            continue
        if isinstance(event, _Fence):
            fence, spoken_of = _next_fence(fence, event), 0
        elif fence and (event.opens or spoken_of or _touches_quote(text, event)):
            # Of a pair in one fence, as an example in XML has it, neither is a mark.
            spoken_of += 0 if _touches_quote(text, event) else (1 if event.opens else -1)
        elif event.opens:
            kept.append(text[start : event.start])
            start = end = _end_of(event, marks, len(text))
        else:
            kept, start, fence = [], event.end, ""
    return [*kept, text[start:]]


def _start(event: _Mark | _Fence) -> int:
    return event.start


def _end_of(first: _Mark, marks: Sequence[_Mark], end: int) -> int:
    """Where the thought that `first` opens is over; `end` where it never is."""
    depth, last = 0, end
    for index in range(bisect_left(marks, first), len(marks)):
        mark = marks[index]
        if mark.family != first.family:
            continue
        depth += 1 if mark.opens else -1
        if not mark.opens:
            last = mark.end
        if depth == 0:
            return mark.end
    return last


def _next_fence(fence: str, line: _Fence) -> str:
    """The fence that is open after `line`, "" for none."""
    if not fence:
        return line.marks
    return "" if line.bare and line.marks.startswith(fence) else fence


def _marks(text: str) -> Iterator[_Mark]:
    """Every mark but those that stand in quotes or backticks: those are spoken of."""
    for found in _MARK.finditer(text):
        before, after = (
            text[max(found.start() - 1, 0) : found.start()],
            text[found.end() : found.end() + 1],
        )
        if before and after and before in _QUOTES and after in _QUOTES:
            continue
        kind = found.lastgroup or "o0"
        yield _Mark(found.start(), found.end(), int(kind[1:]), kind[0] == "o")


def _fences(text: str) -> Iterator[_Fence]:
    for found in _FENCE.finditer(text):
        yield _Fence(found.start(), found.end(), found[1], not found[2].strip())


def _touches_quote(text: str, mark: _Mark) -> bool:
    return bool({text[mark.start - 1 : mark.start], text[mark.end : mark.end + 1]} & set(_QUOTES))
