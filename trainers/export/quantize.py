"""Makes a copy of a model with fewer bits to a weight.

It is a model folder like any other, so that what the bits cost is decided by the gate:
`ratchet gate ./int8 --against ./model`. Needs the extra `quantize` (torchao).
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.files import staged
from harness.core.quiet import quiet_libraries
from harness.core.workspace import Workspace
from harness.models.architecture import auto_class, other_parts, whole_class
from harness.models.other_files import keep_processor
from harness.models.resolve import ModelFiles, load, resolve
from trainers.export.export import PROBE, merged_of, require_mergeable

Bits = Literal["int8", "int4"]

GROUP = 32
"""Weights that share a scale in int4; int8 has one for each row."""

_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: bytes of its weight files, seconds to read the probe's texts (the median of
    interleaved rounds, on this machine), and its mean NLL over their tokens, in nats.
    """

    bytes: int
    seconds: float
    nll: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """Where it lies, and both sides."""

    folder: Path
    bits: Bits
    before: Side
    after: Side


def quantize(
    files: ModelFiles,
    to: Path,
    bits: Bits,
    *,
    card: str,
    workspace: Workspace,
    say: Callable[[str], None] = lambda message: None,
) -> Quantized:
    """Write `files`, an adapter merged, to the new folder `to` with weights of `bits`.

    The weights of linear layers are rounded to the nearest, symmetrically; embeddings, norms, the
    head and the parts of a model that read no text stay as they are. `int4` is rounded to four bits
    and stored in eight, which every device can read: it shows what four bits cost, and saves no
    more space than int8.

    Raises UserError where `to` is there already, where torchao is missing, where an adapter can't
    be merged, and where what was written doesn't answer as it did before it was written.
    """
    if to.exists():
        raise UserError("there is something already", file=to, hint="name a folder that is new")
    rounding = _rounding(bits)
    require_mergeable(files)
    from transformers import TorchAoConfig

    say(f"Loading {files.name}")
    model, tokenizer = load(files)
    merged = merged_of(model)
    if whole_class(files.folder) is not None:
        say("Written is the language model alone: its class has no place for what reads images")
    # None is what the library skips by itself: the head.
    skipped = [*other_parts(merged), *_head_of(merged)] if other_parts(merged) else None
    make_config: Any = TorchAoConfig
    with staged(to, manifest=False) as folder, quiet_libraries():
        with tempfile.TemporaryDirectory(dir=workspace.ensure().cache) as whole:
            merged.save_pretrained(whole)
            before = _weight_bytes(Path(whole))
            say(f"Rounding to {bits}")
            automatic = auto_class(merged.config, Path(whole))
            rounded: Any = automatic.from_pretrained(
                whole,
                quantization_config=make_config(rounding, modules_to_not_convert=skipped),
                dtype="float32",
            )
            rounded.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if skipped:
            keep_processor(files.folder, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        say("Asking what was written beside the original")
        written, _ = load(resolve(str(folder), workspace))
        asked = _asked(tokenizer)
        if not all(_equal(rounded, written, ids) for ids in asked):
            raise UserError(
                "the quantized model answers otherwise once it is written",
                file=to,
                hint="please report this with the version of torchao: nothing was written",
            )
        after = _weight_bytes(folder)
        seconds = _seconds(merged, written, asked)
        sides = [
            Side(size, median, _nll(one, asked))
            for size, median, one in zip((before, after), seconds, (merged, written), strict=True)
        ]
    return Quantized(to, bits, *sides)


def _head_of(model: Any) -> list[str]:
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if module is head]


def _rounding(bits: Bits) -> Any:
    try:
        import torch
        from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup
    except ImportError as error:
        raise UserError(
            f"torchao is not installed: {error}", hint="pip install 'ratchet-eval[quantize]'"
        ) from None
    if bits == "int8":
        return Int8WeightOnlyConfig()
    four: Any = torch.int4  # type: ignore[attr-defined]
    return IntxWeightOnlyConfig(weight_dtype=four, granularity=PerGroup(GROUP))


def _asked(tokenizer: Any) -> list[Any]:
    import torch

    return [torch.tensor([tokenizer.encode(t, add_special_tokens=False)]) for t in PROBE]


def _logits(model: Any, ids: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(ids).logits.float()


def _equal(one: Any, other: Any, ids: Any) -> bool:
    import torch

    return torch.allclose(_logits(one, ids), _logits(other, ids), rtol=1e-4, atol=1e-4)


def _nll(model: Any, asked: list[Any]) -> float:
    import torch

    total, count = 0.0, 0
    for ids in asked:
        logits = _logits(model, ids)[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += logits.shape[0]
    mean = total / count
    if not math.isfinite(mean):
        raise UserError("the quantized model's likelihoods are not numbers", hint="use int8")
    return mean


def _seconds(one: Any, other: Any, asked: list[Any]) -> tuple[float, float]:
    """Each model's median time over interleaved rounds, the first of which is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(_ROUNDS + 1):
        for model, taken in zip((one, other), times, strict=True):
            began = time.perf_counter()
            for ids in asked:
                _logits(model, ids)
            if number:
                taken.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def _weight_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))
