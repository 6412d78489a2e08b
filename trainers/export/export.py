"""Writes a promoted model to a folder of its own: merged, as an adapter, or ready for llama.cpp.

What was written is loaded again and compared with the original before it gets its name.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.files import staged
from harness.core.quiet import quiet_libraries
from harness.core.workspace import Workspace
from harness.models.architecture import other_parts
from harness.models.other_files import keep_processor
from harness.models.resolve import ADAPTER_CONFIG, ModelFiles, load, resolve
from trainers.config.start import BEFORE_A_TEXT
from trainers.export.other_parts import carry_over, in_its_whole

GENERATION_CONFIG = "generation_config.json"
Form = Literal["merge", "adapter", "gguf-ready"]

TOLERANCE = 1e-5
"""How far a logit of the exported fp32 model may lie from the original's, as a share of the
largest. Another order of summation alone moves them by some 2e-6."""
ROUNDINGS = 4
"""A model that rounding moves farther may lie so many times as far away as it moves where each of
its weights is off by its last bit."""

PROBE = (
    "The quick brown fox jumps over the lazy dog, and two people book a table at seven.",
    "请帮我预订今天晚上七点的两人桌，名字是李先生。",
    '{"intent": "book_table", "people": 2}',
)

_OF_THE_TOKENIZER = ("tokenizer", "special_tokens", "chat_template", "vocab", "merges")

# What the config calls it, and what llama.cpp does where the two differ.
_GGUF_NAMES = {
    "mistral": "llama",
    "gemma3_text": "gemma3",
    "gpt_neox": "gptneox",
    "phi": "phi2",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
}


@dataclass(frozen=True, slots=True)
class Exported:
    """Where it lies, and how far its logits are from the original's, as a share of the largest."""

    folder: Path
    form: Form
    difference: float


def export(
    files: ModelFiles,
    to: Path,
    form: Form,
    *,
    card: str,
    workspace: Workspace,
    dtype: str = "float32",
    say: Callable[[str], None] = lambda message: None,
) -> Exported:
    """Write `files` to the new folder `to`, with `card` as its README.md.

    Of a model of images and text all other parts are kept as they are, and so are the base's
    generation config and what reads its images. Raises UserError where `to` is there already, where
    there is no adapter to export, or one that can't be merged, where llama.cpp has no name for a
    tensor, and where the result doesn't answer as the original does.
    """
    if to.exists():
        raise UserError("there is something already", file=to, hint="name a folder that is new")
    if form == "adapter" and files.adapter is None:
        raise UserError(
            f"{files.name!r} is a whole model: there is no adapter to export",
            hint="use --merge or --gguf-ready",
        )
    if form != "adapter":
        require_mergeable(files)
    say(f"Loading {files.name}")
    model, tokenizer = load(files)
    asked = _logits(model, tokenizer)
    with staged(to, manifest=False) as folder, quiet_libraries():
        if form == "adapter":
            _write_adapter(files, folder)
        else:
            tokenizer.save_pretrained(folder)
            _write_merged(model, files, folder, dtype, form, say)
        if form == "gguf-ready":
            _make_ready(folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        say("Asking what was written beside the original")
        difference, allowed = _difference(asked, folder, files, form, workspace)
        # Rounding to a shorter format moves every answer; what is checked is that it loads.
        if not difference <= allowed and dtype == "float32":
            raise UserError(
                f"the exported model's logits are off by {difference:.2g} of the largest",
                file=to,
                hint="please report this: nothing was written",
            )
    return Exported(to, form, difference)


def require_mergeable(files: ModelFiles) -> None:
    """Raises UserError for an adapter that is no change of the base's weights."""
    if files.adapter is None:
        return
    path = files.adapter / ADAPTER_CONFIG
    kind = json.loads(path.read_text(encoding="utf-8")).get("peft_type")
    if kind in BEFORE_A_TEXT:
        raise UserError(
            f"an adapter of the kind {kind} stands before a text, and can't be merged into weights",
            file=path,
            hint="export it with --adapter",
        )


def merged_of(model: Any) -> Any:
    """The language model alone, with the adapter merged where there is one."""
    merged = model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
    # PPO's value head is not part of the language model.
    if hasattr(merged, "value_head"):
        del merged.value_head
    return merged


def _write_merged(
    model: Any,
    files: ModelFiles,
    folder: Path,
    dtype: str,
    form: Form,
    say: Callable[[str], None],
) -> None:
    import torch

    merged = merged_of(model)
    if form == "gguf-ready":
        # The language model alone: llama.cpp has other files for what reads images.
        merged.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True)
        return
    merged = in_its_whole(merged, files.folder)
    parts = other_parts(merged)
    merged.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True)
    kept = [*parts, *keep_processor(files.folder, folder)]
    if carried := carry_over(merged, files.folder, folder):
        kept.append(f"{len(carried)} tensors such as {carried[0]}")
    if kept:
        say(f"Kept as the base has them: {', '.join(kept)}")
    own = files.folder / GENERATION_CONFIG
    if files.adapter is not None and own.is_file():
        shutil.copyfile(own, folder / GENERATION_CONFIG)


