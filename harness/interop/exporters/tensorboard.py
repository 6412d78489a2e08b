"""Runs to TensorBoard: one scalar a metric, at the checkpoint's training step."""

from __future__ import annotations

from pathlib import Path

from harness.core.errors import UserError
from harness.interop.exporters.results import Results, require


def export(results: Results, place: str) -> str:
    """Append to the log folder `place`. Runs of one training share a curve; any other run has a
    folder of its own, at step 0.
    """
    require("tensorboard", "TensorBoard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    run = results.run
    folder = Path(place) / (run.training_id or run.id)
    try:
        with SummaryWriter(str(folder)) as writer:
            for name, value in results.values:
                writer.add_scalar(f"{run.suite}/{name}", value, run.step or 0)
            if run.step is None:
                tags = "\n".join(f"- {key}: {value}" for key, value in results.tags.items())
                writer.add_text("ratchet", tags)
    except OSError as error:
        raise UserError(
            f"the logs can't be written: {error}",
            file=folder,
            hint="fix the folder's permissions, or name another one",
        ) from error
    return f"tensorboard --logdir {place}"
