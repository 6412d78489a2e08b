"""`ratchet watch`: takes in observations of production, judges them, and acts on the verdict."""

from __future__ import annotations

import typer

from dashboard.receiver.cli_ingest import ingest, serve
from harness.cli.watch_answer import answer
from harness.cli.watch_canary import canary, ramp
from harness.cli.watch_check import check, policy, status
from harness.cli.watch_harvest import harvest, review

watch = typer.Typer(
    help="Watch a promoted model in production: is it still as good as it was?",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


watch.command("ingest")(ingest)
watch.command("serve")(serve)
watch.command("check")(check)
watch.command("status")(status)
watch.command("answer")(answer)
watch.command("policy")(policy)
watch.command("canary")(canary)
watch.command("ramp")(ramp)
watch.command("harvest")(harvest)
watch.command("review")(review)
