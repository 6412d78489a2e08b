"""The receiver over a real socket: what it acknowledges is there, whatever happens to it."""

import contextlib
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import count

import pytest

from harness.core.workspace import Workspace
from harness.store.store import Store

TOKEN = "a-token-that-is-long-enough"
OTHER = "another-token-for-rotation"
NUMBER = count()


class Served:
    """A receiver in a process of its own."""

    def __init__(self, home, *options):
        self.home = home
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness", "watch", "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "RATCHET_HOME": str(home),
                 "RATCHET_WATCH_TOKENS": f"{TOKEN},{OTHER}"},
        )  # fmt: skip
        first = self.process.stdout.readline()
        self.port = int(re.search(r":(\d+)/", first)[1])

    def post(self, body, path="/v1/observations", token=TOKEN, **headers):
        """Status, headers and JSON of the answer."""
        names = {"content-type": "application/json"}
        if token is not None:
            names["authorization"] = f"Bearer {token}"
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            connection.request("POST", path, data, names)
            answer = connection.getresponse()
            content = answer.read()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, answer.headers, json.loads(content) if is_json else content

    def counters(self):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port)) as connection:
            connection.request("GET", "/counters", headers={"authorization": f"Bearer {TOKEN}"})
            return json.loads(connection.getresponse().read())

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        said = self.process.communicate(timeout=30)[0]
        return self.process.returncode, said


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = Served(tmp_path_factory.mktemp("receiver") / "home", "--line", "bot")
    yield server
    server.process.kill()
    server.process.wait()


def one(**more):
    return {"observation_id": f"o{next(NUMBER)}", "line": "bot", "response": "fine", **more}


def kept(home):
    with Store(Workspace.at(home)) as store:
        return {r["observation_id"] for r in store.query("SELECT observation_id FROM observations")}


def test_one_a_batch_and_lines(served):
    sent = one()
    assert served.post(sent)[2] == {"accepted": 1, "duplicates": 0, "refused": 0, "reasons": []}
    assert served.post(sent)[2]["duplicates"] == 1
    status, _, said = served.post([one(), one(latency_s="x"), one()], token=OTHER)
    assert (status, said["accepted"], said["refused"]) == (200, 2, 1)
    assert said["reasons"] == [
        {"index": 1, "field": "latency_s", "what": "latency_s takes a number, not text"}
    ]
    text = f"{json.dumps(one())}\n\nbroken\n{json.dumps(one())}\n".encode()
    status, _, said = served.post(text, content_type="application/x-ndjson")
    assert (status, said["accepted"], said["refused"]) == (200, 2, 1)
    packed = gzip.compress(json.dumps(one()).encode())
    assert served.post(packed, content_encoding="gzip")[2]["accepted"] == 1


def test_a_bad_one_alone_is_422_and_its_reason(served):
    status, _, said = served.post(one(stars=9))
    assert status == 422
    assert said["reasons"][0]["field"] == "stars"


def test_nan_and_lone_surrogates_are_refused_one_by_one(served):
    text = b'[{"observation_id":"n1","latency_s":NaN},{"observation_id":"n2","response":"\\ud800"},'
    text += json.dumps(one()).encode() + b"]"
    _, _, said = served.post(text)
    assert (said["accepted"], said["refused"]) == (1, 2)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b"\xff", {}, 400),
        (b"{}", {"content_type": "text/plain"}, 415),
        (b"{}", {"content_encoding": "br"}, 415),
        (b"{}", {"content_encoding": "gzip"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-4], {"content_encoding": "gzip"}, 400),
        (gzip.compress(b" " * 50_000_000, mtime=0), {"content_encoding": "gzip"}, 413),
        (b" " * 10_000_000, {}, 413),
    ],
)
def test_a_bad_request_is_refused_whole(served, body, headers, status):
    assert served.post(body, **headers)[0] == status
    assert served.post(one())[0] == 200


def test_ten_megabytes_are_refused_before_they_are_sent(served):
    head = (
        f"POST /v1/observations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
        "content-type: application/json\r\ncontent-length: 10000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096).splitlines()[0]


def test_a_body_without_a_length_is_refused_where_it_becomes_too_much(served):
    def chunks():
        for _ in range(160):
            yield b" " * 65536

    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as connection:
        names = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
        connection.request("POST", "/v1/observations", chunks(), names, encode_chunked=True)
        assert connection.getresponse().status == 413


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "\u00e9" * 20])
def test_a_wrong_token_opens_nothing(served, token):
    before = served.counters()["requests_turned_away"].get("401", 0)
    for path in ("/v1/observations", "/v1/traces"):
        status, headers, _ = served.post(one(), path=path, token=token)
        assert status == 401
        assert headers["www-authenticate"] == "Bearer"
    assert served.counters()["requests_turned_away"]["401"] == before + 2


def test_health_needs_no_token_and_the_counters_do(served):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as connection:
        connection.request("GET", "/healthz")
        assert json.loads(connection.getresponse().read()) == {"status": "ok"}
        connection.request("GET", "/counters")
        assert connection.getresponse().status == 401
    served.post([one(comment="mail a@b.com"), one(stars=0)])
    counters = served.counters()
    assert counters["masked"] >= 1
    assert counters["refused_by_field"]["stars"] >= 1
    assert counters["bytes_in_flight"] >= 0


