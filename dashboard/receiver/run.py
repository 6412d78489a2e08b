"""Runs the receiver, on loopback by default, until it is asked to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.store.store import Store
from harness.watch.intake.intake import Counts

if TYPE_CHECKING:
    import uvicorn


def serve(
    store: Store,
    *,
    host: str,
    port: int,
    line: str | None,
    token_file: Path | None,
    body_limit: int,
    in_flight: int,
    ready: Callable[[str, Path | None], None],
) -> Counts:
    """Serve until SIGTERM or Ctrl-C; what was being written then is finished first.

    `ready` is called once it listens, with the URL and the file that holds the tokens (None where
    they come from the environment). `body_limit` and `in_flight` are in bytes. Raises UserError
    where the port is taken or there is no valid token.
    """
    import uvicorn

    from dashboard.receiver.request_body import Budget
    from dashboard.receiver.server import Receiver, make_app
    from dashboard.receiver.tokens import find_tokens
    from dashboard.web.listen import listening
    from harness.watch.intake.intake import Intake

    tokens, where = find_tokens(store.workspace.home, token_file)
    receiver = Receiver(Intake(store, line=line), tokens, body_limit, Budget(in_flight))
    config = uvicorn.Config(
        make_app(receiver),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=10,
    )
    server = uvicorn.Server(config)
    with listening(host, port) as listener, _ending_quietly(server):
        ready(f"http://{host}:{listener.getsockname()[1]}", where)
        server.run(sockets=[listener])
    return receiver.intake.counts


@contextmanager
def _ending_quietly(server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and Ctrl-C end the server and not the process, whose store must still be closed.

    uvicorn handles signals itself only while it runs, and at its end raises once more the one that
    ended it; this covers the time before and after.
    """

    def end(*_: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
