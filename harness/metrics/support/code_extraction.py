"""Finds the program in a model's answer: fenced, bare, or the rest of a prompt."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from harness.metrics.support import whole_programs
from harness.metrics.support.code_blocks import Block, blocks, unmarked
from harness.metrics.support.python_text import (
    bound,
    defined,
    imported,
    is_code,
    joined,
    longest_prefix,
    needed,
    parsed,
    ships_with_python,
    source_of,
    statements,
    without_prose,
)
from harness.metrics.support.thoughts import without_thoughts

MOST = 4
"""How many programs of one answer are tried at most."""

_CODE_LINE = re.compile(
    r"(?:import|from|def|class|async|if|for|while|try|with)\b|@\w"
    r"|[A-Za-z_][\w.]*[ \t]*(?:[=(]|[-+*/]=)"
    r"|[A-Za-z_]\w*[ \t]*(?:\[|:[ \t]*\w|,)|[\[(]|\"\"\"|'''"
)
_INLINE = re.compile(r"(?<!`)(`{1,3})(?!`)([^`\n]+)\1(?!`)")
_TRIES = 200
"""How many places of one answer are tried as the first line of code."""

_LINES = 20_000
"""How many lines are parsed in all in looking for them: much prose is no program."""

_PIECES = 100
"""Of how many pieces of code, the last ones, a program is made at most."""

_METHODS_OF = "Solution"
_ADAPTER = """

def {name}(*args, **named):
    return {kind}().{name}(*args, **named)
