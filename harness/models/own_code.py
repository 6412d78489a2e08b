"""Refuses models that bring their own program: Ratchet runs no code out of a model's folder."""

from __future__ import annotations

import json
from pathlib import Path

from harness.core.errors import UserError


def require_no_own_code(name: str, folder: Path) -> None:
    """Raises UserError where the model in `folder` is of a kind that the installed transformers
    doesn't know and that comes with code (`auto_map` in config.json). transformers would ask on
    the console whether to run it.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(config, dict) or not config.get("auto_map"):
        return
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = config.get("model_type")
    if kind not in CONFIG_MAPPING:
        raise UserError(
            f"{name!r} comes with code of its own for models of the type {kind!r}, and no such "
            "code is run",
            file=folder / "config.json",
            field="auto_map",
            hint="take a model of a type that the installed transformers knows, or a newer "
            "transformers",
        )
