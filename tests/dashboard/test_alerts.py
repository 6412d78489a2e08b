"""Alerts reach a webhook once, and a webhook that is down loses none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from dashboard import alerts
from harness.comparison.line_words import Need, Sentence
from harness.core.errors import UserError
from harness.store.store import Store


class _Hook(BaseHTTPRequestHandler):
    taken: list[dict[str, object]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).taken.append(json.loads(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[str]:
    _Hook.taken = []
    server = HTTPServer(("127.0.0.1", 0), _Hook)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_is_told_once(tmp_path: object, demo: Store, hook: str) -> None:
    says = Sentence("{line}: x", {"line": "名"})
    item = Need(says, "act", "verdict:v1", "名", "verdict", {"verdict": "v1"})
    alerts.send(hook, [item])
    assert _Hook.taken[0]["text"] == "• Ratchet: 名: x"
    alerts.send(f"feishu+{hook}", [item])
    assert _Hook.taken[1] == {"msg_type": "text", "content": {"text": "• Ratchet: 名: x"}}
    alerts.remember(demo)
    assert alerts.fresh(demo) == []


def test_a_webhook_that_is_down_says_so() -> None:
    with pytest.raises(UserError, match="did not take it"):
        alerts.send("http://127.0.0.1:9/hook", [])
    with pytest.raises(UserError, match="not a web address"):
        alerts.send("file:///etc/passwd", [])
