"""Sends to a webhook whatever needs a human, each item once; for cron or the end of a CI job."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from dashboard.queries.attention import Item, attention
from harness.core.errors import UserError
from harness.core.files import write_atomic
from harness.store.store import Store

TIMEOUT_S = 10.0
REMEMBERED = "alerts.json"


def fresh(store: Store) -> list[Item]:
    """What needs a human and was not sent yet. What went away may be sent again."""
    items = attention(store)
    sent = _sent(_memory(store))
    return [item for item in items if _name(item) not in sent]


def remember(store: Store) -> None:
    """Note that everything that needs a human now has been sent."""
    names = sorted({_name(item) for item in attention(store)})
    write_atomic(_memory(store), json.dumps(names, ensure_ascii=False, indent=1) + "\n")


def send(url: str, items: Sequence[Item]) -> None:
    """POST `{text, items}` as JSON: `text` is what Slack, Mattermost and others show.

    Raises UserError where the address is not a web address or doesn't take it.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(
            f"{url!r} is not a web address",
            field="--webhook",
            hint="a webhook begins with http:// or https://",
        )
    content = {
        "text": "\n".join(f"• {item.sentence}" for item in items),
        "items": [
            {"level": item.level, "page": item.page, "params": dict(item.params)}
            | {"text": item.sentence}
            for item in items
        ],
    }
    request = urllib.request.Request(
        url,
        data=json.dumps(content, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json; charset=utf-8"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            answer.read(1)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"the webhook did not take it: {reason}",
            field="--webhook",
            hint="nothing is marked as sent; the same command tries again",
        ) from error


def _name(item: Item) -> str:
    # A count that moves by one is not news; the verdict or training it is about is.
    about = item.params.get("verdict") or item.params.get("training") or item.values.get("id")
    return f"{item.text}|{about or sorted(item.params.items())}|{item.values.get('metric', '')}"


def _memory(store: Store) -> Path:
    return store.workspace.cache / REMEMBERED


def _sent(path: Path) -> set[str]:
    try:
        return set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return set()
