"""Each chat gets its text in its own form; a chat that refuses while it answers 200 is heard."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from harness.core import webhook
from harness.core.errors import UserError

GOLDEN: dict[str, dict[str, Any]] = {
    "slack": {"text": "bot fails"},
    "feishu": {"msg_type": "text", "content": {"text": "bot fails"}},
    "dingtalk": {"msgtype": "text", "text": {"content": "bot fails"}},
    "wecom": {"msgtype": "text", "text": {"content": "bot fails"}},
    "teams": {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.2",
                    "body": [{"type": "TextBlock", "text": "bot fails", "wrap": True}],
                },
            }
        ],
    },
    "json": {"text": "bot fails", "event": "watch_held", "line": "bot"},
}
"""As each service's documentation of its incoming webhooks has it."""

ADDRESSES = {
    "https://hooks.slack.com/services/T/B/x": "slack",
    "https://open.feishu.cn/open-apis/bot/v2/hook/x": "feishu",
    "https://open.larksuite.com/open-apis/bot/v2/hook/x": "feishu",
    "https://oapi.dingtalk.com/robot/send?access_token=x": "dingtalk",
    "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x": "wecom",
    "https://contoso.webhook.office.com/webhookb2/x": "teams",
    "https://prod-12.westeurope.logic.azure.com:443/workflows/x": "teams",
    "https://default1.2.environment.api.powerplatform.com:443/powerautomate/x": "teams",
    "https://example.org/hook": "json",
    "https://hooks.slack.com.example.org/hook": "json",
    "https://example.org/hooks.slack.com": "json",
    "slack+https://chat.example.org/hooks/x": "slack",
    "json+https://hooks.slack.com/x": "json",
    "https://example.org/a+b://c": "json",
}


class _Chat(BaseHTTPRequestHandler):
    said = b"{}"
    taken: list[dict[str, Any]]
    asked: list[str]

    def do_POST(self) -> None:
        type(self).asked.append(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).taken.append(json.loads(body))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(type(self).said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def chat() -> Iterator[str]:
    _Chat.taken, _Chat.asked, _Chat.said = [], [], b"{}"
    server = HTTPServer(("127.0.0.1", 0), _Chat)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("service", GOLDEN)
def test_a_chat_gets_what_it_wants(service: str, chat: str) -> None:
    message = {"event": "watch_held", "line": "bot"}
    assert webhook.call(f"{service}+{chat}", message, "bot fails") is None
    assert _Chat.taken == [GOLDEN[service]]


@pytest.mark.parametrize(("address", "service"), ADDRESSES.items())
def test_a_service_is_known_by_its_host_or_is_named(address: str, service: str) -> None:
    found, rest = webhook.split(address)
    assert found == service
    assert rest.startswith("http")


@pytest.mark.parametrize(
    "wrong", ["file:///etc/passwd", "icq+https://a.org", "hooks.slack.com/x", "", "https://"]
)
def test_what_is_no_address_of_a_webhook(wrong: str) -> None:
    with pytest.raises(UserError):
        webhook.split(wrong)
    assert webhook.call(wrong, {}) is not None


@pytest.mark.parametrize(
    ("service", "answer", "why"),
    [
        ("feishu", {"code": 19024, "msg": "Key Words Not Found"}, "Key Words Not Found"),
        ("feishu", {"code": 0, "msg": "success", "StatusCode": 0}, None),
        ("dingtalk", {"errcode": 310000, "errmsg": "keywords not in content"}, "keywords not in"),
        ("dingtalk", {"errcode": 0, "errmsg": "ok"}, None),
        ("wecom", {"errcode": 93000, "errmsg": "invalid webhook url"}, "invalid webhook url"),
    ],
)
def test_a_refusal_in_an_answer_of_200(
    service: str, answer: dict[str, Any], why: str | None, chat: str
) -> None:
    _Chat.said = json.dumps(answer).encode()
    problem = webhook.call(f"{service}+{chat}", {}, "x")
    assert (problem is None) == (why is None)
    assert why is None or why in (problem or "")


def test_slacks_plain_ok_is_an_ok(chat: str) -> None:
    _Chat.said = b"ok"
    assert webhook.call(f"slack+{chat}", {}, "x") is None


def test_a_long_text_is_cut_at_a_character(chat: str) -> None:
    webhook.call(f"wecom+{chat}", {}, "名" * 2_000)
    said = _Chat.taken[0]["text"]["content"]
    assert len(said.encode()) <= 2_048
    assert said.endswith("名 …")


def test_a_card_has_a_block_for_each_line(chat: str) -> None:
    webhook.call(f"teams+{chat}", {}, "one\ntwo")
    blocks = _Chat.taken[0]["attachments"][0]["content"]["body"]
    assert [block["text"] for block in blocks] == ["one", "two"]


def test_a_message_without_a_text_is_put_into_words(chat: str) -> None:
    webhook.call(f"slack+{chat}", {"event": "rolled_back", "training": "t1", "why": "it fell"})
    assert _Chat.taken == [{"text": "Ratchet: t1 rolled back: it fell"}]


SECRET = "SECgolden"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.SECRET_VARIABLE, f" {SECRET}\n")


def test_dingtalks_signature_is_in_the_address(chat: str, secret: None) -> None:
    assert webhook.call(f"dingtalk+{chat}?access_token=t", {}, "x") is None
    query = parse_qs(urlsplit(_Chat.asked[0]).query)
    (stamp,), (sign,) = query["timestamp"], query["sign"]
    assert abs(int(stamp) / 1000 - time.time()) < 60, "milliseconds"
    assert query["access_token"] == ["t"]
    told = hmac.new(SECRET.encode(), f"{stamp}\n{SECRET}".encode(), hashlib.sha256).digest()
    assert base64.b64decode(sign) == told
    assert _Chat.taken == [{"msgtype": "text", "text": {"content": "x"}}]


def test_feishus_signature_is_in_the_body(chat: str, secret: None) -> None:
    assert webhook.call(f"feishu+{chat}", {}, "x") is None
    (taken,) = _Chat.taken
    stamp = taken.pop("timestamp")
    assert abs(int(stamp) - time.time()) < 60, "seconds"
    told = hmac.new(f"{stamp}\n{SECRET}".encode(), b"", hashlib.sha256).digest()
    assert base64.b64decode(taken.pop("sign")) == told
    assert taken == {"msg_type": "text", "content": {"text": "x"}}
    assert _Chat.asked == ["/hook"]


def test_signatures_of_a_fixed_moment() -> None:
    """Golden: `openssl dgst -sha256 -hmac` on the strings of both services' documentation."""
    address, _ = webhook.signed("dingtalk", "https://d/send?access_token=t", {}, SECRET, 1.6e9)
    assert address == (
        "https://d/send?access_token=t&timestamp=1600000000000"
        "&sign=TyK91%2FpdpW90ielQFcIe38EksUd5OmUwM974DdMmrkg%3D"
    )
    _, body = webhook.signed("feishu", "https://f/hook", {}, SECRET, 1_600_000_000.9)
    assert body == {
        "timestamp": "1600000000",
        "sign": "/K0X1Puo4I6WgfQIKkwvXRByYoxi7/SOG1SASYhO0ko=",
    }


@pytest.mark.parametrize("service", ["slack", "wecom", "teams", "json"])
def test_who_signs_nothing_gets_what_it_got(service: str, chat: str, secret: None) -> None:
    message = {"event": "watch_held", "line": "bot"}
    assert webhook.call(f"{service}+{chat}", message, "bot fails") is None
    assert _Chat.taken == [GOLDEN[service]]
    assert _Chat.asked == ["/hook"]
