"""Finds the program in a model's answer: fenced, bare, or the rest of a prompt."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*$")
_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_CODE_LINE = re.compile(r"(?:import|from|def|class|async|@|if|for|while|try|with|[A-Za-z_]\w*\s*=)")
_PYTHON = frozenset(("py", "python", "python3", "py3", "{.python}"))
_STANDS_FOR_ITSELF = (
    ast.Import,
    ast.ImportFrom,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AugAssign,
    ast.If,
    ast.For,
    ast.While,
    ast.Try,
    ast.With,
)
_TRIES = 200
"""How often parsing is tried in one answer: ten thousand lines of prose are not a program."""


@dataclass(frozen=True, slots=True)
class _Block:
    """The code between two fences; `language` as the opening fence names it, "" without a name."""

    language: str
    code: str

    @property
    def may_be_python(self) -> bool:
        return self.language in _PYTHON or self.language == ""


def extract_code(answer: str, *, entry_point: str | None = None, prompt: str = "") -> str | None:
    """The Python program that an answer gives, or None where it gives none.

    entry_point   the function or class that the program must define; None for a whole program that
                  reads stdin
    prompt        code that the answer may continue (as HumanEval's prompts). All of it is put
                  before an answer that doesn't define the entry point itself; before one that does,
                  only what precedes the entry point in it (imports, helpers)

    Of several fenced blocks the last that defines the entry point is taken, with the earlier ones
    whose definitions it uses; blocks in other languages, shell sessions and sample outputs are
    ignored. Without fences the longest run of lines that is Python is cut out of the prose. What a
    model writes while thinking (`<think>`) is not part of the answer.

    Nothing is repaired: a wrong indent or a full-width comma is the model's mistake. A block that
    doesn't compile is returned as it is, so that the sandbox reports the error.
    """
    # From the clearest sign of a program to the weakest: a fenced block that fits, code among
    # prose, the rest of the prompt, and at last whatever there is, for the sandbox to judge. The
    # rest of a prompt comes after whole programs, because a program also compiles behind a prompt.
    text = _spoken(answer)
    blocks = [block for block in _blocks(text) if block.may_be_python and block.code.strip()]
    if blocks:
        found = _from_blocks(blocks, entry_point, prompt)
        if found is not None:
            return found
    else:
        bare = _bare(text, entry_point)
        if bare is not None:
            return _with_preamble(bare, prompt, entry_point)
    if prompt:
        continued = _continued(prompt, blocks[0].code if blocks else text, entry_point)
        if continued is not None:
            return continued
    if not blocks:
        return _with_preamble(_cut_short(text, entry_point), prompt, entry_point)
    named = [block for block in blocks if block.language in _PYTHON]
    return _with_preamble((named or blocks)[-1].code, prompt, entry_point)


def _spoken(answer: str) -> str:
    text = answer.replace("\r\n", "\n").replace("\r", "\n").removeprefix("\ufeff")
    text = _THOUGHT.sub("", text)
    # A chat template may have opened the thought in the prompt, so that the answer only closes it;
    # and an answer that broke off may never close it.
    text = re.split(r"</think(?:ing)?>", text)[-1]
    return re.split(r"<think(?:ing)?>", text)[0]


def _blocks(text: str) -> Iterator[_Block]:
    """Fenced blocks in their order; one that is never closed ends with the text."""
    opened: tuple[str, str, str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        if opened is None:
            if fence:
                opened, lines = (fence[1], fence[2], fence[3].lower()), []
        elif fence and not fence[3] and fence[2].startswith(opened[1]):
            yield _Block(opened[2], _dedented(lines, opened[0]))
            opened = None
        else:
            lines.append(line)
    if opened is not None:
        yield _Block(opened[2], _dedented(lines, opened[0]))


def _dedented(lines: Sequence[str], indent: str) -> str:
    """A block inside a list item is indented with it."""
    return "".join(line.removeprefix(indent) + "\n" for line in lines)


def _from_blocks(blocks: Sequence[_Block], entry_point: str | None, prompt: str) -> str | None:
    trees = [_parsed(block.code) for block in blocks]
    if entry_point is None:
        whole = [i for i, tree in enumerate(trees) if tree is not None and _reads(tree)]
        named = [i for i, tree in enumerate(trees) if tree and blocks[i].language in _PYTHON]
        chosen = whole or named
        return blocks[chosen[-1]].code if chosen else None
    # The last block that defines it: models correct themselves, and repeat the whole at the end.
    for last in range(len(blocks) - 1, -1, -1):
        tree = trees[last]
        if tree is None or entry_point not in _defined(tree):
            continue
        needed, missing = [blocks[last].code], _used(tree) - _defined(tree)
        for earlier in range(last - 1, -1, -1):
            other = trees[earlier]
            if other is None or not missing & _defined(other):
                continue
            needed.append(blocks[earlier].code)
            missing = (missing | _used(other)) - _defined(other)
        return _with_preamble("\n".join(reversed(needed)), prompt, entry_point)
    return None


def _continued(prompt: str, text: str, entry_point: str | None) -> str | None:
    """`prompt` followed by the answer, cut where that stops being Python; None if it never fits."""
    body = text.strip("\n").rstrip()
    if not body.strip():
        return None
    head = prompt if prompt.endswith("\n") else prompt + "\n"
    # Chat models drop the indent, of the first line or of all: whichever reading keeps more.
    variants = [body] if body[0] in " \t" else ["    " + body, _indented(body)]
    whole = (_longest_prefix(head + rest, least=head.count("\n") + 1) for rest in variants)
    fits = [code for code in whole if code and entry_point in _defined(ast.parse(code))]
    return max(fits, key=lambda code: code.count("\n"), default=None)


def _indented(body: str) -> str:
    return "\n".join("    " + line if line.strip() else line for line in body.split("\n"))


def _bare(text: str, entry_point: str | None) -> str | None:
    """The longest program among lines of prose; the one that defines the entry point first."""
    lines = text.split("\n")
    best: tuple[bool, int, str] | None = None
    start, tries = 0, 0
    while start < len(lines) and tries < _TRIES:
        if not _CODE_LINE.match(lines[start]):
            start += 1
            continue
        tries += 1
        code = _longest_prefix("\n".join(lines[start:]), least=1)
        if code is None:
            start += 1
            continue
        program = _statements(code, entry_point)
        tree = ast.parse(program)
        fits = _reads(tree) if entry_point is None else entry_point in _defined(tree)
        if tree.body and (best is None or (fits, len(program)) > best[:2]):
            best = (fits, len(program), program)
        start += code.count("\n") + 1
    return best[2] if best is not None and best[0] else None


def _cut_short(text: str, entry_point: str | None) -> str | None:
    """From the entry point's definition to the end of the text: an answer that broke off."""
    if entry_point is None:
        return None
    found = re.search(rf"^(?:async )?(?:def|class) {re.escape(entry_point)}\b.*", text, re.M | re.S)
    return found[0] if found else None


def _longest_prefix(code: str, *, least: int) -> str | None:
    """The first lines that are Python together, at least `least` of them, or None.

    A syntax error names its line, and the lines before it are tried next: a few tries in place of
    one for each line.
    """
    lines = code.split("\n")
    for _ in range(_TRIES):
        if len(lines) < least:
            return None
        try:
            _parse("\n".join(lines))
        except SyntaxError as error:
            lines = lines[: min(max(error.lineno or 1, 1), len(lines)) - 1]
        except (ValueError, RecursionError, MemoryError):
            return None
        else:
            return "\n".join(lines)
    return None


def _statements(code: str, entry_point: str | None) -> str:
    """`code` without lines of prose that happen to parse: `Done`, `说明`, `Note: see above`."""
    lines = code.split("\n")
    kept: list[str] = []
    for node in ast.parse(code).body:
        calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        annotated = isinstance(node, ast.AnnAssign) and node.value is not None
        if isinstance(node, _STANDS_FOR_ITSELF) or calls or annotated:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            kept += lines[first - 1 : node.end_lineno]
    return "\n".join(kept) + "\n" if kept else ""


def _with_preamble(code: str | None, prompt: str, entry_point: str | None) -> str | None:
    """The prompt's lines before the entry point (imports, helpers), then the code."""
    if code is None or not prompt or entry_point is None:
        return code
    before = re.split(rf"^(?:async )?(?:def|class) {re.escape(entry_point)}\b", prompt, flags=re.M)
    return before[0].rstrip() + "\n\n\n" + code if len(before) > 1 and before[0].strip() else code


def _parse(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(code)
        # Only the compiler objects to a `return` outside of a function.
        compile(tree, "answer", "exec", dont_inherit=True)
        return tree


def _parsed(code: str) -> ast.Module | None:
    try:
        return _parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defined(tree: ast.Module) -> set[str]:
    """Names that the module's own statements bind."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        else:
            names.update(
                part.id
                for part in ast.walk(node)
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)
            )
    return names


def _used(tree: ast.Module) -> set[str]:
    return {
        part.id
        for part in ast.walk(tree)
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)
    }


def _reads(tree: ast.Module) -> bool:
    """Whether the program looks like a whole one: it reads stdin, or at least prints."""
    return bool(_used(tree) & {"input", "sys", "stdin", "open", "print"})
