"""JSON over HTTP, with retries for a server that is slow, busy, broken or gone."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from harness.backends.openai.rate_limit import Pace
from harness.core.errors import UserError

# Statuses after which a later try may succeed: timeouts, too many requests, a server in trouble.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# Those of them that say the server has too much to do.
_BUSY = frozenset({408, 429, 503, 504, 529})


class RefusedError(Exception):
    """The server refuses the request: a 4xx status that trying again does not change."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


class NoAnswerError(Exception):
    """Every try failed. `gone`: at the last one no connection could be made."""

    def __init__(self, message: str, *, gone: bool) -> None:
        super().__init__(message)
        self.gone = gone


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer's body, and the seconds that the successful try took."""

    body: Any
    seconds: float


class Wire:
    """One server. Calls may come from many threads; `pace` decides how many are in flight.

    A try that ends in a timeout, a broken connection, a body that is cut off or not JSON, or a
    status that may pass is repeated, up to `tries` in all, after a random time of up to
    `backoff_s`·2^n seconds (at most 60), and not before `Retry-After` has passed. A server that
    asks to wait for more than `patience_s` seconds counts as not answering.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        key_name: str = "",
        timeout_s: float = 120.0,
        tries: int = 6,
        backoff_s: float = 0.5,
        patience_s: float = 300.0,
        pace: Pace | None = None,
    ) -> None:
        import httpx2

        self.url = url.rstrip("/")
        self.pace = pace or Pace()
        self.retries = 0
        self._key, self._key_name = key, key_name
        self._tries, self._backoff_s, self._patience_s = tries, backoff_s, patience_s
        # Not the shared generator: retries must not change other code's random numbers.
        self._chance = random.Random()
        self._closed = threading.Event()
        local = urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")
        self._http = httpx2.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            limits=httpx2.Limits(max_connections=self.pace.most),
            # A proxy named in the environment does not reach a server on this machine.
            trust_env=not local,
        )

    def close(self) -> None:
        """End waits and connections. A second call does nothing."""
        self._closed.set()
        self._http.close()

    def get(self, path: str, *, tries: int | None = None) -> Reply:
        """As `post`, without a body."""
        return self._ask("GET", path, None, as_text=False, tries=tries)

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        as_text: bool = False,
        tries: int | None = None,
    ) -> Reply:
        """Post JSON and return the answer, as JSON or `as_text`; `tries` may lower the wire's own.

        Raises RefusedError, NoAnswerError or, for a key that the server does not take, UserError.
        """
        return self._ask("POST", path, body, as_text=as_text, tries=tries)

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        *,
        as_text: bool,
        tries: int | None = None,
    ) -> Reply:
        problem, gone = "", False
        most = min(tries or self._tries, self._tries)
        for attempt in range(most):
            if attempt:
                self.retries += 1
            ticket = self.pace.enter()
            busy, pause = False, 0.0
            began = time.monotonic()
            try:
                answer, problem, gone, busy, pause = self._try(method, path, body, as_text)
                if not problem:
                    return Reply(answer, time.monotonic() - began)
            finally:
                self.pace.leave(ticket, well=not busy)
            if pause > self._patience_s:
                raise NoAnswerError(f"{problem}; it asks to wait {pause:.0f} s", gone=True)
            if attempt + 1 < most:
                self._rest(attempt, pause)
        raise NoAnswerError(f"{problem} ({most} tries)", gone=gone)

    def _try(
        self, method: str, path: str, body: Mapping[str, Any] | None, as_text: bool
    ) -> tuple[Any, str, bool, bool, float]:
        """(answer, problem or "", no connection, too busy, seconds that it asks to wait)."""
        import httpx2

        try:
            response = self._http.request(method, f"{self.url}{path}", json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            return None, f"no connection to {self.url}: {_said(error)}", True, True, 0.0
        except httpx2.TimeoutException:
            return None, f"{self.url} did not answer in time", False, True, 0.0
        except httpx2.TransportError as error:
            return None, f"the connection to {self.url} broke: {_said(error)}", False, False, 0.0
        status = response.status_code
        if status in _PASSING:
            problem = f"HTTP {status}: {self._message(response)}"
            return None, problem, False, status in _BUSY, _retry_after(response.headers)
        if status in (401, 403):
            # What the server says may quote the key, so it is not shown.
            raise UserError(
                f"the server at {self.url} refuses the key (HTTP {status})"
                if self._key
                else f"the server at {self.url} wants a key (HTTP {status})",
                hint=f"put it into the environment variable {self._key_name}",
            )
        if not 200 <= status < 300:
            raise RefusedError(status, self._message(response))
        if as_text:
            return response.text, "", False, False, 0.0
        try:
            return response.json(), "", False, False, 0.0
        except (json.JSONDecodeError, UnicodeDecodeError):
            return None, f"{self.url} answered with something cut off", False, False, 0.0

    def _rest(self, attempt: int, at_least: float) -> None:
        longest = min(60.0, self._backoff_s * 2**attempt)
        self._closed.wait(at_least + self._chance.uniform(0, longest))

    def _message(self, response: Any) -> str:
        """What the server says went wrong, on one line, without our key."""
        try:
            said = response.json()
        except (json.JSONDecodeError, UnicodeDecodeError):
            said = response.text
        for name in ("error", "message", "detail"):
            if isinstance(said, Mapping) and name in said:
                said = said[name]
        text = " ".join((said if isinstance(said, str) else json.dumps(said)).split())
        text = text.replace(self._key, "***") if self._key else text
        return text if len(text) <= 200 else text[:199] + "…"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds to wait, from `Retry-After` as seconds or as a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.fromtimestamp(time.time(), UTC)).total_seconds())


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
