"""Messages between the sandbox's processes: four bytes of length, then JSON in ASCII."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Callable
from typing import Any

MAXIMUM = 8 * 1024 * 1024
"""The most bytes of one message from a program. A longer one is refused before it is read."""

UNBOUNDED = 2**32 - 1
"""For messages among the sandbox's own processes."""

HEADER = 4
MOST_DESCRIPTORS = 4


_CONSTANTS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""The one NaN that tests can name, so that `[math.nan] == answer` holds as in one process."""


class Lost(BaseException):
    """The other end of a channel is closed. Not an Exception, so that no `except Exception` in
    tests or programs catches it.
    """


class Garbled(BaseException):
    """The other end sent what is not a message: a program that tampers with its channel."""


def frame(body: str) -> bytes:
    """A message as bytes: its length, then `body`, which is JSON in ASCII."""
    data = body.encode("ascii")
    return len(data).to_bytes(HEADER, "big") + data


def send(channel: socket.socket, message: Any) -> None:
    """Send a message; raises Lost where the other end is closed."""
    try:
        channel.sendall(frame(json.dumps(message)))
    except (BrokenPipeError, ConnectionResetError):
        raise Lost from None


def send_with(channel: socket.socket, message: Any, descriptors: list[int]) -> None:
    """Send a short message with open file descriptors. Raises Lost as `send` does."""
    try:
        socket.send_fds(channel, [frame(json.dumps(message))], descriptors)
    except (BrokenPipeError, ConnectionResetError):
        raise Lost from None


def receive_with(channel: socket.socket) -> tuple[Any, list[int]]:
    """Wait for a message and the descriptors that came with it; raises Lost as `receive` does."""
    header, descriptors, _, _ = socket.recv_fds(channel, HEADER, MOST_DESCRIPTORS)
    if len(header) < HEADER:
        raise Lost
    return json.loads(_exactly(channel, int.from_bytes(header, "big"))), descriptors


def scratch() -> int:
    """A descriptor of a file without a name, in memory where the system supports that."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("scratch")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


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
        if hook is None:
            return json.loads(body)
        return json.loads(body, object_hook=hook, parse_constant=_CONSTANTS.__getitem__)
    except (ValueError, TypeError, KeyError, RecursionError, ArithmeticError) as error:
        raise Garbled(f"a message that is not a message: {type(error).__name__}") from None


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
