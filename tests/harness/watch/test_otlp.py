"""GenAI spans as OpenTelemetry sends them, in JSON and protobuf."""

import json
from datetime import UTC, datetime

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from harness.watch.intake import otlp
from harness.watch.intake.observation import Refused

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
START = int(NOW.timestamp()) * 10**9
MESSAGES = [
    {"role": "system", "parts": [{"type": "text", "content": "Be kind."}]},
    {"role": "user", "parts": [{"type": "text", "content": "Where is my order?"}]},
]
ANSWER = [{"role": "assistant", "parts": [{"type": "text", "content": "On its way."}]}]
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "support-bot",
    "gen_ai.conversation.id": "c1",
    "gen_ai.usage.input_tokens": 12,
    "gen_ai.usage.output_tokens": 5,
    "gen_ai.response.time_to_first_chunk": 0.25,
    "gen_ai.input.messages": json.dumps(MESSAGES),
    "gen_ai.output.messages": json.dumps(ANSWER),
    "ratchet.stars": 4,
    "http.url": "not ours",
}


def request(*spans, resource=None):
    message = ExportTraceServiceRequest()
    holder = message.resource_spans.add()
    put(holder.resource.attributes, resource or {"ratchet.line": "bot"})
    scope = holder.scope_spans.add()
    for number, attributes in enumerate(spans, start=1):
        span = scope.spans.add(
            trace_id=b"\x01" * 16,
            span_id=number.to_bytes(8),
            start_time_unix_nano=START,
            end_time_unix_nano=START + 1_500_000_000,
        )
        put(span.attributes, attributes)
    return message


def put(attributes, values):
    for name, value in values.items():
        held = attributes.add(key=name).value
        match value:
            case str():
                held.string_value = value
            case int():
                held.int_value = value
            case float():
                held.double_value = value


def as_json(message):
    """As an SDK writes it: ids in hexadecimal, 64-bit numbers as text."""
    sent = MessageToDict(message)
    for holder in sent["resourceSpans"]:
        for scope in holder["scopeSpans"]:
            for number, span in enumerate(scope["spans"], start=1):
                span |= {"traceId": "01" * 16, "spanId": f"{number:016x}"}
    return sent


def both(message):
    return (
        list(otlp.from_protobuf(message.SerializeToString())),
        list(otlp.from_json(json.loads(json.dumps(as_json(message))))),
    )


def seen(span, line=None):
    return otlp.read_span(span, now=NOW, line=line, source="otlp")


def test_a_chat_span_is_an_observation_in_both_encodings():
    from_protobuf, from_json = both(request(CHAT))
    assert from_protobuf == from_json
    found = seen(from_json[0])
    assert found.observation_id == f"{'01' * 16}-{1:016x}"
    assert (found.line, found.conversation_id, found.stars) == ("bot", "c1", 4.0)
    assert (found.prompt, found.response) == ("Where is my order?", "On its way.")
    assert (found.latency_s, found.first_token_s) == (1.5, 0.25)
    assert (found.input_tokens, found.output_tokens) == (12, 5)
    assert found.observed_at == NOW
    assert found.detail["gen_ai.request.model"] == "support-bot"
    assert found.detail["messages"] == MESSAGES
    assert "http.url" not in found.detail


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "hi",
         "gen_ai.completion.0.content": "hello"},
        {"gen_ai.prompt": "hi", "gen_ai.completion": "hello"},
        {"gen_ai.request.model": "m", "input.value": "hi", "output.value": "hello"},
        {"gen_ai.input.messages": json.dumps([{"role": "user", "content": "hi"}]),
         "gen_ai.output.messages": json.dumps([{"content": [{"type": "text", "text": "hello"}]}])},
    ],
)  # fmt: skip
def test_older_names_are_read_too(attributes):
    for spans in both(request(attributes)):
        found = seen(spans[0])
        assert (found.prompt, found.response) == ("hi", "hello")


def test_content_in_events_and_errors_in_the_status():
    message = request({"gen_ai.operation.name": "chat", "error.type": "timeout"})
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.status.code = 2
    put(span.events.add(name="gen_ai.user.message").attributes, {"content": "hi"})
    put(span.events.add(name="gen_ai.choice").attributes, {"message": "hello"})
    for spans in both(message):
        found = seen(spans[0])
        assert (found.prompt, found.response, found.error) == ("hi", "hello", "timeout")


def test_spans_of_other_kinds_are_ignored():
    message = request(
        {"http.url": "/"}, {"gen_ai.operation.name": "embeddings"}, {"gen_ai.system": "vllm"}
    )
    for spans in both(message):
        assert [span.answers for span in spans] == [False, False, True]


def test_a_bad_span_is_refused_by_itself():
    sent = as_json(request(CHAT, CHAT, CHAT, CHAT))
    spans = sent["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans[0]["startTimeUnixNano"] = "soon"
    spans[1] = "span"
    spans[2] |= {"spanId": ""}
    found = list(otlp.from_json(sent))
    assert [isinstance(item, Refused) for item in found] == [True, True, False, False]
    with pytest.raises(Refused, match="span id"):
        seen(found[2])
    assert seen(found[3]).response == "On its way."
    late = request(CHAT)
    late.resource_spans[0].scope_spans[0].spans[0].end_time_unix_nano = START - 1
    for (span,) in both(late):
        with pytest.raises(Refused, match="before it began"):
            seen(span)


@pytest.mark.parametrize(
    "body", [[], "x", {"resourceSpans": 1}, {"resourceSpans": [{"scopeSpans": 2}]}]
)
def test_what_is_no_export_is_refused_whole(body):
    with pytest.raises(Refused):
        list(otlp.from_json(body))


def test_bytes_that_are_no_protobuf_are_refused_and_nothing_is_nothing():
    with pytest.raises(Refused):
        list(otlp.from_protobuf(b"\xff\xff\xff"))
    assert list(otlp.from_protobuf(b"")) == []
    assert list(otlp.from_json({})) == []


def test_the_answer_is_the_protocols():
    response = ExportTraceServiceResponse.FromString(otlp.answer(3, "why", as_json=False))
    assert response.partial_success.rejected_spans == 3
    assert response.partial_success.error_message == "why"
    assert otlp.answer(0, "", as_json=False) == b""
    assert json.loads(otlp.answer(2, "why", as_json=True)) == {
        "partialSuccess": {"rejectedSpans": "2", "errorMessage": "why"}
    }
    assert json.loads(otlp.answer(0, "", as_json=True)) == {}


def test_a_failure_is_a_status():
    from google.rpc.status_pb2 import Status

    for message in ("short", "ä" * 200):
        status = Status.FromString(otlp.failure(message, as_json=False))
        assert (status.code, status.message) == (3, message)
