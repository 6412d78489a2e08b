"""The verbs `ratchet dashboard`, `ratchet demo-data` and `ratchet alerts`."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.core.errors import UserError

LOOPBACK = "127.0.0.1"
FIRST_PORT = 8501


def dashboard(
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, help="Default: 8501, or the next free one."),
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="Where to listen. Anything but this machine is seen.")
    ] = LOOPBACK,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A name under which browsers may ask for it."),
    ] = None,
    actions: Annotated[
        bool, typer.Option("--actions", help="Offer promote, roll back and mark as anchor.")
    ] = False,
    oidc: Annotated[
        Path | None,
        typer.Option("--oidc", help="Streamlit's secrets.toml with [auth]: a log-in is asked for."),
    ] = None,
) -> None:
    """Show what was measured: lines, verdicts, trends, drift, samples and running trainings.

    Reads the store and never holds up who writes. Ctrl-C ends it; nothing is lost.
    """
    from dashboard.app.settings import ACTIONS_VARIABLE, OIDC_VARIABLE, give_way
    from harness.core.parts import require_part
    from harness.core.workspace import HOME_VARIABLE, Workspace

    # It runs in a process of its own, whose messages are Python's.
    require_part("dashboard", "streamlit")
    if oidc is not None and not oidc.is_file():
        raise UserError(
            "there is no such file",
            file=oidc,
            field="--oidc",
            hint="name a secrets.toml of Streamlit's with a section [auth]",
        )
    if address != LOOPBACK and not allow_host:
        raise UserError(
            f"listening on {address} needs the names under which browsers may ask",
            field="--allow-host",
            hint="name them, as in --allow-host ratchet.example.org, and set a log-in (--oidc)",
        )
    home = Workspace.at().home
    if not home.is_dir():
        raise UserError(
            "there is no workspace here, and the dashboard makes none",
            file=home,
            field="--home",
            hint="name the folder that `ratchet score` or `ratchet train` wrote, or write a "
            "synthetic one: ratchet demo-data --home .ratchet-demo",
        )
    chosen = port or _free_port(address)
    environment = {
        **os.environ,
        HOME_VARIABLE: str(home),
        ACTIONS_VARIABLE: "1" if actions else "0",
        OIDC_VARIABLE: "1" if oidc else "",
    }
    script = Path(__file__).parent / "app" / "main.py"
    options = server_options(address, chosen, allow_host or (), oidc)
    shown = "localhost" if address == LOOPBACK else address
    typer.echo(f"Ratchet is at http://{shown}:{chosen} (Ctrl-C ends it)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "streamlit", "run", str(script), *options]
    give_way()
    os.execve(sys.executable, command, environment)


def server_options(
    address: str, port: int, hosts: list[str] | tuple[str, ...] = (), oidc: Path | None = None
) -> list[str]:
    """Streamlit's settings: this machine only, no error details, nothing sent to anybody."""
    allowed = list(dict.fromkeys([*hosts, "localhost", LOOPBACK]))
    settings = [("server.allowedHosts", host) for host in allowed]
    if oidc is not None:
        settings.append(("secrets.files", str(oidc.resolve())))
    single = {
        "server.address": address,
        "server.port": str(port),
        "server.headless": "true",
        "server.enableXsrfProtection": "true",
        "server.enableStaticServing": "false",
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "client.toolbarMode": "viewer",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": "localhost",
        "runner.magicEnabled": "false",
        "logger.level": "warning",
        "theme.light.primaryColor": "#005B8F",
        "theme.dark.primaryColor": "#56B4E9",
        # Captions are this at 60%, which must still be read.
        "theme.light.textColor": "#16181D",
    }
    settings += single.items()
    return [word for name, value in settings for word in (f"--{name}", value)]


def demo_data(
    nights: Annotated[
        int, typer.Option("--nights", min=1, max=200, help="Models that were made night by night.")
    ] = 18,
) -> None:
    """Write a synthetic history, to try the dashboard on. It is marked as synthetic everywhere.

    Takes half a minute, and an empty workspace: ratchet demo-data --home .ratchet-demo.
    """
    from dashboard.demo.history import write_history
    from harness.core.workspace import Workspace

    workspace = Workspace.at()
    wrote = write_history(workspace, nights=nights, say=typer.echo)
    typer.echo(
        f"{wrote.runs} synthetic runs and {wrote.verdicts} verdicts are in {workspace.home}\n"
        f"look at them: ratchet dashboard --home {workspace.home}"
    )


def alerts(
    webhook: Annotated[
        str | None, typer.Option("--webhook", help="POST what is new there, as JSON.")
    ] = None,
) -> None:
    """Say what needs a human: verdicts to settle, trainings that stand still, margins that shrink.

    With --webhook each thing is told once; run it from cron, or at the end of a CI job.
    """
    from dashboard.alerts import fresh, remember, send
    from dashboard.queries.attention import attention
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    with Store(Workspace.at().require()) as store:
        items = attention(store) if webhook is None else fresh(store)
        for item in items:
            typer.echo(f"{item.level}: {item.sentence}")
        if not items:
            typer.echo("nothing new" if webhook else "nothing needs a human")
        if webhook is not None:
            if items:
                send(webhook, items)
            remember(store)


def _free_port(address: str) -> int:
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise UserError("no port from 8501 to 8600 is free", field="--port", hint="name one: --port N")
