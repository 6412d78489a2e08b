"""A small OpenAI-compatible server over a real model, that can be told to misbehave.

Token-id prompts, echo with log-probabilities, seeds and stop strings as vLLM has them, and
vLLM's protocol for adapters. `fault(n, path, body)` is asked before the n-th request: None, or
`(status, headers)`, "hang", "reset", "truncate" or "nonsense". `twist` spoils log-probabilities:
"after" (each token under the distribution after it, as llama-cpp-python does), "constant",
"no_echo", "no_null", "positive".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.backends.base import GenerationRequest, GenerationSettings, LogprobRequest

Fault = Callable[[int, str, Mapping[str, Any]], Any]


class ModelServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, backend: Any, *, fault: Fault | None = None, twist: str = "", context: int = 258
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.backend, self.fault, self.twist = backend, fault, twist
        self.context = context
        self.key: str | None = None
        self.takes_ids = True
        self.adapters: dict[str, str] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.together = self.most_together = 0
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.model_lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


@contextmanager
def serving(backend: Any, **settings: Any) -> Iterator[ModelServer]:
    server = ModelServer(backend, **settings)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ModelServer
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: Nagle would hold the second for 40 ms of each answer.
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            return self._send(404, {"detail": "Not Found"})
        names, limit = ["tiny", *self.server.adapters], self.server.context
        listed = [
            {"id": n, "object": "model", "owned_by": "test", "max_model_len": limit} for n in names
        ]
        return self._send(200, {"object": "list", "data": listed})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        path = self.path.removeprefix("/v1")
        with self.server.lock:
            self.server.asked.append((path, body))
            number = len(self.server.asked)
            self.server.together += 1
            self.server.most_together = max(self.server.most_together, self.server.together)
        try:
            self._answer(path, body, number)
        finally:
            with self.server.lock:
                self.server.together -= 1

    def _answer(self, path: str, body: dict[str, Any], number: int) -> None:
        if self.server.key and self.headers.get("authorization") != f"Bearer {self.server.key}":
            said = f"Incorrect API key provided: {self.headers.get('authorization')}"
            return self._send(401, {"error": {"message": said}})
        fault = self.server.fault(number, path, body) if self.server.fault else None
        if isinstance(fault, tuple):
            return self._send(fault[0], {"error": {"message": "not now"}}, fault[1])
        if fault == "hang":
            self.server.over.wait(120)
            self.close_connection = True
            return None
        if fault == "reset":
            self.close_connection = True
            self.connection.close()
            return None
        if path.endswith("lora_adapter"):
            return self._adapter(path, body)
        with self.server.model_lock:
            status, answer = self._think(path, body)
        if fault == "nonsense":
            answer = {"choices": []}
        return self._send(status, answer, truncated=fault == "truncate")

    def _think(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        backend, prompt = self.server.backend, body.get("prompt")
        if body["model"] not in ("tiny", *self.server.adapters):
            return 404, {"error": {"message": f"no model {body['model']}"}}
        if path == "/chat/completions":
            ids = backend.encode_chat(body["messages"])
        elif isinstance(prompt, str):
            ids = backend.encode(prompt)
        elif self.server.takes_ids:
            ids = tuple(prompt)
        else:
            return 422, {"detail": "prompt should be a string"}
        if len(ids) + body["max_tokens"] > (limit := self.server.context):
            return 400, {"error": {"message": f"maximum context length is {limit} tokens"}}
        settings = GenerationSettings(
            max_new_tokens=body["max_tokens"],
            temperature=body["temperature"],
            top_p=body.get("top_p", 1.0),
            top_k=max(body.get("top_k", 0), 0),
            stop=tuple(body.get("stop") or ()),
            logprobs=True,
        )
        answer = next(backend.generate([GenerationRequest("", ids, (body["seed"],))], settings))
        if answer.error:
            return 400, {"error": {"message": answer.error}}
        choice: dict[str, Any] = {"index": 0, "finish_reason": answer.finish_reason}
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(answer.token_ids)}
        if path == "/chat/completions":
            choice["message"] = {"role": "assistant", "content": answer.text}
            return 200, {"choices": [choice], "usage": usage}
        choice["text"] = answer.text
        if body.get("return_token_ids"):
            choice["token_ids"] = list(answer.token_ids)
        if "logprobs" in body:
            choice["logprobs"] = self._logprobs(body, ids, answer)
        return 200, {"choices": [choice], "usage": usage}

    def _logprobs(self, body: dict[str, Any], ids: Any, answer: Any) -> dict[str, Any]:
        backend, twist = self.server.backend, self.server.twist
        new = list(answer.logprobs) if answer.token_ids else [-0.5]
        names = [backend.tokenizer.decode([t]) for t in answer.token_ids] or [""]
        if not body.get("echo") or twist == "no_echo":
            return {"token_logprobs": new, "tokens": names}
        (read,) = backend.logprobs([LogprobRequest("", ids[:1], ids[1:])])
        values = [None, *read.logprobs, *new]
        if twist == "after":
            late = [LogprobRequest(str(n), ids[: n + 1], (ids[n],)) for n in range(1, len(ids))]
            by_id = {r.request_id: r.logprobs[0] for r in backend.logprobs(late)}
            values = [None, *(by_id[str(n)] for n in range(1, len(ids))), *new]
        elif twist == "constant":
            values = [None] + [-1.0] * (len(values) - 1)
        elif twist == "no_null":
            values[0] = -1.0
        elif twist == "positive":
            values[2] = 0.7
        return {
            "token_logprobs": values,
            "tokens": [backend.tokenizer.decode([t]) for t in ids] + names,
        }

    def _adapter(self, path: str, body: dict[str, Any]) -> None:
        name = body["lora_name"]
        if path == "/load_lora_adapter":
            if name in self.server.adapters:
                return self._send(
                    400, {"message": f"The lora adapter '{name}' has already been loaded."}
                )
            self.server.adapters[name] = body["lora_path"]
            return self._text(f"Success: LoRA adapter '{name}' added successfully.")
        if name not in self.server.adapters:
            return self._send(404, {"message": f"The lora adapter '{name}' cannot be found."})
        del self.server.adapters[name]
        return self._text(f"Success: LoRA adapter '{name}' removed successfully.")

    def _text(self, text: str) -> None:
        self._bytes(200, text.encode(), {})

    def _send(
        self, status: int, answer: Any, headers: Mapping[str, str] = {}, *, truncated: bool = False
    ) -> None:
        data = json.dumps(answer).encode()
        self._bytes(status, data, {"content-type": "application/json", **headers}, truncated)

    def _bytes(
        self, status: int, data: bytes, headers: Mapping[str, str], truncated: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if truncated else data)
        if truncated:
            self.close_connection = True


@contextmanager
def serving_adapters(base: Path, workspace: Any) -> Iterator[ModelServer]:
    """`serving` the model `tiny` in the folder `base`, and whatever adapters on it are loaded."""
    from harness.backends.transformers.backend import TransformersBackend
    from harness.models.resolve import load, resolve

    def backend(files: Any) -> TransformersBackend:
        return TransformersBackend(*load(files), max_length=258)

    put_on: dict[str, Any] = {"tiny": backend(resolve(str(base), workspace))}

    def switch(_: int, path: str, body: Mapping[str, Any]) -> None:
        name = body.get("model")
        if name is None or path.endswith("lora_adapter"):
            return
        if name not in put_on:
            put_on[name] = backend(resolve(started.adapters[name], workspace))
        started.backend = put_on[name]

    with serving(put_on["tiny"], fault=switch) as started:
        yield started
