"""`ratchet watch ingest` and `ratchet watch serve`: observations from a file or over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from harness.watch.intake.intake import Counts
    from harness.watch.intake.observation import Refused

SAID = 20
"""Refusals that are printed one by one; all are counted."""

LineOption = Annotated[
    str | None,
    typer.Option("--line", help="The line of observations that name neither line nor model."),
]


def ingest(
    source: Annotated[
        Path,
        typer.Argument(
            help="JSONL or Parquet, a folder of them, or - for lines from stdin.",
            show_default=False,
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", help="Keep reading what is written, until Ctrl-C.")
    ] = False,
    line: LineOption = None,
) -> None:
    """Take in observations from files; started again, it goes on where it was.

    Exits 3 where something was refused and nothing was taken in.
    """
    import sys

    from harness.core.workspace import Workspace
    from harness.store.store import Store
    from harness.watch.intake.files import Follower, read_stream
    from harness.watch.intake.intake import Intake

    _check_line(line)
    with Store(Workspace.at().ensure()) as store:
        intake = Intake(store, line=line)
        tell = _Teller()
        with _until_told() as stop:
            if str(source) == "-":
                read_stream(sys.stdin.buffer, intake, tell, stop)
            else:
                Follower(source, intake, tell).run(follow=follow, stop=stop)
        _summary(intake.counts)
        counts = intake.counts
    if counts.refused and not counts.accepted + counts.duplicates:
        raise typer.Exit(3)


def serve(
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0: any free one.")
    ] = 4318,
    line: LineOption = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file", help="A file of accepted tokens, one a line.", show_default=False
        ),
    ] = None,
    body_limit: Annotated[
        float, typer.Option("--body-limit", min=0.001, help="Most MiB of one request, unpacked.")
    ] = 4.0,
    in_flight: Annotated[
        float,
        typer.Option("--in-flight", min=0.01, help="Most MiB of all open requests; else 429."),
    ] = 64.0,
) -> None:
    """Receive observations over HTTP: plain JSON on /v1/observations, OTLP on /v1/traces.

    Senders need a bearer token: from --token-file, from RATCHET_WATCH_TOKENS, or
    from a file in the workspace that is made on first use.
    """
    from dashboard.receiver.run import serve as run_server
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    def ready(url: str, tokens: Path | None) -> None:
        typer.echo(f"receiving at {url}/v1/observations and {url}/v1/traces")
        typer.echo(f"tokens: {tokens}" if tokens else "tokens: from RATCHET_WATCH_TOKENS")
        if host not in ("127.0.0.1", "::1", "localhost"):
            typer.echo(
                "other machines can reach it without TLS: put a proxy with TLS before it", err=True
            )

    _check_line(line)
    with Store(Workspace.at().ensure()) as store:
        counts = run_server(
            store,
            host=host,
            port=port,
            line=line,
            token_file=token_file,
            body_limit=int(body_limit * 2**20),
            in_flight=int(in_flight * 2**20),
            ready=ready,
        )
        _summary(counts)


def _check_line(line: str | None) -> None:
    from harness.registry.lines import check_name

    if line is not None:
        check_name(line)


class _Teller:
    """Prints the first refusals on stderr, one a line."""

    def __init__(self) -> None:
        self._said = 0

    def __call__(self, file: Path | None, line: int, refusal: Refused) -> None:
        self._said += 1
        if self._said <= SAID:
            where = f"{file}:{line}" if file else f"line {line}"
            typer.echo(f"refused: {where}: {refusal.what}", err=True)
        elif self._said == SAID + 1:
            typer.echo("further refusals are only counted", err=True)


def _summary(counts: Counts) -> None:
    said = counts.said()
    typer.echo(
        f"{said['accepted']} observations taken in, {said['duplicates']} were there already, "
        f"{said['refused']} refused; {said['masked']} personal data masked"
    )
    if counts.refused:
        parts = [f"{count} by {name}" for name, count in said["refused_by_field"].items()]
        typer.echo(f"refused: {', '.join(parts)}")
    if counts.clocks:
        typer.echo(f"{counts.clocks} came from a clock that is ahead of this machine's")


class _until_told:  # noqa: N801 - reads as a phrase where it is used
    """While it is entered, Ctrl-C and SIGTERM don't kill the process: calling it returns True, and
    the reader ends after what it is writing.
    """

    def __enter__(self) -> _until_told:
        import signal

        self._told = False
        self._before = {
            number: signal.signal(number, self._tell) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __call__(self) -> bool:
        return self._told

    def _tell(self, *_: object) -> None:
        self._told = True

    def __exit__(self, *_: object) -> None:
        import signal

        for number, handler in self._before.items():
            signal.signal(number, handler)
