"""A model behind a door on loopback that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import queue
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from harness.backends.base import Backend, Generation, GenerationRequest, GenerationSettings
from harness.core.types import PromptOptions
from harness.data.messages import MessagesError, read_messages, read_tools
from harness.metrics.support.tool_calls import calls_in

MAX_TOKENS = 1024
"""How many tokens an answer may have where the one who asks says nothing."""

_TOGETHER_S = 0.01
_MOST_TOGETHER = 64


class RefusedError(Exception):
    """What can't be asked: an answer with the status 400, not a fault of the model's."""


@dataclass(frozen=True)
class Asked:
    """One request, as the model is asked: `n` answers to one prompt."""

    messages: Sequence[Mapping[str, Any]]
    options: PromptOptions
    settings: GenerationSettings
    seed: int
    n: int
    calls: bool
    answers: Future[tuple[int, list[Generation]]]


def read_asked(body: Mapping[str, Any], seed: int) -> Asked:
    """A request's body, as OpenAI's `chat/completions` has it. What it leaves out is temperature 0
    and `MAX_TOKENS`. Raises RefusedError for what can't be done here.
    """
    if body.get("stream"):
        raise RefusedError("answers are not streamed here")
    try:
        messages = read_messages(body.get("messages"))
        tools = read_tools(body.get("tools"))
    except MessagesError as error:
        raise RefusedError(str(error)) from None
    stop = body.get("stop") or ()
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or MAX_TOKENS
    template = body.get("chat_template_kwargs") or {}
    settings = GenerationSettings(
        max_new_tokens=int(limit),
        temperature=float(body.get("temperature") or 0.0),
        top_p=float(1.0 if body.get("top_p") is None else body["top_p"]),
        top_k=max(int(body.get("top_k") or 0), 0),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )
    return Asked(
        messages=messages,
        options=PromptOptions(tools=tools, template=template),
        settings=settings,
        seed=int(seed if body.get("seed") is None else body["seed"]),
        n=int(body.get("n") or 1),
        calls=bool(tools) and body.get("tool_choice") != "none",
        answers=Future(),
    )


class Door(ThreadingHTTPServer):
    """Serves the model that `opened` gives, which is called when somebody first asks.

    Requests that wait at the same time are answered together. The same question asked again is
    answered with another seed, so that epochs differ where the temperature lets them. Whoever asks
    has to know `key`; `failure` is what the model raised, `answered` how many answers were given.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, opened: Callable[[], Backend], *, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key = secrets.token_urlsafe(24)
        self.seed = seed
        self.failure: BaseException | None = None
        self.answered = 0
        self._opened = opened
        self._backend: Backend | None = None
        self._asked: queue.Queue[Asked | None] = queue.Queue()
        self._times: Counter[Any] = Counter()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def ask(self, asked: Asked) -> tuple[int, list[Generation]]:
        """(tokens of the prompt, its answers). Raises what went wrong."""
        self._asked.put(asked)
        return asked.answers.result()

    def work(self) -> None:
        """Answer until `leave` is called: the model is asked by this one thread."""
        while (first := self._asked.get()) is not None:
            waiting = [first]
            while len(waiting) < _MOST_TOGETHER:
                try:
                    one = self._asked.get(timeout=_TOGETHER_S)
                except queue.Empty:
                    break
                if one is None:
                    self._asked.put(None)
                    break
                waiting.append(one)
            self._answer(waiting)

    def leave(self) -> None:
        self._asked.put(None)

    def _answer(self, waiting: Sequence[Asked]) -> None:
        groups: defaultdict[GenerationSettings, list[Asked]] = defaultdict(list)
        for asked in waiting:
            groups[asked.settings].append(asked)
        for settings, group in groups.items():
            try:
                self._together(group, settings)
            except Exception as error:  # noqa: BLE001 -- whatever it is, whoever waits is told
                self.failure = self.failure or error
                for asked in group:
                    if not asked.answers.done():
                        asked.answers.set_exception(error)

    def _together(self, group: Sequence[Asked], settings: GenerationSettings) -> None:
        if self._backend is None:
            self._backend = self._opened()
        requests, found = [], {}
        for number, asked in enumerate(group):
            try:
                ids = self._prompt(asked)
            except RefusedError as error:
                asked.answers.set_exception(error)
                continue
            times = self._times[(ids, settings)]
            self._times[(ids, settings)] += asked.n
            seeds = tuple(asked.seed + times + extra for extra in range(asked.n))
            requests.append(GenerationRequest(str(number), ids, seeds))
            found[str(number)] = (asked, len(ids), list[Generation]())
        for answer in self._backend.generate(requests, settings):
            found[answer.request_id][2].append(answer)
        for asked, length, answers in found.values():
            self.answered += len(answers)
            answers.sort(key=lambda one: one.position)
            asked.answers.set_result((length, answers))

    def _prompt(self, asked: Asked) -> tuple[int, ...]:
        assert self._backend is not None
        try:
            ids = self._backend.encode_chat(asked.messages, asked.options)
        except Exception as error:
            said = str(error).strip() or type(error).__name__
            raise RefusedError(f"the model's chat template refuses this: {said}") from error
        longest = self._backend.max_length
        if len(ids) >= longest:
            raise RefusedError(
                f"this prompt has {len(ids)} tokens; the model's maximum context length is "
                f"{longest} tokens"
            )
        return ids


