"""`ratchet drift`: how far a run's answers moved from the anchor's, without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import DeviceOption, DtypeOption
from harness.cli.session import in_passing
from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.backends.base import Candidate
    from harness.backends.openers import Hardware
    from harness.comparison.drift import Drift
    from harness.core.types import Run
    from harness.core.workspace import Workspace
    from harness.store.store import Store


def drift(
    run: Annotated[str, typer.Argument(help="A run's id, run:ID, bundle:DIR or line:NAME.")],
    against: Annotated[
        str,
        typer.Option("--against", help="The anchor, named in the same way.", show_default=False),
    ],
    limit: Annotated[
        int,
        typer.Option("--limit", min=2, help="Read at most N samples a task, always the same ones."),
    ] = 200,
    model: Annotated[
        str | None,
        typer.Option("--model", help="The anchor's model. Default: the one that was scored."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Measure how far a run's answers moved from the anchor's; no labels needed.

    By their perplexity under the anchor's model, and by their distance in
    meaning. Nothing is generated and nothing is decided; the dashboard's Drift
    page shows what was found.
    """
    from rich.console import Console

    from harness.backends.openers import Hardware
    from harness.cli.progress import bars
    from harness.comparison.drift import keep, measure
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    console = Console()
    workspace = Workspace.at().ensure()
    with Store(workspace, on_wait=in_passing(console)) as store:
        ours, anchor = _run(run, store, workspace), _run(against, store, workspace)
        hardware = Hardware.choose(device, dtype)
        opened = _model(model, anchor, store, workspace, hardware)
        with bars(console) as progress:
            found = measure(store, ours, anchor, opened, limit=limit, progress=progress)
        keep(store, ours, anchor, found, limit)
    _show(found, ours, anchor)


def _run(name: str, store: Store, workspace: Workspace) -> Run:
    from harness.evaluation.references import find_named_run
    from harness.registry.registry import Registry
    from harness.store.runs import require_run

    if name.startswith("line:"):
        promoted = Registry(workspace, store).promoted(name.removeprefix("line:"))
        if promoted is None or promoted.run_id is None:
            raise UserError(
                f"{name} has no promoted checkpoint that was scored",
                hint="name a run: `ratchet runs`",
            )
        return require_run(store, promoted.run_id)
    return find_named_run(name, store) or require_run(store, name)


def _model(
    named: str | None, anchor: Run, store: Store, workspace: Workspace, hardware: Hardware
) -> Candidate:
    """The anchor's model by its bytes: the named one, the registry's, else the name it had."""
    from harness.evaluation.open_model import open_model

    name = named or _registered(anchor, store, workspace) or anchor.model
    found = open_model(name, workspace, store, hardware=hardware)
    if found.digest != anchor.model_digest:
        raise UserError(
            f"{name} is not the model of run {anchor.id}: its weights differ",
            hint="name the one that was scored: --model FOLDER",
        )
    return found


def _registered(anchor: Run, store: Store, workspace: Workspace) -> str | None:
    rows = store.query(
        "SELECT digest FROM checkpoints WHERE run_id = ? ORDER BY seq DESC LIMIT 1", [anchor.id]
    )
    place = workspace.checkpoints / rows[0]["digest"] if rows else None
    return str(place) if place is not None and place.is_dir() else None


def _show(found: list[Drift], run: Run, anchor: Run) -> None:
    from rich.console import Console
    from rich.text import Text

    from harness.core.format import number
    from harness.report.table import FittedTable

    console = Console()
    console.print(Text(f"{run.model} (run:{run.id}) against {anchor.model} (run:{anchor.id})"))
    table = FittedTable(
        ("task", "measure", "value", "95% interval", "the anchor's own", "samples"),
        left=frozenset({"measure"}),
    )
    for drift in found:
        one = drift.found
        ends = "" if one.low is None else f"{number(one.low)} … {number(one.high)}"
        own = "" if drift.own is None else number(drift.own)
        left = f" ({drift.left_out} left out)" if drift.left_out else ""
        words = (_NAMES[drift.measure], number(one.value), ends, own, f"{one.n}{left}")
        table.add(drift.task, *words)
    console.print(table)
    console.print("see it: ratchet dashboard, under Drift")


_NAMES = {
    "perplexity": "perplexity under the anchor",
    "meaning": "distance in meaning, 0 to 2",
}
