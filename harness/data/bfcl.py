"""The single-turn tasks of the Berkeley Function-Calling Leaderboard as rows.

They are read from the installed package bfcl-eval, whose other modules aren't touched. A row holds
`id`, `messages`, `tools` (the functions with types of JSON Schema, hints and names as BFCL gives
them to open models), and `calls`: for each right call its `name`, the values `allowed` to each
argument, the `parameters` with BFCL's types and the `language`. Where no function fits `calls` is
"none", and "some" where just any call is asked for.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Row

PREFIX = "bfcl:"
INSTALL = "pip install --no-deps bfcl-eval"
_VERSION = "BFCL_v4"
_CALLED = (
    *("simple_python", "simple_java", "simple_javascript"),
    *("multiple", "parallel", "parallel_multiple"),
    *("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"),
)
_JUDGED = {"irrelevance": "none", "live_irrelevance": "none", "live_relevance": "some"}
CATEGORIES = (*_CALLED, *_JUDGED)
_SYNTAX = {"python": "Python 3", "java": "Java 8 SDK", "javascript": "JavaScript"}
_JSON_TYPES = {
    **dict.fromkeys(("integer", "byte", "short", "long", "Bigint"), "integer"),
    **dict.fromkeys(("number", "float", "double"), "number"),
    **dict.fromkeys(("boolean", "bool", "Boolean"), "boolean"),
    **dict.fromkeys(("array", "list", "tuple", "ArrayList", "Array", "Queue", "Stack"), "array"),
    **dict.fromkeys(("dict", "object", "HashMap", "Hashtable"), "object"),
}
"""Types as BFCL names them; all others are texts."""


def is_bfcl(data: str) -> bool:
    """Whether a task's `data` is `bfcl:NAME`."""
    return data.startswith(PREFIX)


def read_bfcl(data: str, folder: Path) -> list[tuple[int, Row]]:
    """(number from 1, row) of each case of a category. `folder` plays no part.

    Raises UserError where bfcl-eval isn't installed, a category can't be read, or its files are
    not as they were published.
    """
    name = data.removeprefix(PREFIX)
    if name not in CATEGORIES:
        raise UserError(
            f"{name!r} is no category of BFCL that can be read",
            field="data",
            hint=f"write `{PREFIX}NAME` with one of {', '.join(CATEGORIES)}; of the others "
            "(multi-turn, memory, web search, format sensitivity) each runs its own programs",
        )
    path = _folder() / f"{_VERSION}_{name}.json"
    answers = {}
    if name in _CALLED:
        found = _lines(path.parent / "possible_answer" / path.name)
        answers = {str(line.get("id")): line.get("ground_truth") for line in found}
    rows = []
    for number, case in enumerate(_lines(path), start=1):
        try:
            rows.append((number, _row(name, case, answers)))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else f"can't be read: {error}"
            raise UserError(
                f"this is no case of BFCL as it was published: it {what}",
                file=path,
                line=number,
                hint=f"{INSTALL} --force-reinstall",
            ) from None
    return rows


def _folder() -> Path:
    found = importlib.util.find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise UserError(
            "BFCL's cases come with the package bfcl-eval, which isn't installed",
            field="data",
            hint=f"{INSTALL} (its data is all that is used; its own dependencies aren't needed)",
        )
    return Path(next(iter(found.submodule_search_locations))) / "data"


def _lines(path: Path) -> list[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "the installed bfcl-eval has no such file that can be read: "
            + (getattr(error, "strerror", None) or str(error)),
            file=path,
            hint=f"{INSTALL} --upgrade: 2026.3.23 has it",
        ) from None
    lines: list[Mapping[str, Any]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            case = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"this line is no JSON: {error}", file=path, line=number) from None
        if not isinstance(case, dict):
            raise UserError("this line is no JSON object", file=path, line=number)
        lines.append(case)
    return lines


def _row(name: str, case: Mapping[str, Any], answers: Mapping[str, Any]) -> Row:
    language = name.removeprefix("simple_")
    language = language if language in _SYNTAX else "python"
    functions = case["function"]
    calls: Any = _JUDGED.get(name)
    if calls is None:
        right = [call.items() for call in answers[str(case["id"])]]
        calls = [_call(functions, name, allowed, language) for ((name, allowed),) in right]
    (turn,) = case["question"]
    return {
        "id": str(case["id"]),
        "messages": turn,
        "tools": [_tool(function, language) for function in functions],
        "calls": calls,
        "language": "en",
    }


def _call(
    functions: Sequence[Mapping[str, Any]], name: str, allowed: Mapping[str, Any], language: str
) -> Row:
    (function,) = (one for one in functions if one["name"] == name)
    parameters = function["parameters"]
    types = {key: _types(one) for key, one in parameters["properties"].items()}
    return {
        "name": name,
        "allowed": {key: list(values) for key, values in allowed.items()},
        "parameters": {"properties": types, "required": list(parameters.get("required") or ())},
        "language": language,
    }


def _types(schema: Mapping[str, Any]) -> Row:
    """The part of a parameter's schema that decides whether a value is of its type."""
    items = schema.get("items")
    return {"type": schema["type"], **({"items": {"type": items["type"]}} if items else {})}


def _tool(function: Mapping[str, Any], language: str) -> Row:
    parameters = function["parameters"]
    given = parameters["properties"].items()
    properties = {
        name: _schema(one) if language == "python" else _as_text(one, language)
        for name, one in given
    }
    syntax = f" Note that the provided function is in {_SYNTAX[language]} syntax."
    return {
        "type": "function",
        "function": {
            "name": function["name"],
            "description": function["description"] + syntax,
            "parameters": {**parameters, "type": "object", "properties": properties},
        },
    }


def _schema(schema: Mapping[str, Any]) -> Row:
    """A parameter's schema with types of JSON Schema in place of Python's, at every depth."""
    made = {**schema, "type": _JSON_TYPES.get(schema.get("type", ""), "string")}
    if schema.get("type") == "float":
        said = f"{schema.get('description', '')} This is a float type value.".strip()
        made |= {"format": "float", "description": said}
    if isinstance(schema.get("items"), Mapping):
        made["items"] = _schema(schema["items"])
    if isinstance(schema.get("properties"), Mapping):
        made["properties"] = {name: _schema(one) for name, one in schema["properties"].items()}
    return made


def _as_text(schema: Mapping[str, Any], language: str) -> Row:
    """A parameter of Java or JavaScript: a text that holds the literal, as its description says."""
    called = "Java" if language == "java" else "JavaScript"
    kind, said = schema["type"], schema["description"]
    if kind == "any":
        said += f" This parameter can be of any type of {called} object in string representation."
    else:
        said += f" This is {called} {kind} type parameter in string representation."
    made = {**schema, "type": "string"}
    if kind in ("ArrayList", "Array", "array"):
        said += (
            f" The list elements are of type {made.pop('items')['type']}; they are not in string "
            "representation."
        )
    if kind == "dict" and "properties" in made:
        parts = json.dumps(made.pop("properties"))
        said += (
            " The dictionary entries have the following schema; they are not in string "
            f"representation. {parts}"
        )
    return {**made, "description": said}
