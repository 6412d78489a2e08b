"""Prompt templates: sandboxed Jinja in which a missing field is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from functools import lru_cache
from numbers import Number
from typing import Any, Literal
from uuid import UUID

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, UndefinedError
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from harness.core.text_file import is_whole

Meant = Literal["text", "object", "json", "turn"]
"""What a rendered value may be; a `turn` is a text that a row may lack."""

_HAVE_A_TEXT = (str, Number, date, time, timedelta, UUID, Undefined)
"""Values whose own spelling is what a template writes out; `Undefined` says itself what it is."""

_OWN_NAMES = re.compile(r"'?harness\.data\.templates\._(\w+) object'?")

_OTHER_MARKS = re.compile(r"\{(\w+)\}|\$\{?(\w+)\}?")
"""How Python and the shell write a field: `{x}`, `$x`, `${x}`."""

_HOLE = re.compile(r"(?<!\{)\{\{ *([A-Za-z_][A-Za-z0-9_]*) *\}\}")
_MORE = re.compile(r"\{[{%#]|[}%#]\}|\r")
RESERVED = frozenset(
    {"true", "false", "none", "True", "False", "None", "self", "super", "loop", "caller"}
    | {"and", "or", "not", "in", "is", "if", "else"}
)
"""Names that a template takes for something else than a field of the row."""

_EXPRESSION = re.compile(r"\{\{-?\s*((?:(?!\}\}|\{\{).)+?)\s*-?\}\}", re.DOTALL)

_SHOWN = 160
"""Characters of a rendered row that an error shows."""


class TemplateError(ValueError):
    """A template that can't be read, or can't be filled from a row."""


class _NullError(TemplateError):
    """A null where a text is meant."""


class _NotTextError(TemplateError):
    """A list or a mapping where text is meant."""


class _Silent:
    """A value of a row that has no text of its own: what is rendered is what is asked or learned,
    and neither Python's spelling of a list nor its JSON is that, unless the template says so.
    """

    def __str__(self) -> str:
        raise _NotTextError(f"a {_kind(self)} stands where text is meant")

    def __format__(self, spec: str) -> str:
        return str(self)


class _List(_Silent, list[Any]):
    pass


class _Mapping(_Silent, dict[str, Any]):
    pass


class _Bytes(_Silent, bytes):
    pass


def _kind(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "list"
    return "mapping" if isinstance(value, dict) else "value of bytes"


def _silent(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return _List(_silent(item) for item in value)
    if isinstance(value, dict):
        return _Mapping({key: _silent(item) for key, item in value.items()})
    return _Bytes(value) if isinstance(value, bytes) else value


def _finalizer(meant: Meant) -> Any:
    """What becomes of a value that a template writes out.

    Nobody should be asked about, or taught, a Python repr, or the words None and nan where a value
    is missing.
    """

    def finalize(value: Any) -> Any:
        if value is None or (isinstance(value, float) and value != value):
            if meant == "turn":
                return ""
            raise _NullError("a value is null; write `{{ FIELD or '' }}` where that is meant")
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            raise TemplateError("a value is infinite; write a number, or take the row out")
        if isinstance(value, dict) and meant in ("object", "json"):
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr)
        if isinstance(value, list | tuple) and meant == "json":
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=repr)
        if isinstance(value, list | tuple | dict | bytes):
            raise _NotTextError(f"a {_kind(value)} stands where text is meant")
        if isinstance(value, _HAVE_A_TEXT):
            return value
        if callable(value):
            # Of a mapping, Jinja finds `items`, `keys`, `values`, `count` ... before its fields.
            name = getattr(value, "__name__", type(value).__name__)
            raise TemplateError(
                f"the function {name!r} stands where text is meant; write "
                f"`FIELD['{name}']` for a field of that name, or `()` behind it to call it"
            )
        raise TemplateError(
            f"a {type(value).__name__} stands where text is meant; of a filter's result write "
            "`| join(' ')` or `| list | tojson`"
        )

    return finalize


def _tojson(
    value: Any,
    indent: int | None = None,
    ensure_ascii: bool = False,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as chat templates write it: characters as they are, keys in their order.

    Jinja's own escapes <, >, & and ' for web pages, and sorts keys.
    """
    return json.dumps(
        value,
        indent=indent,
        ensure_ascii=ensure_ascii,
        separators=separators,
        sort_keys=sort_keys,
        allow_nan=False,
    )


def _environment(meant: Meant) -> ImmutableSandboxedEnvironment:
    made = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        finalize=_finalizer(meant),
    )
    made.filters["tojson"] = _tojson
    return made


_ENVIRONMENTS: Mapping[Meant, ImmutableSandboxedEnvironment] = {
    "text": _environment("text"),
    "object": _environment("object"),
    "json": _environment("json"),
    "turn": _environment("turn"),
}


@lru_cache(maxsize=256)
def _compiled(source: str, meant: Meant = "text") -> Template:
    try:
        return _ENVIRONMENTS[meant].from_string(source)
    except TemplateSyntaxError as error:
        raise TemplateError(f"the template can't be read: {error.message}") from None
    except TemplateError:
        raise
    except (RecursionError, MemoryError, ValueError, TypeError, ArithmeticError) as error:
        # Constants are folded while a template is compiled: `{{ 1 / 0 }}` fails here.
        raise TemplateError(f"the template can't be read: {error}") from None


