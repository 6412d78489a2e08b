"""Writing answers side by side with models of many families, against transformers' `generate`."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.tiny_families import VOCABULARY, tiny_family

THREADS = 2
PROMPTS, NEW_TOKENS = 64, 48
PEER_BATCHES = (8, 64)

# Wide enough that the layers take most of the time, as in a real model, and not Python.
_WIDER: dict[str, Any] = {
    "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 12,
    "num_attention_heads": 6, "head_dim": 64, "max_position_embeddings": 4096,
    "sliding_window": 128, "eos_token_id": None,
}  # fmt: skip
_SLIDING = {"layer_types": ["sliding_attention", "full_attention"] * 6}
_LINEAR = {"layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 3}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {}, "qwen3": {}, "gemma3_text": _SLIDING, "gemma4_text": _SLIDING, "gpt_oss": {},
    "phi3": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "qwen3_5_text": _LINEAR,
}  # fmt: skip


def run(quick: bool = False) -> list[dict[str, object]]:
    """One row a family: seconds for the same answers, ours and `generate`'s at its best batch.

    RATCHET_BENCH_ROUNDS says how often each side is timed, three times by default.
    """
    import torch

    torch.set_num_threads(THREADS)
    chance = random.Random(1)
    prompts = [
        [chance.randrange(VOCABULARY - 4) for _ in range(chance.randrange(20, 140))]
        for _ in range(PROMPTS // (4 if quick else 1))
    ]
    rounds = 1 if quick else int(os.environ.get("RATCHET_BENCH_ROUNDS", "3"))
    return [_family(name, prompts, rounds) for name in FAMILIES]


def _family(name: str, prompts: Sequence[list[int]], rounds: int) -> dict[str, object]:
    from harness.backends.base import GenerationRequest, GenerationSettings
    from harness.backends.transformers.backend import TransformersBackend

    model = tiny_family(name, **{**_WIDER, **FAMILIES[name]})
    model.generation_config.eos_token_id = None
    backend = TransformersBackend(model, _endless(), rows=len(prompts))
    asked = [GenerationRequest(str(i), tuple(ids), (i,)) for i, ids in enumerate(prompts)]

    def ours(tokens: int) -> int:
        settings = GenerationSettings(max_new_tokens=tokens, temperature=0)
        return sum(len(answer.token_ids) for answer in backend.generate(asked, settings))

    sides: dict[Any, Callable[[int], int]] = {"ours": ours}
    for size in PEER_BATCHES:
        sides[size] = partial(_generate, model, prompts, size)
    warm = {side: write(2) for side, write in sides.items()}
    assert set(warm.values()) == {len(prompts) * 2}, warm
    took: dict[Any, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, write in sides.items():
            began = time.perf_counter()
            write(NEW_TOKENS)
            took[side].append(time.perf_counter() - began)
    median = {side: statistics.median(times) for side, times in took.items()}
    best = min(PEER_BATCHES, key=lambda size: median[size])
    others = ", ".join(f"{median[size]:.1f} s by {size}" for size in PEER_BATCHES)
    return {
        "what": f"{name}: {len(prompts)} answers of {NEW_TOKENS} tokens",
        "ours": f"{median['ours']:.1f} s",
        "peer": f"{median[best]:.1f} s (generate, {best} at a time)",
        "ratio": median["ours"] / median[best],
        "goal": "≤ 1.1 (goal 0.8)",
        "note": f"random weights, 12 layers of 384; generate {others}, prompts sorted by length",
    }


def _endless() -> Any:
    """A tokenizer without a token that ends an answer: all are of one length, on both sides."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(VOCABULARY)}
    kind = Tokenizer(models.WordLevel(words, unk_token="w0"))
    kind.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=kind, unk_token="w0", pad_token="w1")


def _generate(model: Any, prompts: Sequence[list[int]], size: int, tokens: int) -> int:
    import torch

    ordered = sorted(prompts, key=len, reverse=True)
    pad, written = VOCABULARY - 1, 0
    with torch.inference_mode():
        for start in range(0, len(ordered), size):
            batch = ordered[start : start + size]
            width = len(batch[0])
            ids = torch.tensor([[pad] * (width - len(p)) + p for p in batch])
            mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch])
            out = model.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False,
                pad_token_id=pad, eos_token_id=None,
            )  # fmt: skip
            written += out[:, width:].numel()
    return written
