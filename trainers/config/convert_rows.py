"""The templates of a source for the shapes in which other trainers have their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Columns = Mapping[str, str | None]
"""What a row's parts are called there: `prompt`, `query`, `response`, `messages` ..."""

SYSTEM = "system"


def alpaca(columns: Columns, *, kind: str, system: str | None = None) -> dict[str, Any]:
    """Instruction, input and output, with a history where there is one. `kind` is the trainer."""
    prompt, query = columns.get("prompt") or "instruction", columns.get("query")
    if kind == "text":
        return {"text": _field(prompt)}
    user = _field(prompt)
    if query:
        user += f"{{% if {query} is defined and {query} %}}\n{{{{ {query} }}}}{{% endif %}}"
    said = columns.get("response") or "output"
    if columns.get("history") and kind == "sft":
        return {"messages": _with_history(columns, prompt, query, said), "learn": "all"}
    asked: dict[str, Any] = {}
    if columns.get(SYSTEM):
        asked[SYSTEM] = _field(str(columns[SYSTEM]))
    elif system:
        asked[SYSTEM] = system
    source: dict[str, Any] = {"prompt": {**asked, "user": user}}
    if kind in ("dpo", "reward"):
        chosen, rejected = columns.get("chosen") or "chosen", columns.get("rejected") or "rejected"
        return {**source, "chosen": _field(chosen), "rejected": _field(rejected)}
    if kind in ("ppo", "grpo", "rloo"):
        return source
    label = {"label": _field(str(columns.get("kto_tag") or "kto_tag"))} if kind == "kto" else {}
    return {**source, "completion": _field(said), **label}


def _with_history(columns: Columns, prompt: str, query: str | None, said: str) -> str:
    asked = f"{prompt} + ('\\n' + {query} if {query} else '')" if query else prompt
    begin = _system_turn(columns.get(SYSTEM))
    return f"{{{{ {begin}({columns['history']} or []) + [[{asked}, {said}]] }}}}"


def chat(
    columns: Columns, *, kind: str, learn: str = "all", tools: str | None = None
) -> dict[str, Any]:
    """Conversations as lists of turns, of OpenAI's shape or ShareGPT's."""
    messages = columns.get("messages") or "messages"
    whole = f"{{{{ {_system_turn(columns.get(SYSTEM))}{messages} }}}}"
    source: dict[str, Any] = {"messages": whole}
    if tools:
        source["tools"] = _field(tools)
    if kind in ("dpo", "reward"):
        for part in ("chosen", "rejected"):
            name = columns.get(part) or part
            source[part] = f"{{{{ [{name}] if {name} is mapping else {name} }}}}"
        return source
    if kind == "kto":
        return {**source, "label": _field(str(columns.get("kto_tag") or "label"))}
    if kind in ("ppo", "grpo", "rloo"):
        return source
    return {**source, "learn": learn}


def by_its_fields(
    row: Mapping[str, Any], *, kind: str, system: str | None = None
) -> dict[str, Any]:
    """The templates for a row whose shape its fields tell; empty where they tell none."""
    named = next((n for n in ("messages", "conversations", "conversation") if n in row), None)
    if kind in ("dpo", "reward") and named and "rejected_messages" in row:
        return {"chosen": _field(named), "rejected": "{{ rejected_messages }}"}
    if kind in ("dpo", "reward") and named and "rejected_response" in row:
        return {
            "messages": f"{{{{ {named}[:-1] }}}}",
            "chosen": f"{{{{ [{named}[-1]] }}}}",
            "rejected": "{{ [{'role': 'assistant', 'content': rejected_response}] }}",
        }
    if kind in ("dpo", "reward") and isinstance(row.get("chosen"), list):
        return {"chosen": "{{ chosen }}", "rejected": "{{ rejected }}"}
    if named:
        columns = {"messages": named, SYSTEM: SYSTEM if SYSTEM in row else None, "kto_tag": "label"}
        return chat(columns, kind=kind, tools="tools" if row.get("tools") else None)
    if kind == "text" or ("text" in row and len(row) == 1):
        return {"text": "{{ text }}"} if "text" in row else {}
    prompt = next((n for n in ("instruction", "query", "prompt", "question") if n in row), None)
    said = next((n for n in ("output", "response", "completion", "answer") if n in row), None)
    if prompt is None or (said is None and kind not in ("ppo", "grpo", "rloo", "dpo", "reward")):
        return {}
    columns = {
        "prompt": prompt,
        "query": "input" if "input" in row else None,
        "response": said,
        "history": "history" if row.get("history") else None,
        SYSTEM: SYSTEM if SYSTEM in row else None,
        "kto_tag": next((n for n in ("kto_tag", "label") if n in row), None),
    }
    return alpaca(columns, kind=kind, system=system)


def _system_turn(name: str | None) -> str:
    return f"[{{'role': 'system', 'content': {name}}}] + " if name else ""


def _field(name: str) -> str:
    plain = name.isidentifier()
    return f"{{{{ {name} }}}}" if plain else name
