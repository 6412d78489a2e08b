"""A line with three promoted versions, and verdicts on what it serves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.core.workspace import Workspace
from harness.registry.registry import Registry
from harness.store.store import Store
from harness.watch.monitor.verdict import SignalVerdict, WatchVerdict

LINE = "support-bot"


class Line:
    """A workspace whose line was promoted to each of the words in turn."""

    def __init__(self, home: Path, *words: str) -> None:
        self.home = home
        self.workspace = Workspace.at(home / ".ratchet")
        self.store = Store(self.workspace)
        self.registry = Registry(self.workspace, self.store)
        self.digests = {word: self.promote(word) for word in words}

    def add(self, word: str) -> str:
        folder = self.home / f"model-{word}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(word * 10)
        (folder / "adapter_config.json").write_text("{}")
        return self.registry.add(folder)

    def promote(self, word: str) -> str:
        digest = self.add(word)
        self.registry.promote(LINE, digest, override="for the test")
        return digest

    @property
    def serving(self) -> str:
        promoted = self.registry.promoted(LINE)
        assert promoted is not None
        return next(word for word, digest in self.digests.items() if digest == promoted.digest)

    def actions(self, action: str | None = None) -> list[dict[str, Any]]:
        rows = self.store.query("SELECT * FROM watch_actions ORDER BY seq")
        return [row for row in rows if action in (None, row["action"])]

    def observe(self, *rows: dict[str, Any]) -> None:
        self.store.append("observations", [{"line": LINE, **row} for row in rows])


def verdict_on(
    digest: str | None, outcome: str = "fail", watch_id: str = "w-1", **more: Any
) -> WatchVerdict:
    """What `ratchet watch check` would have decided, a moment from now."""
    signal = SignalVerdict(
        "thumbs_up", "business", outcome, 0.5, 0.4, 0.6, 0.8, 900, 400.0, "0.5 is below 0.8"
    )  # type: ignore[arg-type]  # a plain word
    said: dict[str, Any] = {
        "watch_id": watch_id,
        "kind": "watch",
        "line": LINE,
        "model_digest": digest,
        "reference_digest": None,
        "policy_digest": "p",
        "outcome": outcome,
        "observations": 900,
        "window_from": None,
        "window_to": None,
        "signals": (signal,),
        "state": {},
        "decided_at": datetime.now(UTC) + timedelta(seconds=2),
    }
    return WatchVerdict(**{**said, **more})


@contextmanager
def hook(status: int = 200) -> Iterator[tuple[str, list[bytes]]]:
    """A real receiver of webhooks on loopback: its address, and what it was sent."""
    heard: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/secret-token", heard
    finally:
        server.shutdown()
        server.server_close()