@contextmanager
def open_door(opened: Callable[[], Backend], *, seed: int = 0) -> Iterator[Door]:
    """A door that is closed at the end; nobody else on the machine knows its key."""
    door = Door(opened, seed=seed)
    threads = [
        threading.Thread(target=door.serve_forever, args=(0.05,), daemon=True),
        threading.Thread(target=door.work, daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield door
    finally:
        door.leave()
        door.shutdown()
        door.server_close()
        threads[1].join(timeout=30)


class _Handler(BaseHTTPRequestHandler):
    server: Door
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: Nagle would hold the second for 40 ms of each answer.
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        if not self._knows_the_key():
            return
        listed = [{"id": "model", "object": "model", "owned_by": "ratchet"}]
        self._send(200, {"object": "list", "data": listed})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        if not self._knows_the_key():
            return
        if self.path.rstrip("/") != "/v1/chat/completions":
            self._refuse(404, f"only /v1/chat/completions is answered here, not {self.path}")
            return
        try:
            asked = read_asked(json.loads(data), self.server.seed)
            length, answers = self.server.ask(asked)
        except (RefusedError, ValueError, TypeError) as error:
            self._refuse(400, str(error))
        except Exception as error:  # noqa: BLE001 -- the door says it, whatever it is
            self._refuse(500, str(error) or type(error).__name__)
        else:
            failed = next((one.error for one in answers if one.error), None)
            if failed is not None:
                self._refuse(400, failed)
            else:
                self._send(200, completion(asked, length, answers))

    def _knows_the_key(self) -> bool:
        given = self.headers.get("authorization") or ""
        if secrets.compare_digest(given.encode(), f"Bearer {self.server.key}".encode()):
            return True
        self._refuse(401, "this door is another's")
        return False

    def _refuse(self, status: int, what: str) -> None:
        code = "context_length_exceeded" if "maximum context length" in what else None
        error = {"message": what, "type": "invalid_request_error", "code": code}
        self._send(status, {"error": error})

    def _send(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True


def completion(asked: Asked, length: int, answers: Sequence[Generation]) -> dict[str, Any]:
    """The body of an answer, with calls of tools where they were offered and are made."""
    written = sum(len(one.token_ids) for one in answers)
    return {
        "id": f"chatcmpl-{secrets.token_hex(8)}",
        "object": "chat.completion",
        "created": 0,
        "model": "model",
        "choices": [_choice(asked, index, one) for index, one in enumerate(answers)],
        "usage": {
            "prompt_tokens": length,
            "completion_tokens": written,
            "total_tokens": length + written,
        },
    }


def _choice(asked: Asked, index: int, answer: Generation) -> dict[str, Any]:
    calls = calls_in(answer.text) if asked.calls else []
    message: dict[str, Any] = {"role": "assistant", "content": answer.text}
    finish = answer.finish_reason
    # A call whose arguments can't be read is text: the model is told that it called nothing.
    if calls and all(call.arguments is not None for call in calls):
        finish = "tool_calls"
        message["content"] = None
        message["tool_calls"] = [
            {
                "id": f"call_{secrets.token_hex(6)}",
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(call.arguments, ensure_ascii=False),
                },
            }
            for call in calls
        ]
    return {"index": index, "message": message, "finish_reason": finish, "logprobs": None}
