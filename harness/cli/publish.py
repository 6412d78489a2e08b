"""`ratchet publish`: sends results to MLflow, W&B, TensorBoard and model cards."""

from __future__ import annotations

from typing import Annotated

import typer

EXPORTERS = {
    "tensorboard": "harness.interop.exporters.tensorboard",
    "mlflow": "harness.interop.exporters.mlflow",
    "wandb": "harness.interop.exporters.wandb",
    "model-index": "harness.interop.exporters.model_index",
}


def publish(
    runs: Annotated[
        list[str], typer.Argument(help="run:ID, or training:ID for all runs of a training.")
    ],
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            help="tensorboard:DIR, mlflow:URI, wandb:PROJECT or model-index:README.md.",
            show_default=False,
        ),
    ],
) -> None:
    """Send results of runs to MLflow, Weights & Biases, TensorBoard or a model card."""
    from importlib import import_module

    from rich.console import Console

    from harness.core.errors import UserError
    from harness.core.workspace import Workspace
    from harness.interop.exporters.results import results_of
    from harness.store.runs import require_run
    from harness.store.store import Store

    places = [one.partition(":")[::2] for one in to]
    for kind, _ in places:
        if kind not in EXPORTERS:
            raise UserError(
                f"results can't be sent to {kind!r}",
                field="--to",
                hint=f"one of {', '.join(EXPORTERS)}",
            )
    console = Console(soft_wrap=True)
    with Store(Workspace.at().ensure()) as store:
        ids = [found for name in runs for found in _ids(name, store)]
        for run_id in ids:
            results = results_of(store, require_run(store, run_id))
            for kind, place in places:
                said = import_module(EXPORTERS[kind]).export(results, place)
                console.print(f"run:{run_id}  {said}", markup=False, highlight=False)


def _ids(name: str, store: object) -> list[str]:
    from harness.core.errors import UserError
    from harness.store.store import Store

    assert isinstance(store, Store)
    kind, _, rest = name.rpartition(":")
    if kind != "training":
        return [rest]
    rows = store.query(
        "SELECT run_id FROM runs WHERE training_id = ? ORDER BY step, started_at", [rest]
    )
    if not rows:
        raise UserError(f"no run belongs to training {rest!r}", hint="`ratchet runs` lists them")
    return [row["run_id"] for row in rows]
