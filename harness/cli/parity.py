"""`ratchet parity`: whether a served model answers like the checkpoint it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import (
    ALL_SHOWS,
    AllOption,
    DeviceOption,
    LimitOption,
    SeedOption,
    SuiteOption,
)
from harness.cli.progress import bars
from harness.cli.session import in_passing

if TYPE_CHECKING:
    from rich.console import Console

    from harness.backends.base import Candidate
    from harness.comparison.parity import Divergence, Parity
    from harness.core.workspace import Workspace
    from harness.store.store import Store


def parity(
    model: Annotated[
        str, typer.Argument(help="The checkpoint: a folder, a hub id or an embedded name.")
    ],
    suite: SuiteOption,
    between: Annotated[
        tuple[str, str],
        typer.Option(
            "--between",
            help="Two backends: live, live:DTYPE, vllm, openai:URL#MODEL, openai:FILE.yaml.",
        ),
    ] = ("live:float32", "live:bfloat16"),
    limit: LimitOption = None,
    seed: SeedOption = 0,
    show: Annotated[
        int, typer.Option("--show", min=0, help="How many diverging answers to show.")
    ] = 3,
    everything: AllOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Score one checkpoint behind two backends, and compare each with the other.

    Without --between: what rounding alone does to each metric of the suite.
    Exits 0 where neither is worse by more than the margin, 1 where one is, 2
    where the suite is too small to tell, 3 where they can't be compared.
    """
    from rich.console import Console

    from harness.comparison.parity import parity as decide
    from harness.core.errors import UserError
    from harness.core.workspace import Workspace
    from harness.evaluation.plan import Extent
    from harness.evaluation.runner import score
    from harness.store.store import Store
    from harness.suite.load import load_suite

    console = Console()
    loaded = load_suite(suite)
    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=in_passing(console)) as store:
        sides = [_open(side, model, workspace, store, device, console) for side in between]
        if sides[0].digest != sides[1].digest:
            raise UserError(
                f"{between[0]} and {between[1]} are not the same checkpoint",
                hint=f"a server's description must not name other `weights:` than {model}",
            )
        if sides[0].subject == sides[1].subject:
            raise UserError(
                "both sides are the same backend", field="--between", hint="name two different ones"
            )
        with bars(console) as progress:
            first, second = (
                score(
                    side,
                    loaded,
                    store,
                    seed=seed,
                    limit=limit,
                    extent=Extent(reserve=1.0),
                    progress=progress,
                ).run
                for side in sides
            )
        found = decide(store, first, second, loaded, loaded.policy)
    _show(found, between, show, console, everything=everything)
    raise typer.Exit(found.outcome.exit_code)


def _open(
    side: str, model: str, workspace: Workspace, store: Store, device: str, console: Console
) -> Candidate:
    from harness.backends.openers import Hardware
    from harness.core.errors import UserError
    from harness.evaluation.open_model import open_model

    say = in_passing(console)
    kind, _, dtype = side.partition(":")
    if kind == "openai":
        from harness.backends.openai.open import open_served

        return open_served(side, workspace, weights=model, say=say)
    if kind == "live":
        hardware = Hardware.choose(device, dtype or "auto")
        return open_model(model, workspace, store, hardware=hardware, say=say)
    if side == "vllm":
        return open_model(f"vllm:{model}", workspace, store, say=say)
    raise UserError(
        f"{side!r} is not a backend",
        field="--between",
        hint="live, live:DTYPE, vllm, openai:URL#MODEL or openai:FILE.yaml",
    )


def _show(
    found: Parity, between: tuple[str, str], show: int, console: Console, *, everything: bool
) -> None:
    from rich.text import Text

    from harness.core.fingerprint import part_differences
    from harness.report.console import verdict_view

    there, back = found.there, found.back
    console.print(Text(f"{there.anchor.model}: {between[0]} and {between[1]}", "bold"))
    subjects = (run.fingerprint.subject for run in (there.anchor, there.candidate))
    for difference in part_differences(*subjects):
        console.print(Text(f"  compared: {difference}", "dim"))
    for decision, side in ((there, between[1]), (back, between[0])):
        console.print(Text(f"{side} compared with the other", "bold"))
        console.print(verdict_view(decision.verdict, everything=everything, more=ALL_SHOWS))
    if "prompts" in there.verdict.notes:
        console.print(Text(f"prompts: {there.verdict.notes['prompts']}", "yellow"))
    if found.compared:
        console.print(f"{found.same} of {found.compared} greedy answers are the same to the letter")
    if found.logprob_gap is not None:
        gap = found.logprob_gap
        console.print(
            f"log-probabilities of {gap.tokens} tokens: median difference {gap.median:.2g} "
            f"nats, largest {gap.largest:.2g} (sample {gap.sample_id})",
            highlight=False,
        )
    for divergence in found.divergences[:show]:
        _show_divergence(divergence, between, console)
    console.print(Text(_SAID[found.outcome.value], "bold"))


_SAID = {
    "pass": "PARITY: neither side is worse than the other by more than the margin.",
    "fail": "NO PARITY: one side is worse than the other by more than the margin.",
    "inconclusive": "UNDECIDED: these samples are too few to tell.",
    "incomparable": "INCOMPARABLE: the two runs can't be compared.",
}


def _show_divergence(divergence: Divergence, between: tuple[str, str], console: Console) -> None:
    from rich.text import Text

    at = divergence.at
    console.print(Text(f"{divergence.task}/{divergence.sample_id} differs from character {at} on:"))
    begin = max(0, at - 24)
    for side, text in zip(between, (divergence.first, divergence.second), strict=True):
        shown = (
            ("…" if begin else "") + text[begin : at + 48] + ("…" if at + 48 < len(text) else "")
        )
        console.print(Text(f"  {side.partition(':')[0]:>8}  {shown!r}", "dim"))
