"""What all ways of training a causal language model share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from harness.backends.base import Backend
from harness.models.resolve import ModelFiles
from trainers.config.recipe import Recipe
from trainers.config.schema import RecipeModel, StageModel


class CausalMethod:
    """Opens, scores and loads the language model itself; the other parts of a `Method` are its
    subclasses' own.
    """

    continues = True
    backend_name = "transformers"
    judged_by: frozenset[str] | None = None
    keys: frozenset[str] = frozenset()
    options: type[BaseModel] | None = None
    samples = False
    trained_whole: tuple[str, ...] = ()

    def problem(self, recipe: RecipeModel, stage: StageModel) -> str | None:
        return None

    def rows(self, stage: StageModel, steps: int) -> int:
        return steps * stage.rows_per_step

    def open(
        self,
        recipe: Recipe,
        base: ModelFiles,
        start: Path | None,
        *,
        dtype: str = "float32",
        device: str = "cpu",
    ) -> tuple[Any, Any]:
        from trainers.methods.models import open_causal

        return open_causal(recipe, base, start, dtype=dtype, device=device)

    def load(
        self, files: ModelFiles, *, dtype: str = "float32", device: str = "cpu"
    ) -> tuple[Any, Any]:
        from harness.models.resolve import load

        return load(files, dtype=dtype, device=device)

    def backend(self, model: Any, tokenizer: Any) -> Backend:
        from harness.backends.transformers.backend import TransformersBackend

        return TransformersBackend(model, tokenizer)

    def forget(self, trainer: Any) -> None:
        """Nothing outlives a step."""
