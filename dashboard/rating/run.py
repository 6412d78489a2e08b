"""Runs the rating server: one per workspace, on loopback by default."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dashboard.web.listen import listening
from harness.core.errors import UserError
from harness.store.store import Store


def serve(
    store: Store,
    *,
    only: str | None,
    host: str,
    port: int,
    allow: Sequence[str],
    ready: Callable[[str], None],
) -> None:
    """Serve until interrupted. `ready` is called with the server's URL once it listens.

    `only` is the id of the one session to serve, None for all; `allow` are more host names.

    Raises UserError where the port is taken, or another server has this workspace: two servers
    would choose pairs without knowing of each other's votes.
    """
    import filelock
    import uvicorn

    from dashboard.rating.server import make_app

    lock = filelock.FileLock(store.workspace.home / "rating.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UserError(
            "a rating server runs for this workspace already",
            file=store.workspace.home,
            hint="use that one, or stop it first",
        ) from None
    with lock, listening(host, port) as listener:
        hosts = ["localhost", "127.0.0.1", "[::1]", *allow]
        if host not in ("0.0.0.0", "::"):
            hosts.append(host)
        # No access log: a link is as good as a password, and every path contains one.
        config = uvicorn.Config(
            make_app(store, only=only, hosts=hosts),
            log_level="warning",
            access_log=False,
            server_header=False,
            # A rater reads for longer than a connection is usually kept open.
            timeout_keep_alive=120,
            timeout_graceful_shutdown=5,
        )
        ready(f"http://{host}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])
