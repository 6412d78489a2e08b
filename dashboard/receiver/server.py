"""The HTTP receiver of observations, acknowledged once they are on the disk.

Requests that come while one append is being written share the next one, so that one fsync serves
all of them. What waits is bounded: beyond it a sender gets 429 and the time after which to retry.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.receiver.exposition import MEDIA_TYPE
from dashboard.receiver.metrics import Metrics, receiver_families
from dashboard.receiver.request_body import LIMIT, Budget, Share, TurnedAway, headers, read_body
from dashboard.receiver.tokens import Tokens
from harness.core.errors import UserError
from harness.watch.intake import otlp
from harness.watch.intake.intake import Intake, Taken, parse_json, parse_lines
from harness.watch.intake.observation import Refused

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
LINES = ("application/x-ndjson", "application/jsonl", "application/ndjson", "application/jsonlines")
LARGE = 64 * 1024
"""Bytes from which a body is parsed in a thread, so that other requests don't wait for it."""
NAMED_REFUSALS = 100
"""Refusals that one answer lists; all are counted."""
DRAIN_S = 30.0


class Committer:
    """Many requests, one append: those that wait while the disk is busy are written together."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._thread = ThreadPoolExecutor(1, "committer")
        self._waiting: list[tuple[Taken, asyncio.Future[int]]] = []
        self._wake = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many requests wait for the next append."""
        return len(self._waiting)

    async def keep(self, taken: Taken) -> int:
        """Wait until all is durable; the number of duplicates. Raises UserError on failure."""
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((taken, done))
        self._wake.set()
        return await done

    async def run(self) -> None:
        """Write until cancelled; what waits then is still written."""
        try:
            while True:
                await self._wake.wait()
                await self._write()
        finally:
            await self._write()
            self._thread.shutdown()

    async def _write(self) -> None:
        self._wake.clear()
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            counts = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._intake.keep, [taken for taken, _ in waiting]
            )
        except UserError as error:
            for _, done in waiting:
                if not done.done():
                    done.set_exception(error)
        else:
            for (_, done), duplicates in zip(waiting, counts, strict=True):
                if not done.done():  # its sender may have gone
                    done.set_result(duplicates)


