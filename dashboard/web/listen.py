"""Binds a server to its port, or says in one message why it can't."""

from __future__ import annotations

import socket

from harness.core.errors import UserError


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError where the address is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"{host}:{port} can't be listened on: {error.strerror or error}",
            field="--port",
            hint="choose another with --port; 0 takes any free one",
        ) from None
    listener.listen(128)
    return listener
