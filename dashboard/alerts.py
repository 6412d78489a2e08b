"""Sends to a webhook whatever needs a human, each item once; for cron or the end of a CI job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dashboard.queries.attention import attention
from harness.comparison.line_words import Need
from harness.core import webhook
from harness.core.errors import UserError
from harness.core.files import write_atomic
from harness.store.store import Store

REMEMBERED = "alerts.json"


def fresh(store: Store) -> list[Need]:
    """What needs a human and was not sent yet. What went away may be sent again."""
    items = attention(store)
    sent = _sent(_memory(store))
    return [item for item in items if item.about not in sent]


def remember(store: Store) -> None:
    """Note that everything that needs a human now has been sent."""
    names = sorted({item.about for item in attention(store)})
    write_atomic(_memory(store), json.dumps(names, ensure_ascii=False, indent=1) + "\n")


def send(url: str, items: Sequence[Need]) -> None:
    """POST what needs a human, in the form of the chat that the address belongs to.

    Any other address gets `{text, items}` as JSON. Raises UserError where the address is not a web
    address or doesn't take it.
    """
    webhook.split(url)
    content = {
        "items": [
            {
                "level": item.level,
                "about": item.about,
                "page": item.page,
                "params": dict(item.params),
                "text": item.sentence,
            }
            for item in items
        ],
    }
    problem = webhook.call(url, content, "\n".join(_line(item) for item in items))
    if problem is not None:
        raise UserError(
            f"the webhook did not take it: {problem}",
            field="--webhook",
            hint="nothing is marked as sent; the same command tries again",
        )


def _line(item: Need) -> str:
    owner = f" ({item.answer.owner})" if item.answer.owner else ""
    return f"• Ratchet: {item.sentence}{owner}"


def _memory(store: Store) -> Path:
    return store.workspace.cache / REMEMBERED


def _sent(path: Path) -> set[str]:
    try:
        return set(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return set()
