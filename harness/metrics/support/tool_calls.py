"""Finds the calls of tools in an answer, in the ways in which models write them."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.thoughts import without_thoughts

_LONGEST = 60_000
_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_XML = re.compile(r"<function=([\w.-]+)>(.*?)(?:</function>|\Z)", re.DOTALL)
_XML_PART = re.compile(r"<parameter=([\w.-]+)>\n?(.{0,20000}?)\n?</parameter>", re.DOTALL)
_GLM = re.compile(
    r"<arg_key>(.{0,200}?)</arg_key>\s*<arg_value>(.{0,20000}?)</arg_value>", re.DOTALL
)
_CHANNEL = re.compile(
    r"to=functions\.([\w.-]+)[^{]{0,200}?<\|message\|>(.*?)(?:<\|call\|>|<\|end\|>|\Z)", re.DOTALL
)
_DEEPSEEK = re.compile(
    r"<｜tool▁call▁begin｜>(?:function<｜tool▁sep｜>)?([\w.-]+)\s*(?:<｜tool▁sep｜>)?\s*"
    r"(?:```json\s*)?(.{0,4000}?)(?:```\s*)?<｜tool▁call▁end｜>",
    re.DOTALL,
)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*(.*)", re.DOTALL)
_MISTRAL_ARGS = re.compile(r"([\w.-]+)\[ARGS\]\s*")
_FENCE = re.compile(r"```(?:json|python|tool_code|tool_call)?[ \t]*\n(.*?)\n?```", re.DOTALL)
_LEADING = re.compile(r"^\s*(?:<\|python_tag\|>|<\|python_start\|>|<\|tool_call\|>)?\s*")
_TRAILING = re.compile(r"\s*(?:<\|python_end\|>|<\|eom_id\|>|<\|eot_id\|>|<\|/tool_call\|>)?\s*$")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool; `arguments` is None where they are written, but can't be read."""

    name: str
    arguments: Mapping[str, Any] | None


def calls_in(text: str) -> list[Call]:
    """The calls of an answer, in their order; none in an answer that only speaks.

    Read are `<tool_call>` (Hermes, Qwen, GLM), `<function=…>`, Mistral's, DeepSeek's and gpt-oss'
    marks, an answer that is JSON as a whole or in its one fence (Llama 3, OpenAI's `tool_calls`),
    and one that is Python calls as a whole (`[f(a=1), g()]`). JSON and Python within prose are no
    calls: an answer may show what it would call.
    """
    text = text[:_LONGEST]
    if "to=functions." in text:
        return [_call(name, body) for name, body in _CHANNEL.findall(text)]
    spoken = without_thoughts(text)
    for read in (_tagged, _xml, _deepseek, _mistral):
        if found := list(read(spoken)):
            return found
    body = _TRAILING.sub("", _LEADING.sub("", spoken))
    fences = _FENCE.findall(body)
    if len(fences) == 1 and not _FENCE.sub("", body).strip():
        body = fences[0].strip()
    return _listed(body) or _pythonic(body)


def _call(name: str, body: Any) -> Call:
    return Call(name, _arguments(body))


def _arguments(body: Any) -> Mapping[str, Any] | None:
    if isinstance(body, str):
        try:
            body = json.loads(body.strip() or "{}")
        except (ValueError, RecursionError):
            return None
    return {} if body is None else body if isinstance(body, Mapping) else None


def _tagged(text: str) -> Iterator[Call]:
    for body in _TAGGED.findall(text):
        if "<function=" in body:
            yield from _xml(body)
        elif parts := _GLM.findall(body):
            name = body.partition("<arg_key>")[0].strip()
            yield Call(name, {key.strip(): _value(value) for key, value in parts})
        elif body.lstrip().startswith(("{", "[")):
            yield from _listed(body) or [Call("", None)]
        elif re.fullmatch(r"[\w.-]+", body.strip()):
            yield Call(body.strip(), {})


def _xml(text: str) -> Iterator[Call]:
    for name, body in _XML.findall(text):
        yield Call(name, {key: _value(value) for key, value in _XML_PART.findall(body)})


def _value(text: str) -> Any:
    """What a tag holds: JSON where it is some, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _deepseek(text: str) -> Iterator[Call]:
    for name, body in _DEEPSEEK.findall(text):
        yield _call(name, body)


def _mistral(text: str) -> Iterator[Call]:
    found = _MISTRAL.search(text)
    if found is None:
        return
    parts = _MISTRAL_ARGS.split(found[1])
    if len(parts) == 1:
        yield from _listed(found[1].strip())
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        yield _call(name, body.replace("[TOOL_CALLS]", ""))


def _listed(body: str) -> list[Call]:
    """JSON values one after another, each a call or a list of calls; none where one is neither."""
    decoder, place, calls = json.JSONDecoder(), 0, []
    while place < len(body):
        try:
            value, place = decoder.raw_decode(body, place)
        except (ValueError, RecursionError):
            return []
        for one in _flat(value):
            call = _of_json(one)
            if call is None:
                return []
            calls.append(call)
        place += len(body[place:]) - len(body[place:].lstrip(" \t\r\n;,"))
    return calls


def _flat(value: Any) -> list[Any]:
    if isinstance(value, Mapping) and isinstance(value.get("tool_calls"), list):
        value = value["tool_calls"]
    return value if isinstance(value, list) else [value]


def _of_json(value: Any) -> Call | None:
    if not isinstance(value, Mapping):
        return None
    function = value.get("function", value)
    if isinstance(function, str):  # {"function": "name", "arguments": …}
        function = {**value, "name": function}
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        return None
    keys = [key for key in ("arguments", "parameters", "args", "input") if key in function]
    if not keys and len(function) > 1:
        return None
    return _call(function["name"], function[keys[0]] if keys else {})


def _pythonic(body: str) -> list[Call]:
    try:
        tree = ast.parse(body.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    nodes = tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]
    calls = []
    for node in nodes:
        if not isinstance(node, ast.Call):
            return []
        try:
            given = {part.arg or "": ast.literal_eval(part.value) for part in node.keywords}
            arguments = None if node.args or "" in given else given
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            arguments = None
        calls.append(Call(ast.unparse(node.func), arguments))
    return calls