@dataclass
class Receiver:
    """The request handlers, and what they share. `limit` is in bytes of one body."""

    intake: Intake
    tokens: Tokens
    limit: int = LIMIT
    budget: Budget = field(default_factory=Budget)
    turned_away: dict[str, int] = field(default_factory=dict)

    def open(self) -> asyncio.Task[None]:
        """Start the task that writes. Call it in the event loop that serves."""
        self.committer = Committer(self.intake)
        self.page = Metrics(self.intake.store)
        return asyncio.create_task(self.committer.run())

    async def observations(self, request: Request) -> Response:
        """POST /v1/observations: one object, a list of them, or one on each line."""
        content_type = _content_type(request)

        def parse(body: bytes) -> tuple[Any, Taken]:
            if content_type in LINES:
                return None, self.intake.take(parse_lines(body))
            sent = parse_json(body)
            return sent, self.intake.take(sent if isinstance(sent, list) else [sent])

        def tell(status: int, what: str) -> Response:
            return _json({"what": what}, status)

        async def answer(share: Share) -> Response:
            if content_type not in (JSON, *LINES):
                raise TurnedAway(415, f"content-type is {JSON} or {LINES[0]}")
            body = await read_body(request, share, self.limit)
            sent, taken = await self._taken(parse, body)
            duplicates = await self.committer.keep(taken)
            alone = isinstance(sent, dict)
            said = {
                "accepted": len(taken.observations) - duplicates,
                "duplicates": duplicates,
                "refused": len(taken.refused),
                "reasons": [refusal.said() for refusal in taken.refused[:NAMED_REFUSALS]],
            }
            return _json(said, 422 if alone and taken.refused else 200)

        return await self._guarded(request, answer, tell)

    async def traces(self, request: Request) -> Response:
        """POST /v1/traces: OTLP/HTTP, in protobuf or JSON."""
        content_type = _content_type(request)
        as_json = content_type == JSON
        media = JSON if as_json else PROTOBUF

        def parse(body: bytes) -> tuple[Any, Taken]:
            found = list(otlp.from_json(parse_json(body)) if as_json else otlp.from_protobuf(body))
            ours = [item for item in found if isinstance(item, Refused) or item.answers]
            return len(found) - len(ours), self.intake.take(
                ours, source="otlp", reader=otlp.read_span
            )

        def tell(status: int, what: str) -> Response:
            return Response(otlp.failure(what, as_json=as_json), status, media_type=media)

        async def answer(share: Share) -> Response:
            if content_type not in (JSON, PROTOBUF):
                raise TurnedAway(415, f"content-type is {PROTOBUF} or {JSON}")
            body = await read_body(request, share, self.limit)
            ignored, taken = await self._taken(parse, body)
            self.intake.counts.ignored += ignored
            await self.committer.keep(taken)
            reasons = "; ".join(dict.fromkeys(refusal.what for refusal in taken.refused))
            content = otlp.answer(len(taken.refused), reasons[:1000], as_json=as_json)
            return Response(content, media_type=media)

        return await self._guarded(request, answer, tell)

    async def health(self, _: Request) -> Response:
        """GET /healthz: 200 while it runs; needs no token."""
        return _json({"status": "ok"}, 200)

    async def counts(self, request: Request) -> Response:
        """GET /counters: what was counted since the start, and the bytes now in flight."""

        async def answer(_: Share) -> Response:
            counts = self.intake.counts.said() | {
                "requests_turned_away": dict(sorted(self.turned_away.items())),
                "bytes_in_flight": self.budget.used,
            }
            return _json(counts, 200)

        return await self._guarded(request, answer, lambda status, what: _json(what, status))

    async def metrics(self, request: Request) -> Response:
        """GET /metrics: all lines and this receiver, in Prometheus's text format."""

        async def answer(_: Share) -> Response:
            own = receiver_families(
                self.intake.counts.said(),
                self.turned_away,
                self.budget.used,
                self.committer.waiting,
            )
            return Response(await self.page.page(own), media_type=MEDIA_TYPE)

        return await self._guarded(
            request, answer, lambda status, what: _json({"what": what}, status)
        )

    async def _taken(
        self, parse: Callable[[bytes], tuple[Any, Taken]], body: bytes
    ) -> tuple[Any, Taken]:
        try:
            return await run_in_threadpool(parse, body) if len(body) > LARGE else parse(body)
        except Refused as refusal:
            raise TurnedAway(400, refusal.what) from None

    async def _guarded(
        self,
        request: Request,
        answer: Callable[[Share], Awaitable[Response]],
        tell: Callable[[int, str], Response],
    ) -> Response:
        """The answer, or the refusal of the whole request in the form that `tell` gives it."""
        try:
            if not self.tokens.admit(headers(request).get(b"authorization")):
                raise TurnedAway(401, "a bearer token is needed")
            with self.budget.share() as share:
                return await answer(share)
        except TurnedAway as away:
            name = str(away.status)
            self.turned_away[name] = self.turned_away.get(name, 0) + 1
            response = tell(away.status, away.what)
            if away.retry_after is not None:
                response.headers["retry-after"] = str(away.retry_after)
            if away.status == 401:
                response.headers["www-authenticate"] = "Bearer"
        except UserError as error:
            # A full disk, for example. Nothing was acknowledged, so the sender must try again.
            self.turned_away["503"] = self.turned_away.get("503", 0) + 1
            response = tell(503, error.what)
            response.headers["retry-after"] = "5"
        return response


def make_app(receiver: Receiver, *, drain_s: float = DRAIN_S) -> Starlette:
    """The application. Every `drain_s` seconds what was received moves from the journal into the
    database, so that readers needn't wait for it.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [receiver.open(), asyncio.create_task(_drain(receiver.intake, drain_s))]
        yield
        for task in reversed(tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    return Starlette(
        routes=[
            Route("/v1/observations", receiver.observations, methods=["POST"]),
            Route("/v1/traces", receiver.traces, methods=["POST"]),
            Route("/healthz", receiver.health),
            Route("/counters", receiver.counts),
            Route("/metrics", receiver.metrics),
        ],
        lifespan=lifespan,
    )


async def _drain(intake: Intake, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        # Another process may hold the database for a while: this is tried again.
        with contextlib.suppress(UserError):
            await run_in_threadpool(intake.store.drain)


def _content_type(request: Request) -> str:
    named = headers(request).get(b"content-type", b"").decode("latin-1")
    return named.partition(";")[0].strip().lower()


def _json(content: Any, status: int) -> Response:
    return Response(json.dumps(content, ensure_ascii=False), status, media_type=JSON)
