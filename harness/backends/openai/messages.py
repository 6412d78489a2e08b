"""Messages as OpenAI's protocol has them: what is asked, and what a chat answer says."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.core.types import Picture, PromptOptions

_SHOWN = "sha256:"
"""Stands, with the digest, for a picture until the request is sent."""


def asked(messages: Sequence[Mapping[str, Any]], options: PromptOptions) -> Any:
    """What a server whose template is its own is asked: the messages, or the keys of a request that
    say more than these, or a text.
    """
    if options.raw:
        return "\n".join(turn["content"] for turn in messages) + options.prefill
    turns = [_as_sent(turn) for turn in messages]
    more: dict[str, Any] = {}
    if options.tools:
        more["tools"] = [dict(tool) for tool in options.tools]
    told = {**options.template, **({"date_string": options.now} if options.now else {})}
    if told:
        more["chat_template_kwargs"] = told
    if options.prefill:
        turns.append({"role": "assistant", "content": options.prefill})
        more |= {"continue_final_message": True, "add_generation_prompt": False}
    return {"messages": turns, **more} if more else turns


def _as_sent(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn as the protocol has it: there the arguments of a call are text."""
    sent = {key: value for key, value in turn.items() if key != "parts"}
    if turn.get("parts"):
        sent["content"] = [
            {"type": "image_url", "image_url": {"url": f"{_SHOWN}{part['sha256']}"}}
            if part["type"] == "image"
            else part
            for part in turn["parts"]
        ]
    if turn.get("tool_calls"):
        sent["tool_calls"] = [
            {
                "id": f"call_{number}",
                **call,
                "function": {
                    **call["function"],
                    "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                },
            }
            for number, call in enumerate(turn["tool_calls"])
        ]
    return sent


def with_pictures(turns: Sequence[Mapping[str, Any]], pictures: Sequence[Picture]) -> list[Any]:
    """The turns of a request with the bytes of their pictures, as data URLs. Raises ValueError and
    OSError where a picture can't be read any more.
    """
    urls = {
        f"{_SHOWN}{one.sha256}": f"data:{one.kind};base64,{base64.b64encode(one.read()).decode()}"
        for one in pictures
    }

    def shown(part: Mapping[str, Any]) -> Mapping[str, Any]:
        if part["type"] != "image_url":
            return part
        return {**part, "image_url": {"url": urls[part["image_url"]["url"]]}}

    return [
        {**turn, "content": [shown(part) for part in turn["content"]]}
        if isinstance(turn.get("content"), list)
        else turn
        for turn in turns
    ]


def said(choice: Mapping[str, Any]) -> Any:
    """What a chat answer says to its reader; calls of tools are written as most models write them.

    A model that thought until its tokens were used up said nothing: servers write null for that,
    and it is an empty answer, to be scored as one.
    """
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return None
    text = message.get("content")
    if calls := message.get("tool_calls"):
        return "\n".join([*([text] if isinstance(text, str) and text else []), *_calls(calls)])
    if text is None and choice.get("finish_reason") in ("length", "stop", "tool_calls"):
        refusal = message.get("refusal")
        return refusal if isinstance(refusal, str) else ""
    return text


def _calls(calls: Any) -> list[str]:
    """Each call as `<tool_call>{"name": …, "arguments": …}</tool_call>`; what can't be read as it
    came.
    """
    found = []
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            continue
        arguments = function.get("arguments")
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            arguments = json.loads(arguments or "{}")
        made = {"name": function.get("name"), "arguments": arguments}
        found.append(f"<tool_call>{json.dumps(made, ensure_ascii=False)}</tool_call>")
    return found
