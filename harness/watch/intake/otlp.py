"""OpenTelemetry's GenAI spans as observations: OTLP/HTTP, in JSON or protobuf.

The names are those of the semantic conventions for generative AI, with the older ones that
vLLM, OpenLLMetry and OpenInference still write. What they have no name for (line, model digest,
feedback, outcome) is read from attributes `ratchet.*` of the span or its resource.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from harness.watch.intake.observation import Observation, Refused, read

OURS = "ratchet."
INFERENCE = (None, "chat", "text_completion", "generate_content")
"""Operations in which a model answers. Spans of embeddings, tools and agents are ignored."""

_OF_THE_FORM = (
    "line", "model_digest", "conversation_id", "retry_of", "about", "stars", "thumb", "comment",
    "outcome", "corrected_text",
)  # fmt: skip
_WHICH = {
    "conversation_id": ("gen_ai.conversation.id", "session.id"),
    "first_token_s": ("gen_ai.response.time_to_first_chunk", "gen_ai.latency.time_to_first_token"),
    "input_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    "output_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
}
_FEEDBACK = frozenset(
    OURS + name for name in ("stars", "thumb", "comment", "outcome", "corrected_text")
)
_CONTENT = (
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions",
    "gen_ai.prompt", "gen_ai.completion", "gen_ai.tool.", "llm.prompts", "llm.completions",
)  # fmt: skip
_ERROR = 2


@dataclass(frozen=True, slots=True)
class Span:
    """What is read of a span. Its attributes include its resource's, its own going first."""

    trace_id: str
    span_id: str
    start_ns: int
    end_ns: int
    failed: bool = False
    message: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def answers(self) -> bool:
        """Whether the span is of a model's answer or of feedback; any other is ignored."""
        named = any(name.startswith("gen_ai.") or name in _FEEDBACK for name in self.attributes)
        return named and self.attributes.get("gen_ai.operation.name") in INFERENCE


def from_json(body: Any) -> Iterator[Span | Refused]:
    """The spans of an ExportTraceServiceRequest as JSON; a Refused in the place of a bad one.

    Raises Refused where the body as a whole is not such a request.
    """
    if not isinstance(body, Mapping):
        raise Refused("an export request is a JSON object")
    for resource_spans in _list(body, "resourceSpans"):
        resource = _attributes(_mapping(resource_spans, "resource"))
        for scope_spans in _list(resource_spans, "scopeSpans"):
            for span in _list(scope_spans, "spans"):
                try:
                    yield _json_span(span, resource)
                except Refused as refusal:
                    yield refusal
                except (TypeError, ValueError, AttributeError, RecursionError):
                    yield Refused("not the form of a span", "span")


def from_protobuf(body: bytes) -> Iterator[Span | Refused]:
    """The same from protobuf. Raises Refused where the bytes can't be decoded."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise Refused("not an ExportTraceServiceRequest in protobuf") from None
    for resource_spans in request.resource_spans:
        resource = {a.key: _plain(a.value) for a in resource_spans.resource.attributes}
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                own = {a.key: _plain(a.value) for a in span.attributes}
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == _ERROR,
                    span.status.message,
                    resource | own,
                    tuple(
                        (e.name, {a.key: _plain(a.value) for a in e.attributes})
                        for e in span.events
                    ),
                )


def read_span(span: Span, *, now: datetime, line: str | None, source: str) -> Observation:
    """The observation that a span records. Raises Refused for missing ids or impossible times."""
    if len(span.trace_id) != 32 or len(span.span_id) != 16 or not span.trace_id.strip("0"):
        raise Refused("the span has no trace and span id", "spanId")
    if not 0 < span.start_ns <= span.end_ns:
        raise Refused("the span's times are missing, or it ends before it began", "endTimeUnixNano")
    attributes = span.attributes
    sent: dict[str, Any] = {
        # A span that an exporter sends again has the same id, and counts once.
        "observation_id": f"{span.trace_id}-{span.span_id}",
        "latency_s": (span.end_ns - span.start_ns) / 1e9,
        # Held within the calendar, whose end raises; `read` refuses what is far ahead.
        "observed_at": datetime.fromtimestamp(min(span.start_ns / 1e9, 2e11), UTC),
    }
    for name, keys in _WHICH.items():
        sent[name] = next((attributes[key] for key in keys if key in attributes), None)
    for name in _OF_THE_FORM:
        if (value := attributes.get(OURS + name)) is not None:
            sent[name] = value
    error = attributes.get("error.type")
    if span.failed or error:
        sent["error"] = str(error or span.message or "error")[:1000]
    sent["prompt"], sent["response"], messages = _texts(span)
    sent["detail"] = _detail(attributes, messages)
    return read(sent, now=now, line=line, source=source)


def answer(rejected: int, message: str, *, as_json: bool) -> bytes:
    """The ExportTraceServiceResponse: all taken in, or a partial success and why."""
    if as_json:
        partial = {"rejectedSpans": str(rejected), "errorMessage": message}
        return json.dumps({"partialSuccess": partial} if rejected else {}).encode()
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = message
    return bytes(response.SerializeToString())


def failure(message: str, *, as_json: bool) -> bytes:
    """The google.rpc.Status that OTLP asks for where a whole request is refused."""
    if as_json:
        return json.dumps({"code": 3, "message": message}).encode()
    text = message.encode()[:1000]
    # Field 2 of google.rpc.Status, a string; its own package has nothing else that is needed.
    return b"\x08\x03\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


# Texts.


def _texts(span: Span) -> tuple[str | None, str | None, list[Any] | None]:
    """The last question, the first answer, and all messages where there are several."""
    found: dict[str, Any] = {}
    for name, event in span.events:
        found |= event
        if name == "gen_ai.user.message":
            found["gen_ai.prompt"] = event.get("content")
        elif name == "gen_ai.choice":
            found["gen_ai.completion"] = event.get("message") or event.get("content")
    found |= span.attributes
    asked = _messages(found.get("gen_ai.input.messages")) or _numbered(found, "gen_ai.prompt.")
    answered = _messages(found.get("gen_ai.output.messages"))
    answered = answered or _numbered(found, "gen_ai.completion.")
    prompt = next((_said(m) for m in reversed(asked) if m.get("role", "user") == "user"), None)
    response = next((_said(message) for message in answered), None)
    prompt = prompt or _text(found.get("gen_ai.prompt")) or _text(found.get("input.value"))
    response = response or _text(found.get("gen_ai.completion")) or _text(found.get("output.value"))
    return prompt, response, asked if len(asked) > 1 else None


def _messages(value: Any) -> list[Mapping[str, Any]]:
    """Messages as the conventions have them, as a value or as JSON text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [{"role": "user", "content": value}]
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def _numbered(found: Mapping[str, Any], prefix: str) -> list[Mapping[str, Any]]:
    """Messages as OpenLLMetry has them: prefix0.role, prefix0.content, prefix1.role, ..."""
    messages: list[Mapping[str, Any]] = []
    while f"{prefix}{len(messages)}.content" in found:
        place = f"{prefix}{len(messages)}."
        role = found.get(f"{place}role", "user")
        messages.append({"role": role, "content": found[f"{place}content"]})
    return messages


