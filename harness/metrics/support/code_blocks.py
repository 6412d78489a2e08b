"""Fenced blocks of an answer, as models write fences and not only as Markdown defines them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from harness.metrics.support.python_text import ends_in_a_string, is_code, parsed

_FENCE = re.compile(r"([ \t>]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)(`{3,}|~{3,})[ \t]*([^`]*)$")
_ONE_LINE = re.compile(r"[ \t]*(`{3,}|~{3,})(?!`)(.*[^`~\s].*?)\1[ \t]*$")
_AFTER_PROSE = re.compile(r"[^`]*\S[ \t]*(`{3,})[ \t]*([A-Za-z0-9.{}]*)[ \t]*$")
_CODE = re.compile(r"(?:import|from|def|class|async[ \t]+def)[ \t]|@\w|[\w.]+\(|\w+[ \t]*=[ \t]*\S")
_CODE_AFTER_NAME = re.compile(r"(?:import|from|def|class|async[ \t]+def)[ \t]|@\w|print\(")
_PROMPT = re.compile(r"[ \t]*>>>(?: |$)")
_JOINED = re.compile(r"\A(python3?)(?=(?:def|class|import|from|async)\b)", re.IGNORECASE)
_TAGS = "(?:code|pre|python|answer|solution)"
_END_MARK = re.compile(rf"(?:<\|[^<>|\s]{{1,40}}\|>|</s>|<(?:eos|end_of_turn)>|</{_TAGS}>)\Z")
_TAG = re.compile(rf"^[ \t]*(?:<{_TAGS}\b[^<>\n]*>)+|(?:</{_TAGS}>)+[ \t]*$", re.MULTILINE)
_QUOTES_OPEN = re.compile(r"^('{3}|\"{3})(?:python|py)[ \t]*$", re.MULTILINE)
_PYTHON = frozenset(("", "py", "py3", "py2", "pycon", "ipython", "ipython3", "sage", "jupyter"))
_MARKDOWN = frozenset(("markdown", "md"))
_DIFF = frozenset(("diff", "patch", "udiff"))
_STRINGS = 20
"""How many fences within strings of one block, or marks behind an answer, are passed over."""


@dataclass(frozen=True, slots=True)
class Block:
    """What stood between two fences.

    language  as its opening fence names it, in small letters
    code      its lines, the fence's own indent taken off
    span      where it stands in the text, fences included: offsets of its first character and of
              the one after its last
    """

    language: str
    code: str
    span: tuple[int, int] = (0, 0)

    @property
    def named_python(self) -> bool:
        return self.language.startswith("python") or self.language in _PYTHON - {""}

    @property
    def may_be_python(self) -> bool:
        return self.named_python or not self.language


@dataclass(frozen=True, slots=True)
class _Opening:
    """An opening fence: what stands before it on its line, its ticks, and what follows them."""

    before: str
    ticks: str
    language: str
    first: str

    def stripped(self, line: str) -> str:
        """A block in a list item is indented with it, one in a quote is quoted with it."""
        if ">" in self.before:
            line = re.sub(r"^[ \t]*>[ \t]?", "", line)
            return line.removeprefix(self.before.rpartition(">")[2].removeprefix(" "))
        width = len(self.before)
        return line[min(width, len(line) - len(line.lstrip(" \t"))) :]


def unmarked(text: str) -> str:
    """An answer without end marks of a tokenizer behind it and, where it has no fence and isn't
    Python as it stands, without the tags or quotes that stand where a fence would.
    """
    for _ in range(_STRINGS):
        if (cut := _END_MARK.sub("", text.rstrip())) == text.rstrip():
            break
        text = cut
    quoted = _QUOTES_OPEN.match(text.lstrip()) is not None
    if "```" in text or "~~~" in text or (parsed(text) is not None and not quoted):
        return text
    text = _TAG.sub("", text)
    if (opens := _QUOTES_OPEN.search(text)) is None:
        return text
    closes = re.compile(rf"^{opens[1]}[ \t]*$", re.MULTILINE)
    return f"{text[: opens.start()]}```python{closes.sub('```', text[opens.end() :])}"


def blocks(text: str, continues: Callable[[str], bool] = is_code) -> list[Block]:
    """The blocks of a text in their order; one that is never closed ends with the text.

    A fence closes a block of Python only outside of its strings, so that one in a docstring does
    not; it may stand at the end of the last line of code. Where the first fence of all only
    closes, what stands before it is the first block, if `continues` takes it for code: a prompt
    had opened it. Blocks within a block of Markdown are given in its place.
    """
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    found: list[Block] = []
    number = _head(lines, continues)
    if number:
        head = _unticked("\n".join(lines[:number]))
        found.append(Block("python", head, (0, starts[number])))
    while number < len(lines):
        opening = (
            None
            if "``" not in lines[number] and "~~" not in lines[number]
            else _opening(lines[number])
        )
        if opening is None:
            number += 1
            continue
        first = number
        code, number = (
            (opening.first, number + 1)
            if _ONE_LINE.match(lines[number])
            else _until_closed(lines, number + 1, opening)
        )
        span = starts[first], min(starts[number], len(text))
        found.append(Block(opening.language, code if code.endswith("\n") else code + "\n", span))
    return list(_flat(found))


def _flat(found: list[Block]) -> Iterator[Block]:
    for block in found:
        if block.language in _MARKDOWN:
            yield from (Block(b.language, b.code, block.span) for b in blocks(block.code))
        else:
            yield _plain(block)


def _plain(block: Block) -> Block:
    """A session at a prompt, or a patch, as the program that was typed or results."""
    lines = block.code.split("\n")
    if block.language in _DIFF:
        kept = [line[1:] for line in lines if line[:1] in ("+", " ") and line[:3] != "+++"]
        return Block("diff", "\n".join(kept) + "\n", block.span)
    if block.may_be_python and any(map(_PROMPT.match, lines)) and parsed(block.code) is None:
        typed = [
            m[1] or ""
            for line in lines
            if (m := re.match(r"[ \t]*(?:>>>|\.\.\.)(?: (.*))?$", line))
        ]
        return Block("session", "\n".join(typed) + "\n", block.span)
    return block


def _head(lines: list[str], continues: Callable[[str], bool]) -> int:
    """How many lines belong to a block that a prompt opened; 0 where it opened none."""
    for number, line in enumerate(lines):
        ticks = line.rstrip()
        if not ticks.endswith(("```", "~~~")) and not _FENCE.match(line):
            continue
        bare = re.fullmatch(r"[ \t]*(`{3,}|~{3,})", ticks)
        head = "\n".join(lines[:number] if bare else [*lines[:number], _unticked(ticks)])
        closes = bool(bare) or (ticks.endswith("```") and ticks.count("```") == 1)
        if closes and head.strip() and continues(head) and not (not bare and parsed(line)):
            return number + 1
        return 0
    return 0


def _unticked(text: str) -> str:
    return re.sub(r"(?:`{3,}|~{3,})[ \t]*$", "", text.rstrip())


def _opening(line: str) -> _Opening | None:
    if found := _ONE_LINE.match(line):
        return _Opening("", found[1], *_named(found[2].strip(), closed=True))
    if found := _FENCE.match(line):
        return _Opening(found[1], found[2], *_named(found[3].strip()))
    if found := _AFTER_PROSE.match(line):
        language = found[2].strip("{}.").lower()
        if Block(language, "").named_python or re.search(r"[:：]\s*`+[ \t]*$", line):
            return _Opening("", found[1], language, "")
    return None


def _named(info: str, *, closed: bool = False) -> tuple[str, str]:
    """The language that an opening fence names, and the code that stands on its line.

    `closed`: the fence closes on it as well, so that what follows the name can only be code.
    """
    word, _, rest = _JOINED.sub(r"\1 ", info, count=1).partition(" ")
    language = word.strip("{}.,:").lower()
    if Block(language, "").named_python:
        code = rest.strip()
        return language, code if closed or _CODE_AFTER_NAME.match(code) else ""
    if _CODE.match(info):
        return "", info
    return language, ""


def _until_closed(lines: list[str], start: int, opening: _Opening) -> tuple[str, int]:
    """The code of a block, and the number of the first line after it."""
    python = Block(opening.language, "").may_be_python
    closed = 0
    passed = 0
    code: list[str] = [opening.first] if opening.first else []
    for number in range(start, len(lines)):
        line = opening.stripped(lines[number])
        if opening.ticks not in line:
            code.append(line)
            continue
        fence = _FENCE.match(lines[number])
        so_far = "\n".join(code)
        if fence and fence[2].startswith(opening.ticks) and not fence[3].strip():
            closed = closed or number
            passed += 1
            if not python or passed > _STRINGS or not ends_in_a_string(so_far):
                break
        elif python and so_far.strip() and fence and parsed(so_far):
            another = re.fullmatch(r"[a-z0-9+#.{}-]+", fence[3].strip().lower())
            return so_far, number if another else number + 1
        elif python and (last := _last_line(so_far, line, opening.ticks)):
            return "\n".join([*code, last]), number + 1
        code.append(line)
    else:
        if not closed:
            return "\n".join(code), len(lines)
        number = closed
    if passed > _STRINGS or parsed("\n".join(code)) is None:
        number = closed
        code = code[: number - start + bool(opening.first)]
    return "\n".join(code), number + 1


def _last_line(so_far: str, line: str, ticks: str) -> str | None:
    """The code before a fence that closes a block on its last line; None where it is code."""
    code = line.rpartition(ticks)[0].rstrip("`~")
    if not code.strip():
        return None
    before = f"{so_far}\n" if so_far else ""
    closes = parsed(before + line) is None and parsed(before + code) is not None
    return code if closes else None
