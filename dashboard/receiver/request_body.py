"""Reads the body of a request in bounded memory and refuses what is too large."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

LIMIT = 4 * 2**20
"""Most bytes of one body, unpacked: a small gzip may unpack to gigabytes."""
IN_FLIGHT = 64 * 2**20
"""Most bytes of all bodies that are being read or wait to be durable, so that a slow disk costs
senders a retry and never this process its memory."""
LEAST = 4096
"""Bytes that a request is charged besides its body, so that many empty ones are bounded too."""
PATIENCE_S = 30.0
"""Seconds within which a body must arrive: a sender that stalls would hold its share for good."""


class TurnedAway(Exception):  # noqa: N818 - an answer to a sender
    """A request that is refused as a whole: HTTP status, why, and seconds after which to retry."""

    def __init__(self, status: int, what: str, retry_after: int | None = None) -> None:
        self.status = status
        self.what = what
        self.retry_after = retry_after
        super().__init__(what)


class Budget:
    """Bytes that all requests in flight may hold together."""

    def __init__(self, total: int = IN_FLIGHT) -> None:
        self.total = total
        self.used = 0

    @contextmanager
    def share(self) -> Iterator[Share]:
        """One request's share, given back when the request ends, however it ends."""
        share = Share(self)
        try:
            yield share
        finally:
            self.used -= share.held


class Share:
    """What one request holds of the budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held = 0

    def grow(self, size: int) -> None:
        """Hold at least `size` bytes. Raises TurnedAway(429) where the budget is used up."""
        more = max(0, size - self.held)
        if self._budget.used + more > self._budget.total:
            raise TurnedAway(429, "too much is waiting to be written; send it again", 1)
        self._budget.used += more
        self.held += more


def headers(request: Request) -> dict[bytes, bytes]:
    """The headers as they came, names in lower case.

    Starlette's own searches all of them at each access, which shows at thousands of requests a
    second.
    """
    return dict(request.scope["headers"])


async def read_body(request: Request, share: Share, limit: int = LIMIT) -> bytes:
    """The body, unpacked if it is gzip. Raises TurnedAway: 400, 408, 413, 415 or 429."""
    named = headers(request)
    encoding = named.get(b"content-encoding", b"identity").lower()
    if encoding not in (b"identity", b"gzip"):
        raise TurnedAway(415, "content-encoding is gzip or none")
    declared = named.get(b"content-length", b"")
    length = int(declared) if declared.isdigit() else 0
    if length > limit:
        raise _too_large(limit)
    share.grow(LEAST + length)
    # Unpacked piece by piece, each time to at most one byte over the limit: a gzip bomb is refused
    # before it takes any memory. A declared length may be wrong, so what arrives is counted too.
    unpack = zlib.decompressobj(wbits=31) if encoding == b"gzip" else None
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for chunk in request.stream():
                body += unpack.decompress(chunk, limit + 1 - len(body)) if unpack else chunk
                if len(body) > limit or (unpack and unpack.unconsumed_tail):
                    raise _too_large(limit)
                share.grow(LEAST + len(body))
    except TimeoutError:
        raise TurnedAway(408, f"the body did not come within {PATIENCE_S:.0f} s") from None
    except ClientDisconnect:
        raise TurnedAway(400, "the body was cut off") from None
    except zlib.error:
        raise TurnedAway(400, "the body is not gzip") from None
    if unpack and not unpack.eof:
        raise TurnedAway(400, "the gzip body is cut off")
    return bytes(body)


def _too_large(limit: int) -> TurnedAway:
    return TurnedAway(413, f"a body has at most {limit:,} bytes; send less at a time")
