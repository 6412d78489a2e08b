"""Runs to Weights & Biases: one W&B run each, under its id."""

from __future__ import annotations

import tempfile

from harness.core.errors import UserError
from harness.interop.exporters.results import Results, require


def export(results: Results, place: str) -> str:
    """Log into the project `place` (`ENTITY/PROJECT` or `PROJECT`; `ratchet` where empty). The key
    comes from the environment, as W&B reads it; with WANDB_MODE=offline nothing is sent, and the
    run lies under WANDB_DIR for `wandb sync`.
    """
    import os

    wandb = require("wandb", "Weights & Biases", "wandb")
    run = results.run
    entity, _, project = (place or "ratchet").rpartition("/")
    folder = os.environ.get("WANDB_DIR") or tempfile.mkdtemp(prefix="ratchet-wandb-")
    try:
        target = wandb.init(
            project=project,
            entity=entity or None,
            id=run.id,
            name=run.model,
            group=run.training_id,
            config=results.tags,
            dir=folder,
            resume="allow",
            settings=wandb.Settings(silent=True, console="off"),
        )
        target.log(dict(results.values), step=run.step or 0)
        where = target.url or f"offline in {folder}: wandb sync {target.settings.sync_dir}"
        target.finish()
    except (wandb.errors.Error, OSError) as error:
        raise UserError(
            f"Weights & Biases refused the results: {str(error).splitlines()[0]}",
            hint="set WANDB_API_KEY, or WANDB_MODE=offline",
        ) from None
    return f"W&B run {where}"
