"""Posts a message to a webhook, in the form that its service takes; a failure is only reported.

Chat services each want a text in a body of their own, and drop or refuse anything else. Which one
an address belongs to is known by its host, or is said before it: `slack+https://…`. Any other
address gets the whole message as JSON, with the text under `text`. Robots of DingTalk and Feishu
that ask for signed requests get them where their secret is in the environment.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from harness.core.errors import UserError

TIMEOUT_S = 5.0

SECRET_VARIABLE = "RATCHET_WEBHOOK_SECRET"
"""The secret with which requests to DingTalk and Feishu are signed; unset, they are not."""

HOSTS: Mapping[str, tuple[str, ...]] = {
    "slack": ("hooks.slack.com",),
    "feishu": ("open.feishu.cn", "open.larksuite.com"),
    "dingtalk": ("oapi.dingtalk.com",),
    "wecom": ("qyapi.weixin.qq.com",),
    "teams": (".webhook.office.com", ".logic.azure.com", ".api.powerplatform.com"),
}
"""Service -> its hosts; one that begins with a dot stands for every host that ends so."""

_BYTES = {"slack": 12_000, "feishu": 15_000, "dingtalk": 15_000, "wecom": 2_048, "teams": 15_000}
"""Bytes of text that a service takes, or as many as anybody reads."""

_CODES = ("code", "StatusCode", "errcode")
"""Where Feishu, DingTalk and WeCom say that they took nothing, while they answer 200."""


def split(url: str) -> tuple[str, str]:
    """(service, address): `json` for an address of no known service.

    Raises UserError for a service that isn't known, and for what is no web address.
    """
    named, plus, rest = url.partition("+")
    address = rest if plus and "://" not in named else url
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{url!r} is not a web address",
            field="--webhook",
            hint="a webhook begins with http:// or https://",
        )
    if address is not url:
        if named not in (*HOSTS, "json"):
            raise UserError(
                f"no chat service {named!r} is known",
                field="--webhook",
                hint=f"one of {', '.join(HOSTS)}, json",
            )
        return named, address
    return _service_of(parts.hostname), address


def body(service: str, text: str, message: Mapping[str, Any]) -> dict[str, Any]:
    """What a service wants to be sent for `text`; `json` gets the whole message with it."""
    said = _shortened(text, _BYTES.get(service))
    match service:
        case "slack":
            return {"text": said}
        case "feishu":
            return {"msg_type": "text", "content": {"text": said}}
        case "dingtalk" | "wecom":
            return {"msgtype": "text", "text": {"content": said}}
        case "teams":
            return _card(said)
    return {"text": text, **message}


def call(url: str, message: Mapping[str, Any], text: str = "") -> str | None:
    """POST `message`, or its `text` where the address is a chat's. Returns why it failed, or None.

    Waits at most `TIMEOUT_S` seconds, and raises nothing for a server that fails. A text that
    isn't given is the message's own, or its event and reason.
    """
    try:
        service, address = split(url)
    except UserError as error:
        return error.what
    content = body(service, text or _text_of(message), message)
    secret = os.environ.get(SECRET_VARIABLE, "").strip()
    if secret:
        address, content = signed(service, address, content, secret, time.time())
    request = urllib.request.Request(
        address,
        data=json.dumps(content, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json; charset=utf-8", "User-Agent": "ratchet"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return _refusal(answer.read(65_536)) if service in HOSTS else None
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}"
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'reason', error)}"


def signed(
    service: str, address: str, content: Mapping[str, Any], secret: str, now_s: float
) -> tuple[str, dict[str, Any]]:
    """(address, body) as a robot with a secret wants them; a service that signs nothing gets what
    it was given. DingTalk reads milliseconds and the signature in the address, Feishu seconds and
    the signature in the body, and each makes another part of it the key.
    """
    if service == "dingtalk":
        stamp = str(round(now_s * 1000))
        sign = _hmac(secret, f"{stamp}\n{secret}")
        parts = urlsplit(address)
        query = "&".join(filter(None, [parts.query, urlencode({"timestamp": stamp, "sign": sign})]))
        return urlunsplit(parts._replace(query=query)), dict(content)
    if service == "feishu":
        stamp = str(int(now_s))
        return address, {"timestamp": stamp, "sign": _hmac(f"{stamp}\n{secret}", ""), **content}
    return address, dict(content)


def _hmac(key: str, text: str) -> str:
    return base64.b64encode(hmac.digest(key.encode(), text.encode(), hashlib.sha256)).decode()


def _service_of(host: str) -> str:
    for service, known in HOSTS.items():
        if any(host.endswith(one) if one.startswith(".") else host == one for one in known):
            return service
    return "json"


def _card(text: str) -> dict[str, Any]:
    """The one form that Teams' workflows take: an adaptive card."""
    content = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        # Teams joins lines of one block.
        "body": [{"type": "TextBlock", "text": line, "wrap": True} for line in text.splitlines()],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    attachment = {"contentType": kind, "contentUrl": None, "content": content}
    return {"type": "message", "attachments": [attachment]}


def _text_of(message: Mapping[str, Any]) -> str:
    if message.get("text"):
        return str(message["text"])
    event = str(message.get("event", "news")).replace("_", " ")
    parts = [message.get("line") or message.get("training"), event]
    said = " ".join(str(part) for part in parts if part)
    why = message.get("reason") or message.get("why")
    return f"Ratchet: {said}" + (f": {why}" if why else "")


def _shortened(text: str, most: int | None) -> str:
    """The text, or as much of it as fits into `most` bytes with a mark that it goes on."""
    raw = text.encode()
    if most is None or len(raw) <= most:
        return text
    return raw[: most - 4].decode(errors="ignore") + " …"


def _refusal(answer: bytes) -> str | None:
    """Why a chat took nothing although it answered 2xx; None where it did."""
    try:
        found = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    code = next((found[name] for name in _CODES if name in found), 0)
    if code in (0, "0", None):
        return None
    return f"it refused: {found.get('msg') or found.get('errmsg') or found.get('StatusMessage')}"
