"""A base that is read once while several adapters on it, or it alone, are asked in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core.quiet import quiet_libraries
from harness.models.adapter import exchanged
from harness.models.resolve import ModelFiles, load


class KeptBase:
    """Holds the model that was read last. What is loaded through it takes the place of what was
    loaded before, which must not be asked any more: both may stand on the same weights. What
    must be read whole is read by `read`, which takes what `resolve.load` does.
    """

    def __init__(self, read: Callable[..., tuple[Any, Any]] | None = None) -> None:
        self._read = read or load
        self._held: tuple[ModelFiles, tuple[Any, ...], Any, Any] | None = None

    def load(self, files: ModelFiles, *, dtype: str, device: str) -> tuple[Any, Any]:
        """(model, tokenizer), as `resolve.load` gives them, and raising as it does."""
        held, self._held = self._held, None
        base = files.folder, _bytes_of(files.folder), dtype, device
        found = None
        if held is not None and held[1] == base:
            found = self._again(held[0], files, *held[2:])
        del held  # two models at once need not fit
        model, tokenizer = found or self._read(files, dtype=dtype, device=device)
        self._held = files, base, model, tokenizer
        return model, tokenizer

    def _again(
        self, before: ModelFiles, files: ModelFiles, model: Any, tokenizer: Any
    ) -> tuple[Any, Any] | None:
        if before.digest == files.digest:
            return model, tokenizer
        if before.tokenizer != files.tokenizer or files.tokenizer == files.adapter:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(files.tokenizer)
        try:
            with quiet_libraries():
                changed = exchanged(model, files.adapter)
        except Exception:  # noqa: BLE001 -- whatever is wrong with the files, `load` says it
            return None
        return None if changed is None else (changed, tokenizer)


def _bytes_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells that a base is still the one that was read: a training writes checkpoint-9 again
    after a rollback.
    """
    found = ((path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)
