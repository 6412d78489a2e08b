"""Reads conversations and tools in the shapes in which data have them: OpenAI's and ShareGPT's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.core.types import Picture

Message = dict[str, Any]
"""One turn: `role` and `content` (texts), and where they are given `tool_calls` (a list of
`{"type": "function", "function": {"name", "arguments"}}`, arguments as an object), `tool_call_id`,
`name` and `reasoning_content`. A turn that shows pictures has `parts` as well: texts and pictures
in their order."""

ReadPicture = Callable[[Any], Picture]
"""From what a part names (a file, a data URL) to the picture. Raises MessagesError."""

ROLES = ("system", "developer", "user", "assistant", "tool")
_SHAREGPT = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "bot", "model"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("function", "ipython"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
    "system": "system",
    "developer": "developer",
}
_ALSO_KEPT = ("tool_call_id", "name", "reasoning_content")


class MessagesError(ValueError):
    """What is given is no conversation, or no list of tools; the message says which part."""


def read_messages(value: Any, picture: ReadPicture | None = None) -> tuple[Message, ...]:
    """The turns of a conversation, from the oldest on.

    `value` is a list of turns, or JSON text of one. A turn is `{"role", "content"}` as OpenAI has
    it, or `{"from", "value"}` as ShareGPT has it, in any mixture; parts of a content that are texts
    are put together. A system turn that is empty or null is none. Keys of other meaning (`weight`,
    `id`) are left out. With `picture` parts may be pictures: `{"type": "image", "image": FILE}`, or
    `image_url` as OpenAI has it. Raises MessagesError.
    """
    turns = _listed(value, "a conversation is a list of turns")
    read = (_turn(turn, number, picture) for number, turn in enumerate(turns, start=1))
    kept = tuple(turn for turn in read if turn is not None)
    if not kept:
        raise MessagesError("the conversation has no turn")
    return kept


def _listed(value: Any, wanted: str) -> Sequence[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise MessagesError(f"{wanted}, and this is a text that is no JSON") from None
    if not isinstance(value, list | tuple):
        raise MessagesError(f"{wanted}, and this is {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", str: "a text", list: "a list", bool: "true or false"}
    return next((said for kind, said in names.items() if isinstance(value, kind)), "a number")


def _turn(turn: Any, number: int, picture: ReadPicture | None) -> Message | None:
    if not isinstance(turn, Mapping):
        raise MessagesError(f"turn {number} is {_kind(turn)}, not an object")
    sharegpt = "from" in turn and "role" not in turn
    named = turn.get("from" if sharegpt else "role")
    role = _SHAREGPT.get(str(named).lower())
    if role is None:
        said = "has no `role` (or `from`)" if named is None else f"has the role {named!r}"
        raise MessagesError(f"turn {number} {said}; known are: {', '.join(ROLES)}, human, gpt")
    content = turn.get("value" if sharegpt and "value" in turn else "content")
    if role == "call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(content, number)}
    parts = _parts(turn, content, number, picture)
    message: Message = {"role": role}
    if parts:
        message["content"] = "".join(part.get("text", "") for part in parts)
        message["parts"] = parts
    else:
        message["content"] = _content(content, number)
    if turn.get("tool_calls"):
        message["tool_calls"] = _calls(turn["tool_calls"], number)
    message |= {key: turn[key] for key in _ALSO_KEPT if turn.get(key) is not None}
    if role == "system" and not message["content"].strip() and not parts:
        return None
    if content is None and role not in ("system", "assistant"):
        raise MessagesError(f"turn {number} ({role}) has no content")
    return message


def _parts(
    turn: Mapping[str, Any], content: Any, number: int, picture: ReadPicture | None
) -> list[dict[str, Any]]:
    """The parts of a turn that shows pictures, in order; none of any other turn."""
    kept = turn.get("parts")
    if isinstance(kept, list) and any(_is_read(part) for part in kept):
        return kept  # read before
    if picture is None or not isinstance(content, list | tuple):
        return []
    if not any(_shows(part) for part in content):
        return []
    found: list[dict[str, Any]] = []
    for part in content:
        if _shows(part):
            source = next((part[key] for key in _PICTURES if key in part), None)
            try:
                found.append({"type": "image", "picture": picture(source)})
            except MessagesError as error:
                raise MessagesError(f"turn {number}: {error}") from None
        else:
            found.append({"type": "text", "text": _part(part, number)})
    return found


_PICTURES = ("image", "image_url", "input_image", "url", "path")
"""Keys of a part that may name a picture."""


def _shows(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("image", "image_url", "input_image")


def _is_read(part: Any) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("picture"), Picture)


def _content(content: Any, number: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise MessagesError(f"the content of turn {number} is {_kind(content)}, not a text")
    return "".join(_part(part, number) for part in content)


def _part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, Mapping) else None
    if not isinstance(text, str):
        kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
        raise MessagesError(f"turn {number} holds a part that is no text: {kind}")
    return text


def _calls(given: Any, number: int) -> list[dict[str, Any]]:
    """Calls of functions, as OpenAI lists them, or one as ShareGPT writes it into a text."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise MessagesError(f"the call of turn {number} is no JSON") from None
    calls = []
    for call in given if isinstance(given, list | tuple) else [given]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise MessagesError(f"a call of turn {number} names no function")
        arguments = _object(function.get("arguments", {}))
        if arguments is None:
            raise MessagesError(f"the arguments of a call of turn {number} are no JSON object")
        made = {"type": "function", "function": {"name": function["name"], "arguments": arguments}}
        calls.append({**({"id": call["id"]} if call.get("id") else {}), **made})
    return calls


