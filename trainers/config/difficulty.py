"""How hard each example is for the model itself, measured once before the training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.core.files import write_atomic
from harness.models.resolve import ADAPTER_CONFIG, ModelFiles, load
from trainers.config.curriculum import own_perplexity
from trainers.config.recipe import Stage

FILE = "difficulty.json"


def difficulty_of(
    stage: Stage, base: ModelFiles, start: Path | None, home: Path
) -> Sequence[float] | None:
    """The perplexity of each of the stage's examples under the model that it begins from, where
    the curriculum asks for it; else None. It is kept in `home`, so that a training that goes on
    has the plan that it began with.
    """
    curriculum = stage.data.curriculum
    if curriculum is None or curriculum.by != "perplexity":
        return None
    path = home / FILE
    rows = [example.row for example in stage.examples]
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["rows"] == rows:
            found: list[float] = kept["perplexity"]
            return found
    from harness.backends.transformers.backend import TransformersBackend

    files = base
    if start is not None:
        adapter = start if (start / ADAPTER_CONFIG).exists() else None
        files = ModelFiles(base.name, base.folder if adapter else start, adapter, "")
    measured = own_perplexity(TransformersBackend(*load(files)), stage.examples)
    write_atomic(path, json.dumps({"rows": rows, "perplexity": measured}) + "\n")
    return measured