def _said(message: Mapping[str, Any]) -> str | None:
    parts = message.get("parts", message.get("content"))
    if isinstance(parts, str):
        return parts
    if not isinstance(parts, list):
        return None
    texts = [
        text
        for part in parts
        if isinstance(part, Mapping) and part.get("type", "text") == "text"
        and isinstance(text := part.get("content", part.get("text")), str)
    ]  # fmt: skip
    return "\n".join(texts) or None


def _text(value: Any) -> str | None:
    if isinstance(value, Mapping):
        return _said(value)
    return value if isinstance(value, str) and value else None


def _detail(attributes: Mapping[str, Any], messages: list[Any] | None) -> dict[str, Any]:
    """The request's settings (`gen_ai.*` but its texts), and its messages if there are several."""
    used = {key for keys in _WHICH.values() for key in keys}
    detail = {
        name: value
        for name, value in attributes.items()
        if name.startswith("gen_ai.") and name not in used and not name.startswith(_CONTENT)
    }
    if messages:
        detail["messages"] = messages
    return detail


# JSON.


def _json_span(span: Any, resource: Mapping[str, Any]) -> Span:
    if not isinstance(span, Mapping):
        raise Refused("a span is a JSON object", "span")
    status = _mapping(span, "status")
    return Span(
        str(span.get("traceId", "")).lower(),
        str(span.get("spanId", "")).lower(),
        int(span.get("startTimeUnixNano", 0)),
        int(span.get("endTimeUnixNano", 0)),
        status.get("code") in (_ERROR, str(_ERROR), "STATUS_CODE_ERROR"),
        str(status.get("message", "")),
        {**resource, **_attributes(span)},
        tuple(
            (str(_mapping_of(event).get("name", "")), _attributes(_mapping_of(event)))
            for event in _list(span, "events")
        ),
    )


def _attributes(holder: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(item.get("key")): _plain_json(item.get("value")) for item in _list(holder, "attributes")
    }


def _plain_json(value: Any) -> Any:
    """An AnyValue in JSON as a plain value. 64-bit numbers travel as text."""
    if not isinstance(value, Mapping) or not value:
        return None
    ((kind, held), *_) = value.items()
    match kind:
        case "intValue":
            return int(held)
        case "doubleValue":
            return float(held)
        case "arrayValue":
            return [_plain_json(item) for item in _list(held, "values")]
        case "kvlistValue":
            return {str(i.get("key")): _plain_json(i.get("value")) for i in _list(held, "values")}
    return held


def _plain(value: Any) -> Any:
    """An AnyValue in protobuf as a plain value."""
    match value.WhichOneof("value"):
        case None:
            return None
        case "array_value":
            return [_plain(item) for item in value.array_value.values]
        case "kvlist_value":
            return {item.key: _plain(item.value) for item in value.kvlist_value.values}
        case "bytes_value":
            return value.bytes_value.hex()
        case kind:
            return getattr(value, kind)


def _list(holder: Any, name: str) -> list[Any]:
    found = _mapping_of(holder).get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Refused(f"{name} is a list", name)
    return found


def _mapping(holder: Any, name: str) -> Mapping[str, Any]:
    return _mapping_of(_mapping_of(holder).get(name) or {})


def _mapping_of(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Refused(f"an object is wanted, not {value!r:.40}", "span")
    return value