def _object(value: Any) -> dict[str, Any] | None:
    """A JSON object, also where it is given as text; None where it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "{}")
        except (ValueError, RecursionError):
            return None
    if value is None:
        return {}
    return dict(value) if isinstance(value, Mapping) else None


def read_tools(value: Any) -> tuple[dict[str, Any], ...]:
    """Tools as OpenAI writes them: `{"type": "function", "function": {"name", "description",
    "parameters"}}`, the parameters a JSON Schema of the type `object`.

    `value` is a list, or JSON text of one; each item may be the function alone, and its parameters
    JSON text, `input_schema`, or of the type `dict` (as BFCL has them). Null is no tool at all.
    Raises MessagesError.
    """
    if value is None:
        return ()
    tools = _listed(value, "tools are a list of functions")
    found = tuple(_tool(tool, number) for number, tool in enumerate(tools, start=1))
    names = [tool["function"]["name"] for tool in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise MessagesError(f"the tool {twice!r} is there twice")
    return found


def _tool(tool: Any, number: int) -> dict[str, Any]:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if isinstance(function, str):
        function = _object(function)
    if not isinstance(function, Mapping):
        raise MessagesError(f"tool {number} is {_kind(tool)}, not a function")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise MessagesError(f"tool {number} has no name")
    given = function.get("parameters", function.get("input_schema"))
    parameters = _object(given)
    if parameters is None:
        raise MessagesError(f"the parameters of the tool {name!r} are no JSON Schema")
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": str(function.get("description") or ""),
            "parameters": _schema(parameters, name),
        },
    }


def _schema(parameters: dict[str, Any], name: str) -> dict[str, Any]:
    if not parameters:
        return {"type": "object", "properties": {}}
    kind = parameters.get("type", "object")
    if kind not in ("object", "dict"):
        raise MessagesError(f"the parameters of the tool {name!r} are of the type {kind!r}")
    properties = parameters.get("properties", {})
    if not isinstance(properties, Mapping) or not all(
        isinstance(one, Mapping | bool) for one in properties.values()
    ):
        raise MessagesError(f"the properties of the tool {name!r} are no schemas")
    required = parameters.get("required") or []
    missing = [one for one in required if one not in properties]
    if missing:
        raise MessagesError(f"the tool {name!r} requires {missing[0]!r}, which it doesn't describe")
    return {**parameters, "type": "object", "properties": dict(properties)}
