"""The HTTP server for raters, who come in by a personal link.

The link's token stands in every path, so there is no cookie, and nothing that another site could
make a browser send along. What is kept in memory can be built again from the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboard.rating import html as pages
from dashboard.rating.grade_queue import GradeQueue
from dashboard.rating.keys import Refused, admit, read_link, workspace_key
from dashboard.rating.pair_queue import PairQueue, Rejected, State
from harness.core.errors import UserError
from harness.ratings.session import load
from harness.store.store import Store

HERE = Path(__file__).parent
REFRESH_S = 2.0
MAX_BODY = 64 * 1024
MAX_DWELL_MS = 1e10

SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass
class SessionQueues:
    """A session's queue of pairs, and those of its other forms."""

    queue: PairQueue
    forms: dict[str, GradeQueue]


@dataclass
class OpenSessions:
    """The sessions of a workspace, each opened at its first visit; with `only`, that one alone."""

    store: Store
    only: str | None = None
    clock: Callable[[], float] = time.time
    by_id: dict[str, SessionQueues] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.key = workspace_key(self.store.workspace.home)

    def enter(self, token: str) -> Visit:
        """The visit of the rater who holds this link. Raises Refused."""
        link = read_link(self.key, token)
        if self.only not in (None, link.session):
            raise Refused("tampered")
        queues = self.queues(link.session)
        # A link given out since the last look at the store must work at once.
        known = {invitation.link for invitation in queues.queue.register.invitations}
        if link.id not in known:
            queues.queue.refresh()
        admit(link, queues.queue.register, self.clock())
        return Visit(token, link.rater, queues)

    def queues(self, session_id: str) -> SessionQueues:
        with self.lock:
            if session_id not in self.by_id:
                try:
                    session = load(self.store, session_id)
                except UserError as error:
                    raise Refused("tampered") from error
                queue = PairQueue(self.store, session, self.key, clock=self.clock)
                forms: dict[str, GradeQueue] = {
                    form: GradeQueue(queue, form) for form in session.rules.forms if form != "pairs"
                }
                self.by_id[session_id] = SessionQueues(queue, forms)
            return self.by_id[session_id]

    def refresh(self) -> None:
        """Read what other processes stored: revocations, exclusions, the end of a session."""
        for queues in list(self.by_id.values()):
            queues.queue.refresh()


@dataclass(frozen=True)
class Visit:
    """One request of one rater."""

    token: str
    rater: str
    queues: SessionQueues

    @property
    def agreed(self) -> bool:
        return self.rater in self.queues.queue.register.consented

    def state(self, form: str) -> State:
        return self.form(form).state(self.rater)

    def form(self, name: str) -> PairQueue | GradeQueue:
        if name not in self.queues.queue.session.rules.forms:
            raise Rejected("invalid")
        return self.queues.queue if name == "pairs" else self.queues.forms[name]


def make_app(
    store: Store,
    *,
    only: str | None = None,
    hosts: Sequence[str] = ("localhost", "127.0.0.1"),
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """The application over one workspace; `only` restricts it to one session.

    `hosts` are the names it answers to. A foreign page whose name was made to point at this
    server (DNS rebinding) gets nothing.
    """
    sessions = OpenSessions(store, only, clock)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_keep_fresh(sessions))
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    doors = _Doors(sessions)
    app = Starlette(
        routes=[
            Route("/", doors.no_link),
            Route("/r/{token}", doors.page),
            Route("/r/{token}/agree", doors.agree, methods=["POST"]),
            Route("/r/{token}/{form}", doors.page),
            Route("/r/{token}/{form}/state", doors.state),
            Route("/r/{token}/{form}/{act}", doors.act, methods=["POST"]),
            Mount("/static", StaticFiles(directory=HERE / "static")),
        ],
        middleware=[
            Middleware(_Guard),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        ],
        lifespan=lifespan,
    )
    app.state.sessions = sessions
    return app


async def _keep_fresh(sessions: OpenSessions) -> None:
    while True:
        await asyncio.sleep(REFRESH_S)
        # Another process may hold the database for a while: votes go on, and this is tried again.
        with contextlib.suppress(UserError):
            await run_in_threadpool(sessions.refresh)


