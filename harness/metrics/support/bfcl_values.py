"""What the Java or JavaScript text of an argument stands for, as BFCL's converters read it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_LONGEST, _MOST_BRACKETS, _WIDEST = 2000, 16, 20
"""Longer values, and such with more brackets or wider gaps, stay texts: BFCL's patterns take a time
that grows with their square or worse. None of its right answers is so long.
"""


def of_java(text: str, kind: str, inner: str | None = None) -> Any:
    """The value of a Java literal of the type `kind` (`long`, `ArrayList` …), whose elements are of
    the type `inner`. A text that is none stays a text. Raises ValueError for a type without rule.
    """
    if not _is_readable(text):
        return text
    if kind in _JAVA_NUMBERS:
        pattern, read = _JAVA_NUMBERS[kind]
        return read(text) if re.match(pattern, text) else text
    if kind == "boolean":
        return text == "true" if text in ("true", "false") else text
    if kind in ("char", "String", "any"):
        return text
    if kind == "ArrayList":
        return _array_list(text, inner)
    if kind == "Array":
        return _java_array(text, inner)
    if kind == "HashMap":
        return _hash_map(text)
    raise ValueError(f"no Java type: {kind}")


def of_javascript(text: str, kind: str, inner: str | None = None) -> Any:
    """As `of_java`, for JavaScript (`Bigint`, `array`, `dict` …)."""
    if not _is_readable(text):
        return text
    if kind == "String":
        return text[1:-1] if _quoted(text) else text
    if kind in _JS_NUMBERS:
        pattern, read = _JS_NUMBERS[kind]
        return read(text) if re.match(pattern, text) else text
    if kind == "Boolean":
        return text == "true" if text in ("true", "false") else text
    if kind == "any":
        return text
    if kind in ("array", "dict"):
        return _js_array(text.strip(), inner) if kind == "array" else _js_object(text.strip())
    raise ValueError(f"no JavaScript type: {kind}")


def _is_readable(text: str) -> bool:
    return (
        len(text) <= _LONGEST
        and text.count("[") <= _MOST_BRACKETS
        and re.search(rf"\s{{{_WIDEST}}}", text) is None
    )


_WHOLE = (r"^-?\d+$", int)
_JAVA_NUMBERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("byte", "short", "integer"), _WHOLE),
    "long": (r"^-?\d+[lL]$", lambda text: int(re.sub(r"[lL]$", "", text))),
    "float": (
        r"^-?\d+(\.\d+)?([eE][+-]?\d+)?[fF]$",
        lambda text: float(re.sub(r"[fF]$", "", text)),
    ),
    "double": (r"^-?\d+(\.\d+)?([eE][+-]?\d+)?$", float),
}
_JS_NUMBERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "integer": _WHOLE,
    "float": (r"^-?\d+(\.\d+)?$", float),
    "Bigint": (r"^-?\d+n$", lambda text: int(text[:-1])),
}


def _array_list(text: str, inner: str | None) -> Any:
    listed = re.search(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)", text)
    if listed:
        return [_java_element(part.strip(), inner) for part in listed[1].split(",")]
    added = re.search(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}", text, re.DOTALL)
    if added:
        found = re.findall(r"add\((.+?)\)", added[1])
        return [_java_element(part.strip(), inner) for part in found]
    return [] if re.search(r"new\s+ArrayList<\w*>\(\)", text) else text


def _java_element(text: str, inner: str | None) -> Any:
    if inner in ("char", "String"):
        return text[1:-1]
    return of_java(text, inner) if inner else _java_value(text)


def _java_array(text: str, inner: str | None) -> Any:
    found = re.search(r"new\s+\w+\[\]\s*\{(.*?)\}", text)
    if found is None:
        return text
    parts = [part.strip() for part in found[1].split(",") if part.strip()]
    return [of_java(part, inner) if inner else _java_value(part) for part in parts]


def _hash_map(text: str) -> Any:
    found = re.search(r"new\s+HashMap<.*?>\s*\(\)\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}", text, re.DOTALL)
    if found:
        pairs = re.findall(r"put\(\"(.*?)\",\s*(.*?)\)", found[1])
        return {key: _java_value(value.strip()) for key, value in pairs}
    return {} if re.search(r"new\s+HashMap<.*?>\s*\(\)", text) else text


def _java_value(text: str) -> Any:
    """An element whose type isn't said."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    for kind in ("long", "float"):
        pattern, read = _JAVA_NUMBERS[kind]
        if re.match(pattern, text):
            return read(text)
    return _number(text)


def _number(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


_JS_TABLE = re.compile(
    r"\[\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\]|\bnew\s+Array\(\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\)"
)
_JS_ARRAY = re.compile(r"\[(.*?)\]|\bnew\s+Array\((.*?)\)")


def _js_array(text: str, inner: str | None = None) -> Any:
    if table := _JS_TABLE.match(text):
        rows = [row.strip() for row in re.findall(r"\[(.*?)\]", table[0])]
        rows[0] = rows[0].removeprefix("[")
        return [[_js_value(part.strip()) for part in row.split(",")] for row in rows]
    found = _JS_ARRAY.match(text)
    if found is None:
        return text
    inside = (found[1] if found[1] is not None else found[2] or "").strip()
    parts = [part.strip() for part in inside.split(",")] if inside else []
    try:
        return [of_javascript(part, inner) if inner else _js_value(part) for part in parts]
    except ValueError:
        return text


def _js_object(text: str) -> Any:
    if text == "{}":
        return {}
    found = re.match(r"\{(.*?)\}", text)
    if found is None:
        return text
    pairs = re.findall(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)", found[1])
    return {key.strip().strip("'\""): _js_part(value.strip()) for key, value in pairs}


def _js_part(text: str) -> Any:
    if text.startswith("[") and text.endswith("]"):
        return _js_array(text)
    if text.startswith("{") and text.endswith("}"):
        return _js_object(text)
    return _js_value(text.strip("'\""))


def _js_value(text: str) -> Any:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    return text[1:-1] if _quoted(text) else _number(text)


def _quoted(text: str) -> bool:
    return any(text.startswith(mark) and text.endswith(mark) for mark in ("'", '"'))