def check(source: str) -> None:
    """Raise TemplateError where the template's syntax is wrong."""
    _compiled(source)


def render(source: str, fields: Mapping[str, Any], *, meant: Meant = "text") -> str:
    """The template filled from one row.

    Where `text` is meant, a list or a mapping is refused: name the part of it, or write `tojson`.
    An answer may be an `object` (a mapping becomes compact JSON, while a list, which may as well
    be several answers, is refused), or any `json`. Raises TemplateError naming an absent field, or
    showing how the row would read.
    """
    _require_no_other_marks(source, fields)
    plain = _joined(source, fields)
    if plain is not None and is_whole(plain):
        return plain
    values = {name: _silent(value) for name, value in fields.items()}
    try:
        text = _compiled(source, meant).render(values)
        if not is_whole(text):
            raise TemplateError("it writes half a character (a lone surrogate)")
        return text
    except _NotTextError as error:
        shown = _as_it_would_read(source, fields)
        raise TemplateError(
            f"{error}; the row would read {shown!r}; name the part of it that is the text, or "
            "write `{{ FIELD | tojson }}` where JSON is meant"
        ) from None
    except TemplateError:
        raise
    except UndefinedError as error:
        # A space before a name, as CSV headers have it, would not be seen.
        known = ", ".join(n if n == n.strip() else repr(n) for n in fields) or "none"
        what = _OWN_NAMES.sub(lambda name: f"a {name[1].lower()}", str(error.message))
        raise TemplateError(f"{what}; the row's fields are: {known}") from None
    except (
        *(SecurityError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError),
        *(RecursionError, JinjaError, MemoryError),
    ) as error:
        raise TemplateError(f"the template fails on this row: {error}") from None


def _joined(source: str, fields: Mapping[str, Any]) -> str | None:
    """The template filled without Jinja, which takes tens of microseconds to begin; None where it
    is more than text with names of fields that are texts.
    """
    parts = _holes(source)
    if parts is None:
        return None
    said = list(parts)
    for place in range(1, len(said), 2):
        found = fields.get(said[place])
        if type(found) is not str:
            return None
        said[place] = found
    return "".join(said)


@lru_cache(maxsize=256)
def _holes(source: str) -> tuple[str, ...] | None:
    """Text, name, text, name … text; None where the template does more."""
    parts = _HOLE.split(source)
    texts, names = parts[::2], parts[1::2]
    if RESERVED.intersection(names) or any(_MORE.search(text) for text in texts):
        return None
    return tuple(parts)


def value(source: str, fields: Mapping[str, Any]) -> Any:
    """What the one expression of a template `{{ … }}` is, before it would be written as text: a
    list, an object, null. Raises TemplateError as `render` does, and for anything but one
    expression.
    """
    expression = _EXPRESSION.fullmatch(source.strip())
    if expression is None:
        raise TemplateError("one expression is meant here, and nothing else: `{{ FIELD }}`")
    try:
        return _expression(expression[1])(**fields)
    except UndefinedError as error:
        raise TemplateError(f"{error.message}; the row's fields are: {', '.join(fields)}") from None
    except TemplateError:
        raise
    except (
        *(SecurityError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError),
        *(RecursionError, JinjaError, MemoryError),
    ) as error:
        raise TemplateError(f"the template fails on this row: {error}") from None


@lru_cache(maxsize=64)
def _expression(source: str) -> Callable[..., Any]:
    try:
        compiled = _ENVIRONMENTS["text"].compile_expression(source, undefined_to_none=False)
    except TemplateSyntaxError as error:
        raise TemplateError(f"the template can't be read: {error.message}") from None

    def evaluated(**fields: Any) -> Any:
        found = compiled(**fields)
        if isinstance(found, Undefined):
            str(found)
        return found

    return evaluated


def _require_no_other_marks(source: str, fields: Mapping[str, Any]) -> None:
    """Python's `{field}` and the shell's `$field` fill nothing here: every row would read alike."""
    if "{" + "{" in source or "{%" in source:
        return
    for mark in _OTHER_MARKS.finditer(source):
        name = next(filter(None, mark.groups()))
        if name in fields:
            raise TemplateError(f"`{mark[0]}` is not filled in: write `{{{{ {name} }}}}`")


def system_turn(source: str, fields: Mapping[str, Any]) -> str:
    """The text of a system turn filled from one row; "" where the row has null for all of it.
    Raises TemplateError as `render` does.
    """
    try:
        return render(source, fields)
    except _NullError:
        # A null beside words of the template is a hole in them, and an error as anywhere.
        if render(source, fields, meant="turn").strip():
            raise
        return ""


def _as_it_would_read(source: str, fields: Mapping[str, Any]) -> str:
    try:
        text = _compiled(source, "json").render(fields)
    except Exception:  # noqa: BLE001 - this is for a message about another error
        return source
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