class _Doors:
    """The request handlers. What touches the store runs in a thread, so that others don't wait."""

    def __init__(self, sessions: OpenSessions) -> None:
        self.sessions = sessions

    async def no_link(self, request: Request) -> Response:
        """The page for visitors without a personal link."""
        return pages.notice(request, "no_link", status=404)

    async def page(self, request: Request) -> Response:
        """The page of a form, with its first state in it; the terms come before it."""
        visit = await self._visit(request)
        if isinstance(visit, Response):
            return visit
        rules = visit.queues.queue.session.rules
        form = request.path_params.get("form", rules.forms[0])
        if form not in rules.forms:
            return pages.notice(request, "no_page", status=404)
        if not visit.agreed:
            return pages.terms(request, visit.token, rules)
        state = await run_in_threadpool(visit.state, form)
        return pages.form(request, visit.token, rules, form, state)

    async def agree(self, request: Request) -> Response:
        visit = await self._visit(request)
        if isinstance(visit, Response):
            return visit
        await run_in_threadpool(visit.queues.queue.consent, visit.rater)
        language = pages.language_of(request)
        return RedirectResponse(f"/r/{visit.token}?lang={language}", status_code=303)

    async def state(self, request: Request) -> Response:
        return await self._answer(request, lambda visit, form, _: visit.state(form))

    async def act(self, request: Request) -> Response:
        act = request.path_params["act"]

        def do(visit: Visit, form: str, sent: dict[str, Any]) -> State:
            place, rater = visit.form(form), visit.rater
            if act == "undo":
                return place.undo(rater, _word(sent, "id"))
            dwell = sent.get("dwell_ms")
            if isinstance(place, PairQueue) and act == "comment":
                return place.comment(rater, _word(sent, "id"), _word(sent, "text"))
            if not isinstance(dwell, int | float) or not abs(dwell) <= MAX_DWELL_MS:  # nor NaN
                raise Rejected("invalid")
            if isinstance(place, PairQueue) and act == "vote":
                return place.vote(rater, _word(sent, "ticket"), _word(sent, "choice"), dwell)
            if isinstance(place, GradeQueue) and act == "answer":
                values = sent.get("values")
                if not isinstance(values, dict):
                    raise Rejected("invalid")
                ticket, words = _word(sent, "ticket"), _word(sent, "comment")
                return place.answer(rater, ticket, values, words, dwell)
            raise Rejected("invalid")

        return await self._answer(request, do)

    async def _answer(
        self, request: Request, do: Callable[[Visit, str, dict[str, Any]], State]
    ) -> Response:
        """Run one act and answer in JSON: 200 the next state, 403, 409, 422, 503 with a word."""
        visit = await self._visit(request, json_wanted=True)
        if isinstance(visit, Response):
            return visit
        if not visit.agreed:
            return JSONResponse({"why": "terms"}, status_code=403)
        sent: dict[str, Any] = {}
        if request.method == "POST":
            parsed = await _body(request)
            if parsed is None:
                return JSONResponse({"why": "invalid"}, status_code=422)
            sent = parsed
        try:
            found = await run_in_threadpool(do, visit, request.path_params["form"], sent)
        except Rejected as refused:
            status = 409 if refused.why == "too_soon" else 422
            return JSONResponse({"why": refused.why}, status_code=status)
        except UserError as error:
            # A full disk, for example. The vote was not acknowledged, so the page sends it again.
            return JSONResponse({"why": "not_kept", "what": error.what}, status_code=503)
        return JSONResponse(found)

    async def _visit(self, request: Request, *, json_wanted: bool = False) -> Visit | Response:
        try:
            return await run_in_threadpool(self.sessions.enter, request.path_params["token"])
        except Refused as refused:
            if json_wanted:
                return JSONResponse({"why": refused.why}, status_code=403)
            return pages.notice(request, refused.why, status=403)


def _word(sent: dict[str, Any], name: str) -> str:
    value = sent.get(name)
    if not isinstance(value, str):
        raise Rejected("invalid")
    return value.encode("utf-8", "replace").decode()


async def _body(request: Request) -> dict[str, Any] | None:
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            return None
    try:
        sent = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return sent if isinstance(sent, dict) else None


class _Guard:
    """Adds the security headers to every answer: nothing loads from or into another site."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY.items():
                    headers[name] = value
                if not scope["path"].startswith("/static/"):
                    headers["cache-control"] = "no-store"
                else:
                    headers["cache-control"] = "no-cache"
            await send(message)

        passed: Awaitable[None] = self.app(scope, receive, guarded if _is_http(scope) else send)
        await passed


def _is_http(scope: Scope) -> bool:
    return bool(scope["type"] == "http")