def _write_adapter(files: ModelFiles, folder: Path) -> None:
    """The adapter without what belongs to its training alone: PPO's value head."""
    from safetensors.torch import load_file, save_file

    from trainers.methods.ppo.settings import VALUE_HEAD

    assert files.adapter is not None
    config = json.loads((files.adapter / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    kept = [name for name in config.get("modules_to_save") or () if name != VALUE_HEAD]
    config["modules_to_save"] = kept or None
    config["inference_mode"] = True
    (folder / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    weights = files.adapter / "adapter_model.safetensors"
    if not weights.exists():
        raise UserError(
            "the adapter's weights are not safetensors",
            file=files.adapter,
            hint="load it with peft and save it again",
        )
    tensors = {k: v for k, v in load_file(weights).items() if f".{VALUE_HEAD}." not in k}
    save_file(tensors, folder / weights.name, metadata={"format": "pt"})
    for path in sorted(files.tokenizer.iterdir()):
        if path.name.startswith(
            ("tokenizer", "special_tokens", "chat_template", "vocab", "merges")
        ):
            shutil.copyfile(path, folder / path.name)


def _make_ready(folder: Path) -> None:
    """See to it that llama.cpp's converter finds what it asks for, older versions included."""
    import gguf
    from safetensors import safe_open

    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kind = str(config["model_type"])
    known = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    arch = known.get(_GGUF_NAMES.get(kind, kind))
    if arch is None:
        raise UserError(
            f"llama.cpp knows no architecture like {kind!r}",
            file=folder,
            hint="export with --merge, and ask its converter",
        )
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for shard in folder.glob("*.safetensors"):
        with safe_open(shard, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is not a mapping
                if names.get_name(name, try_suffixes=(".weight", ".bias")) is None:
                    raise UserError(
                        f"llama.cpp has no name for the tensor {name}",
                        file=folder,
                        hint="export with --merge: its converter can't read this model",
                    )
    # transformers 5 writes both under new names; the converter may still look for the old ones.
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        config["rope_theta"] = rope["rope_theta"]
    config["torch_dtype"] = config.get("dtype", "float32")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        raise UserError(
            "llama.cpp needs tokenizer.json or tokenizer.model",
            file=folder,
            hint="save the model with its tokenizer first",
        )
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _difference(
    asked: list[Any], folder: Path, files: ModelFiles, form: Form, workspace: Workspace
) -> tuple[float, float]:
    """The largest distance of two logits over the largest, infinite where one is not a number; and
    how large it may be.
    """
    base = str(files.folder) if form == "adapter" else None
    model, tokenizer = load(resolve(str(folder), workspace, base=base))
    answered = _logits(model, tokenizer)
    share = _apart(asked, answered)
    if share <= TOLERANCE:
        return share, TOLERANCE
    _round_anew(model)
    return share, max(TOLERANCE, ROUNDINGS * _apart(answered, _logits(model, tokenizer)))


def _apart(asked: list[Any], answered: list[Any]) -> float:
    apart = max((a - b).abs().max().item() for a, b in zip(asked, answered, strict=True))
    share = float(apart / max(a.abs().max().item() for a in asked))
    return share if math.isfinite(share) else math.inf


def _round_anew(model: Any) -> None:
    """Move each weight, in place, to the next number above or below it, by chance."""
    import torch

    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dtype is torch.float32:
                up = torch.rand(weight.shape, generator=chance) < 0.5
                weight.copy_(torch.nextafter(weight, torch.where(up, math.inf, -math.inf)))


def _logits(model: Any, tokenizer: Any) -> list[Any]:
    """Logits over the vocabulary after every token of each text of the probe."""
    import torch

    found = []
    with torch.inference_mode():
        for text in PROBE:
            ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
            found.append(model(ids).logits[0].float())
    return found
