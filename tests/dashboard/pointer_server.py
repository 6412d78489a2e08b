"""A small server of a model that follows a line's pointer, as one in production would.

Run as `pointer_server.py LINE_FOLDER FLAW`. POST /chat {"prompt"} is answered by whatever the line
has promoted: its weights say which share of the questions it declines. While the file FLAW names
the digest that serves, that model is broken, as by a bad build of its runtime.
"""

from __future__ import annotations

import hashlib
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

line, flaw = Path(sys.argv[1]), Path(sys.argv[2])


class Model:
    """Loaded anew whenever the pointer moves."""

    digest = ""
    declines = 0.0


def follow() -> None:
    digest = json.loads((line / "blessed.json").read_text())["digest"]
    if digest != Model.digest:
        weights = (line / "blessed" / "adapter_model.safetensors").read_text()
        Model.digest, Model.declines = digest, json.loads(weights)["declines"]


def answer(prompt: str) -> str:
    broken = flaw.exists() and flaw.read_text() == Model.digest
    chance = hashlib.sha256(prompt.encode()).digest()[0] / 256
    if chance < (0.7 if broken else Model.declines):
        return "I'm sorry, but I can't help with that."
    return f"Here is what to do about {prompt}: open the app and choose the second entry."


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: Nagle would hold the second for 40 ms of each answer.
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        follow()
        said = {"model_digest": Model.digest, "response": answer(asked["prompt"])}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