"""


def extract_code(answer: str, *, entry_point: str | None = None, prompt: str = "") -> str | None:
    """The Python program that an answer gives, or None: the first of `programs`."""
    return next(iter(programs(answer, entry_point=entry_point, prompt=prompt)), None)


def programs(answer: str, *, entry_point: str | None = None, prompt: str = "") -> tuple[str, ...]:
    """The Python programs that an answer may be meant to give, the likeliest first; at most `MOST`.

    `entry_point` is the function or class that the program must define, or an expression whose
    first name it is; None for a whole program that reads stdin, of which there is one at most.
    `prompt` is code that the answer may go on with (HumanEval's prompts): it is put before an
    answer that does not define the entry point itself, and what stands in it before the entry
    point (imports, helpers) before one that does.

    The order follows from the answer's structure alone. Of fenced blocks: the last that defines the
    entry point and is no stub, then earlier versions, each with the other blocks whose definitions
    it uses; a method of `class Solution` stands for the entry point where no function does. Without
    fences the lines that are Python are cut out of the prose. Last comes the first program without
    what it runs while it loads. A program after the first is for a sandbox to try where the ones
    before it do not load: which of them passes tests must never decide.

    What a model only thought is not an answer. Nothing is repaired: a wrong indent, a full-width
    comma in the code are the model's, and a block that doesn't compile is given as it is, so that
    the sandbox says what is wrong with it.
    """
    text = unmarked(without_thoughts(_plain(answer)).replace("\ufeff", ""))
    prompt = _unfenced(_plain(prompt))
    name = _first_name(entry_point or "")
    every = _blocks(text, prompt)
    python = [block.code for block in every if block.may_be_python]
    if entry_point is None:
        groups = (python, _bare(text), _inline(text))
        whole = next(filter(None, (whole_programs.find(list(group)) for group in groups)), None)
        found = [] if whole is None else [whole]
    else:
        found = _functions(text, every, python, prompt, name)
    if not found:
        broken = _broken(text, every, name)
        return () if broken is None else (_with_preamble(broken, prompt, name),)
    if entry_point is not None:
        found += _definitions_alone(found[0], name)
    return tuple(dict.fromkeys(found))[:MOST]


def _functions(
    text: str, every: Sequence[Block], python: Sequence[str], prompt: str, name: str
) -> list[str]:
    """Programs that define the entry point, from the first place in the answer that has any."""
    others = [block.code for block in every if not block.may_be_python]
    places: list[Callable[[], Iterable[str]]] = [
        lambda: _preambled(_defining(python, name), prompt, name),
        lambda: _continuations(prompt, python, name),
        lambda: _preambled(_defining(others, name), prompt, name),
        lambda: _preambled(_defining(list(_bare(text)), name), prompt, name),
        lambda: _preambled(_defining(_inline(text), name), prompt, name),
        lambda: _continuations(prompt, [text], name),
        lambda: _preambled(_stubs(python, name), prompt, name),
    ]
    return next(filter(None, (list(place()) for place in places)), [])


def _preambled(found: Iterable[str], prompt: str, name: str) -> Iterator[str]:
    return (_with_preamble(code, prompt, name) for code in found)


def _plain(answer: str) -> str:
    return answer.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")


def _unfenced(prompt: str) -> str:
    """A prompt that ends within a fence, from that fence on."""
    fences = list(re.finditer(r"^(?:```|~~~)[^\n]*\n", prompt, re.M))
    return prompt[fences[-1].end() :] if len(fences) % 2 else prompt


def _first_name(entry_point: str) -> str:
    """The name that must be defined: `Solution` for the entry point `Solution().add`."""
    found = re.match(r"\s*([^\W\d]\w*)", entry_point)
    return found[1] if found else entry_point


def _blocks(text: str, prompt: str) -> list[Block]:
    def continues(head: str) -> bool:
        return is_code(head) or bool(prompt and _continues(prompt, head))

    return [block for block in blocks(text, continues) if block.code.strip()][-_PIECES:]


def _continues(prompt: str, head: str) -> bool:
    """Whether all of `head` goes on with the prompt."""
    whole = _after(prompt, head)
    return whole is not None and whole.endswith(head.rstrip().rpartition("\n")[2])


def _defining(pieces: Sequence[str], name: str) -> Iterator[str]:
    """Programs made of these pieces that define the entry point, the likeliest first."""
    order: list[int] = []
    for fits in (_complete, _assigns):
        order += [n for n in reversed(range(len(pieces))) if fits(pieces[n], name)]
    order = [n for n in order if not _is_stub(pieces[n], name)]
    for number in dict.fromkeys(order):
        yield from _assembled(pieces, number, name, "")
    if order:
        return
    for number in reversed(range(len(pieces))):
        if kind := _class_with(pieces[number], name):
            adapter = _ADAPTER.format(name=name, kind=kind)
            yield from _assembled(pieces, number, name, adapter)
            order.append(number)
    if not order:
        for number in reversed(range(len(pieces))):
            if ships_with_python(imported(pieces[number]).get(name, " ")):
                yield pieces[number]


def _stubs(pieces: Sequence[str], name: str) -> list[str]:
    return [piece for piece in reversed(pieces) if _is_stub(piece, name)]


def _complete(code: str, name: str) -> bool:
    """Whether a definition is there that is more than a stub."""
    return _definition(code, name) is not None and not _is_stub(code, name)


def _is_stub(code: str, name: str) -> bool:
    """Whether the entry point is a function that does nothing yet."""
    node = _definition(code, name)
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part))
        for part in node.body
    )


def _definition(code: str, name: str) -> ast.stmt | None:
    """The last statement that defines `name` for good: a function, a class, a name for one."""
    tree = parsed(code)
    if tree is None or name not in bound(code):
        return None
    for node in reversed(list(statements(tree.body))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name == name:
                return node
        elif isinstance(node, ast.Assign):
            renames = isinstance(node.value, ast.Lambda | ast.Name | ast.Attribute)
            if renames and any(getattr(to, "id", "") == name for to in node.targets):
                return node
    return None


def _assigns(code: str, name: str) -> bool:
    return name in bound(code)


def _class_with(code: str, method: str) -> str | None:
    """The class that has the entry point as a method: `Solution`, or the only one."""
    tree = parsed(code)
    classes = [
        node.name
        for node in (tree.body if tree else ())
        if isinstance(node, ast.ClassDef)
        and any(
            isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name == method
            for part in node.body
        )
    ]
    if _METHODS_OF in classes:
        return _METHODS_OF
    return classes[0] if len(classes) == 1 else None


def _assembled(pieces: Sequence[str], number: int, name: str, after: str) -> Iterator[str]:
    """One piece with those others whose definitions it uses: earlier ones, then later ones."""
    earlier, missing = _helpers(pieces, range(number - 1, -1, -1), needed(pieces[number]), "")
    later, _ = _helpers(pieces, range(number + 1, len(pieces)), missing, name)
    before = [pieces[n] for n in sorted(earlier)]
    behind = [pieces[n] for n in sorted(later)]
    tail = [after] if after else []
    yield joined([*before, pieces[number], *behind, *tail])
    if behind:  # a decorator or a base class is needed at once
        yield joined([*before, *behind, pieces[number], *tail])


def _helpers(
    pieces: Sequence[str], order: Iterable[int], missing: frozenset[str], name: str
) -> tuple[list[int], frozenset[str]]:
    """Pieces that define what is missing, and what is missing still."""
    chosen: list[int] = []
    for number in order if missing else ():
        gives = defined(pieces[number])
        if missing & gives and name not in gives:
            chosen.append(number)
            missing = (missing | needed(pieces[number])) - gives
    return chosen, missing


def _definitions_alone(code: str, name: str) -> list[str]:
    """The program without statements that only show or try it; nothing where there are none."""
    tree = parsed(code)
    if tree is None or all(map(_only_defines, tree.body)):
        return []
    wanted, kept = {name}, set[int]()
    while True:
        more = {
            number
            for number, node in enumerate(tree.body)
            if number not in kept
            and not isinstance(node, ast.Expr | ast.Assert)
            and wanted & defined(source_of(code, [node]))
        }
        if not more:
            break
        kept |= more
        wanted |= {n for number in more for n in needed(source_of(code, [tree.body[number]]))}
    futures = {
        number
        for number, node in enumerate(tree.body)
        if isinstance(node, ast.ImportFrom) and node.module == "__future__"
    }
    alone = source_of(code, [tree.body[number] for number in sorted(kept | futures)])
    return [alone] if parsed(alone) is not None and alone.strip() else []


def _only_defines(node: ast.stmt) -> bool:
    return isinstance(
        node,
        ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef,
    ) or (
        isinstance(node, ast.Assign | ast.Expr)
        and isinstance(node.value, ast.Constant | ast.Lambda | ast.Name)
    )


def _continuations(prompt: str, texts: Sequence[str], name: str) -> Iterator[str]:
    """`prompt` with one of the texts as the rest of it, cut where it stops being Python."""
    for text in texts if prompt else ():
        if name in bound(text):
            continue
        body = text.strip("\n").rstrip()
        for rest in (body, _from_first_indent(body)):
            whole = _after(prompt, rest) if rest.strip() else None
            if whole is not None and (_complete(whole, name) or _class_with(whole, name)):
                yield whole + _adapter(whole, name)
                return


def _adapter(code: str, name: str) -> str:
    kind = None if name in bound(code) else _class_with(code, name)
    return _ADAPTER.format(name=name, kind=kind) if kind else ""


def _from_first_indent(body: str) -> str:
    """Without the prose before the first indented line."""
    lines = body.split("\n")
    first = next((n for n, line in enumerate(lines) if line[:1] in (" ", "\t") and line.strip()), 0)
    return "\n".join(lines[first:])


def _after(prompt: str, body: str) -> str | None:
    """`prompt`, then as much of `body` as is Python; None where that is nothing."""
    body = body.strip("\n").rstrip()
    head = prompt if prompt.endswith("\n") else prompt + "\n"
    indent = _indent_after(prompt)
    # Chat models drop the indent, of the first line or of all: whichever reading keeps more.
    bare = not body.startswith((" ", "\t"))
    variants = [indent + body, _indented(body, indent)] if bare else [body]
    variants += [other.expandtabs(4) for other in variants if "\t" in other]
    fits = [longest_prefix(head + rest, least=head.count("\n") + 1) for rest in variants]
    return max(filter(None, fits), key=lambda code: code.count("\n"), default=None)


def _indent_after(prompt: str) -> str:
    last = prompt.rstrip().rpartition("\n")[2]
    indent = last[: len(last) - len(last.lstrip(" \t"))]
    return indent + "    " if last.endswith(":") or not indent else indent


def _indented(body: str, indent: str) -> str:
    return "\n".join(indent + line if line.strip() else line for line in body.split("\n"))


def _bare(text: str) -> Iterator[str]:
    """Runs of lines that are Python among lines of prose; indented ones are dedented."""
    lines = text.split("\n")
    start, tries, left = 0, 0, _LINES
    while start < len(lines) and tries < _TRIES and left > 0:
        line = lines[start].lstrip(" \t")
        if not _CODE_LINE.match(line):
            start += 1
            continue
        tries += 1
        indent = lines[start][: len(lines[start]) - len(line)]
        run = list(_run(lines[start:], indent))
        left -= len(run)
        code = longest_prefix("\n".join(run))
        if code is None:
            start += 1
            continue
        program = without_prose(code)
        if program:
            yield program
        start += code.count("\n") + 1


def _run(lines: Sequence[str], indent: str) -> Iterator[str]:
    for line in lines:
        if indent and line.strip() and not line.startswith(indent):
            return
        yield line.removeprefix(indent) if line.strip() else ""


def _inline(text: str) -> list[str]:
    """Code in backticks within a line of prose."""
    found = (code[2].strip() for code in _INLINE.finditer(text))
    return [code + "\n" for code in found if is_code(code)][-_PIECES:]


def _broken(text: str, every: Sequence[Block], name: str) -> str | None:
    """What was meant as the program, where nothing is one: the sandbox says what is wrong."""
    python = [block for block in every if block.may_be_python]
    if not python and not name:
        return None
    start = rf"^[ \t]*(?:async )?(?:def|class) {re.escape(name)}\b" if name else "(?!)"
    meant = [block for block in python if re.search(start, block.code, re.M)]
    named = [block for block in python if block.named_python]
    if python:
        return (meant or named or python)[-1].code
    found = re.search(rf"{start}.*", text, re.M | re.S)
    return found[0] if found else None


def _with_preamble(code: str, prompt: str, name: str) -> str:
    """What stands in the prompt before the entry point, then the code."""
    if not (prompt and name):
        return code
    start = rf"^[ \t]*(?:async )?(?:def|class) (?:{re.escape(name)}|{_METHODS_OF})\b"
    before = re.split(start, prompt, maxsplit=1, flags=re.M)
    if len(before) == 1 or not before[0].strip():
        return code
    return joined([before[0].rstrip() + "\n\n", code])
