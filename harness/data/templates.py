"""Prompt templates: sandboxed Jinja in which a missing field is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment


class TemplateError(ValueError):
    """A template that can't be read, or can't be filled from a row."""


def _as_text(value: Any) -> Any:
    """A filled-in value: objects and lists become compact JSON, not Python's notation.

    Raises TemplateError for null and NaN, which would put the words None and nan into a prompt.
    """
    if value is None or (isinstance(value, float) and value != value):
        raise TemplateError("a value is null; write `{{ FIELD or '' }}` where that is meant")
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value


_environment = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_as_text
)


@lru_cache(maxsize=256)
def _compiled(source: str) -> Template:
    try:
        return _environment.from_string(source)
    except TemplateSyntaxError as error:
        raise TemplateError(f"the template can't be read: {error.message}") from None


def check(source: str) -> None:
    """Raise TemplateError where the template's syntax is wrong."""
    _compiled(source)


def render(source: str, fields: Mapping[str, Any]) -> str:
    """The template filled from one row. Raises TemplateError naming an absent field."""
    try:
        return _compiled(source).render(fields)
    except TemplateError:
        raise
    except UndefinedError as error:
        known = ", ".join(fields) or "none"
        raise TemplateError(f"{error.message}; the row's fields are: {known}") from None
    except (SecurityError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise TemplateError(f"the template fails on this row: {error}") from None
