"""A base that is read once while several adapters on it, or it alone, are asked in turn."""

from __future__ import annotations

from typing import Any

from harness.core.quiet import quiet_libraries
from harness.models.adapter import exchanged
from harness.models.resolve import ModelFiles, load


class KeptBase:
    """Holds the model that was read last. What is loaded through it takes the place of what was
    loaded before, which must not be asked any more: both may stand on the same weights.
    """

    def __init__(self) -> None:
        self._held: tuple[ModelFiles, str, str, Any, Any] | None = None

    def load(self, files: ModelFiles, *, dtype: str, device: str) -> tuple[Any, Any]:
        """(model, tokenizer), as `resolve.load` gives them, and raising as it does."""
        held, self._held = self._held, None
        found = None
        if held is not None and (held[0].folder, held[1], held[2]) == (files.folder, dtype, device):
            found = self._again(held, files)
        del held  # two models at once need not fit
        model, tokenizer = found or load(files, dtype=dtype, device=device)
        self._held = files, dtype, device, model, tokenizer
        return model, tokenizer

    def _again(
        self, held: tuple[ModelFiles, str, str, Any, Any], files: ModelFiles
    ) -> tuple[Any, Any] | None:
        before, _, _, model, tokenizer = held
        if before.digest == files.digest:
            return model, tokenizer
        if before.tokenizer != files.tokenizer:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(files.tokenizer)
        try:
            with quiet_libraries():
                changed = exchanged(model, files.adapter)
        except Exception:  # noqa: BLE001 -- whatever is wrong with the files, `load` says it
            return None
        return None if changed is None else (changed, tokenizer)
