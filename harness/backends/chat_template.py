"""Renders a tokenizer's chat template, on one fixed day: the same messages read the same tomorrow.

Templates that write a date (Llama 3, gpt-oss and others do) would ask another question each day.
They write `TODAY` instead, in scoring and in training alike; the subject of such a model says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.core.types import PromptOptions

TODAY = datetime(2026, 1, 1)
"""The moment that every chat template writes as now."""

_CLOCK = "strftime_now"
_PROBE = ({"role": "user", "content": "Which day?"},)

# What transformers gives to templates under this name asks the clock. A macro of that name, written
# before the template, takes its place: the template is given as text, and nothing is patched.
_MACRO = (
    "{% macro strftime_now(format) %}{% set said = namespace(text=format) %}"
    "{% for code, text in ratchet_now.items() %}"
    "{% set said.text = said.text | replace(code, text) %}"
    "{% endfor %}{{ said.text }}{% endmacro %}{{ '' }}"
)
# Longer codes first: `%-d` holds no `%d`, but a `%%` must not become the beginning of a code.
_CODES = (
    *("%-d", "%-m", "%-H", "%-I", "%-M", "%-S", "%-j", "%-y"),
    *("%a", "%A", "%w", "%u", "%d", "%e", "%b", "%h", "%B", "%m", "%y", "%Y", "%C", "%G", "%V"),
    *("%H", "%I", "%p", "%M", "%S", "%f", "%z", "%Z", "%j", "%U", "%W", "%c", "%x", "%X", "%D"),
    *("%F", "%T", "%R", "%r", "%n", "%t", "%s"),
)


def render(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    *,
    now: datetime = TODAY,
    **options: Any,
) -> str:
    """The messages as the tokenizer's chat template writes them at the moment `now`.

    `options` are those of `apply_chat_template`. Raises what the template, a program of the model's
    own, raises.
    """
    turns = turns_of(messages)
    if _CLOCK in str(tokenizer.chat_template or ""):
        options = {
            **options,
            "chat_template": _at_a_fixed_time(str(tokenizer.get_chat_template())),
            "ratchet_now": _spelled(now),
        }
    return str(tokenizer.apply_chat_template(turns, tokenize=False, **options))


def turns_of(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as a chat template takes them. Where one shows a picture, the content of each is
    a list of parts, as templates of models of images and text want it.
    """
    if not any("parts" in message for message in messages):
        return [dict(message) for message in messages]
    turns = []
    for message in messages:
        turn = {key: value for key, value in message.items() if key != "parts"}
        parts = message.get("parts", [{"type": "text", "text": message["content"]}])
        turn["content"] = [{"type": "image"} if part["type"] == "image" else part for part in parts]
        turns.append(turn)
    return turns


def _blind(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same messages without their pictures."""
    return [
        {**turn, "parts": [part for part in turn["parts"] if part["type"] != "image"]}
        if "parts" in turn
        else dict(turn)
        for turn in messages
    ]


def prompt(tokenizer: Any, messages: Sequence[Mapping[str, Any]], options: PromptOptions) -> str:
    """The messages up to where the assistant answers, under a sample's options. Raises ValueError
    where tools are offered to a template that writes nothing of them.
    """
    now = TODAY if options.now is None else datetime.fromisoformat(options.now)
    told: dict[str, Any] = {"now": now, "add_generation_prompt": True, **options.template}
    if any("parts" in message for message in messages):
        seen = render(tokenizer, messages, **told)
        if seen == render(tokenizer, _blind(messages), **told):
            raise ValueError("it writes nothing of the pictures that the suite shows")
    if not options.tools:
        return render(tokenizer, messages, **told)
    text = render(tokenizer, messages, tools=[dict(tool) for tool in options.tools], **told)
    if text == render(tokenizer, messages, **told):
        raise ValueError("it writes nothing of the tools that the suite offers")
    return text


def place_of(tokenizer: Any, error: Exception | None = None) -> tuple[Path | None, int | None]:
    """The file that holds a tokenizer's chat template, and the line of it where `error` was raised;
    None for what is not known.
    """
    folder = Path(str(getattr(tokenizer, "name_or_path", "") or ""))
    own, config = folder / "chat_template.jinja", folder / "tokenizer_config.json"
    if not own.is_file():
        return (config if config.is_file() else None), None
    line = getattr(error, "lineno", None)
    trace = None if error is None else error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return own, line


def writes_date(tokenizer: Any) -> bool:
    """Whether the template writes when it is."""
    if _CLOCK not in str(tokenizer.chat_template or ""):
        return False
    try:
        days = {render(tokenizer, _PROBE, now=day) for day in (TODAY, datetime(2027, 12, 31, 23))}
    except Exception:  # noqa: BLE001  a template that wants other turns
        return True
    return len(days) > 1


def _at_a_fixed_time(template: str) -> str:
    """The template with the macro before it, where it changes no white space of its own."""
    begins = template.lstrip()
    if begins.startswith(("{%-", "{#-")):
        return _MACRO + begins
    if begins.startswith(("{%", "{#")):
        space = template[: len(template) - len(begins)]
        return space.rpartition("\n")[0] + "\n" * ("\n" in space) + _MACRO + begins
    return _MACRO + template


def _spelled(now: datetime) -> dict[str, str]:
    """What each code of strftime becomes."""
    return {"%%": "\0", **{code: now.strftime(code) for code in _CODES}, "\0": "%"}