def span(number, **attributes):
    return {
        "traceId": "0f" * 16,
        "spanId": f"{number:016x}",
        "startTimeUnixNano": str(time.time_ns() - 10**9),
        "endTimeUnixNano": str(time.time_ns()),
        "attributes": [
            {"key": key.replace("__", "."), "value": {"stringValue": value}}
            for key, value in attributes.items()
        ],
    }


def test_spans_of_which_some_are_refused_are_a_partial_success(served):
    chat = {"gen_ai__operation__name": "chat", "gen_ai__completion": "fine"}
    spans = [span(1, **chat), span(2, http__url="/"), span(0xA, **chat) | {"spanId": "x"}]
    status, _, said = served.post(
        {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}, path="/v1/traces"
    )
    assert status == 200
    assert said["partialSuccess"]["rejectedSpans"] == "1"
    assert "span id" in said["partialSuccess"]["errorMessage"]


def test_a_real_exporter_is_understood(served):
    """OpenTelemetry's own exporter, in protobuf and gzip."""
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExportResult

    exporter = OTLPSpanExporter(
        endpoint=f"http://127.0.0.1:{served.port}/v1/traces",
        headers={"authorization": f"Bearer {TOKEN}"},
        compression=Compression.Gzip,
    )
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("chat") as chat:
        chat.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.completion": "fine"})
    before = served.counters()["accepted"]
    assert exporter.export([chat]) is SpanExportResult.SUCCESS
    assert served.counters()["accepted"] == before + 1


def test_overload_is_429_with_a_time_to_come_back_and_passes(tmp_path):
    """Bodies that never end use up the budget; the next sender gets 429."""
    server = Served(tmp_path / "home", "--in-flight", "0.1")
    slow = []
    try:
        head = (
            f"POST /v1/observations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
            "content-type: application/json\r\ncontent-length: 60000\r\n\r\n"
        )
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        connection.sendall(head.encode() + b" ")
        slow.append(connection)
        wait_for(lambda: server.counters()["bytes_in_flight"] > 60_000)
        status, headers, _ = server.post(b" " * 60_000)
        assert (status, headers["retry-after"]) == (429, "1")
        connection.close()
        wait_for(lambda: server.counters()["bytes_in_flight"] == 0)
        assert server.post(one())[0] == 200
        assert server.counters()["requests_turned_away"]["429"] == 1
    finally:
        server.process.kill()
        server.process.wait()
        for connection in slow:
            connection.close()


def load(server, stop, acknowledged):
    """One sender, which notes the observations that were acknowledged."""
    names = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.suppress(OSError, http.client.HTTPException):
        while not stop.is_set():
            sent = [one() for _ in range(5)]
            connection.request("POST", "/v1/observations", json.dumps(sent), names)
            answer = connection.getresponse()
            said = json.loads(answer.read())
            if answer.status == 200:
                assert said["accepted"] == 5
                acknowledged.extend(item["observation_id"] for item in sent)


def test_it_ends_also_when_told_to_in_its_first_moment(tmp_path):
    assert Served(tmp_path / "home").end()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_that_was_acknowledged_is_lost(tmp_path, number):
    server = Served(tmp_path / "home")
    stop, acknowledged = threading.Event(), []
    senders = [threading.Thread(target=load, args=(server, stop, acknowledged)) for _ in range(4)]
    for sender in senders:
        sender.start()
    wait_for(lambda: len(acknowledged) > 300)
    code, said = server.end(number)
    stop.set()
    for sender in senders:
        sender.join()
    there = kept(server.home)
    assert set(acknowledged) <= there
    if number == signal.SIGTERM:
        assert code == 0
        assert f"{len(there)} observations taken in" in said


def test_the_tokens_of_the_workspace_are_made_once_and_for_its_owner_alone(tmp_path, monkeypatch):
    from dashboard.receiver.tokens import find_tokens
    from harness.core.errors import UserError

    monkeypatch.delenv("RATCHET_WATCH_TOKENS", raising=False)
    tokens, path = find_tokens(tmp_path, None)
    token = path.read_text().strip()
    assert path.stat().st_mode & 0o077 == 0
    assert tokens.admit(f"Bearer {token}".encode())
    assert not tokens.admit(f"Basic {token}".encode())
    assert find_tokens(tmp_path, None)[0].admit(f"bearer {token}".encode())
    path.write_text("# old\nshort\n")
    with pytest.raises(UserError, match="less than"):
        find_tokens(tmp_path, None)
    path.chmod(0o644)
    with pytest.raises(UserError, match="read by others"):
        find_tokens(tmp_path, path)


def wait_for(true, seconds=30):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_the_disk_refuses_is_not_acknowledged_and_may_be_sent_again(tmp_path, monkeypatch):
    from starlette.testclient import TestClient

    from dashboard.receiver.server import Receiver, make_app
    from dashboard.receiver.tokens import Tokens
    from harness.core.errors import UserError
    from harness.watch.intake.intake import Intake

    def full(*_):
        raise UserError("rows can't be appended: No space left on device")

    with Store(Workspace.at(tmp_path).ensure()) as store:
        names = {"authorization": f"Bearer {TOKEN}"}
        receiver = Receiver(Intake(store), Tokens([TOKEN]))
        sent = one()
        with TestClient(make_app(receiver), headers=names) as client:
            with monkeypatch.context() as patched:
                patched.setattr(store, "append", full)
                refused = client.post("/v1/observations", json=sent)
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "5"
            assert receiver.intake.counts.accepted == 0
            assert client.post("/v1/observations", json=sent).json()["accepted"] == 1
        assert store.query("SELECT count(*) AS n FROM observations") == [{"n": 1}]
