"""Messages between the sandbox's processes: four bytes of length, then JSON in ASCII."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

MAXIMUM = 16 * 1024 * 1024
"""Bytes of one message from a program. More is refused before any of it is read."""

UNBOUNDED = 2**32 - 1
"""For messages among the sandbox's own processes."""

HEADER = 4


class Lost(BaseException):
    """The other end is gone."""


class Garbled(BaseException):
    """The other end sent what no honest sender sends."""


def frame(body: str) -> bytes:
    """A message as bytes. `body` is JSON in ASCII."""
    data = body.encode("ascii")
    return len(data).to_bytes(HEADER, "big") + data


def send(channel: socket.socket, message: Any) -> None:
    """Send a message; raises Lost where nobody listens."""
    try:
        channel.sendall(frame(json.dumps(message)))
    except (BrokenPipeError, ConnectionResetError):
        raise Lost from None


def receive(
    channel: socket.socket,
    maximum: int = UNBOUNDED,
    hook: Callable[[dict[str, Any]], Any] | None = None,
) -> Any:
    """Wait for a message; raises Lost at the end of the stream, Garbled for nonsense."""
    length = int.from_bytes(_exactly(channel, HEADER), "big")
    if length > maximum:
        raise Garbled(f"a message of {length} bytes")
    body = _exactly(channel, length)
    try:
        return json.loads(body, object_hook=hook)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise Garbled(f"a message that is no message: {type(error).__name__}") from None


def _exactly(channel: socket.socket, count: int) -> bytes:
    try:
        data = channel.recv(min(count, 65536)) if count else b""
        if len(data) == count:
            return data
        parts, missing = [data], count - len(data)
        while missing:
            if not data:
                raise Lost
            data = channel.recv(min(missing, 1 << 20))
            parts.append(data)
            missing -= len(data)
    except ConnectionResetError:
        raise Lost from None
    return b"".join(parts)
