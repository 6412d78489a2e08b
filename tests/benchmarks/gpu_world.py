"""What the parts of `bench_gpu` share: a random model, prompts of token ids, and fair turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; `name` is `whole` or `tiny`."""

    name: str
    model: Mapping[str, Any]
    prompts: int
    answers_each: int
    new_tokens: int
    prompt_tokens: tuple[int, int]
    peer_batches: tuple[int, ...]
    peer_answers: int
    texts: int
    text_tokens: tuple[int, int]
    train_rows: int
    train_tokens: int
    steps: int
    drawn: int
    budget_s: float


WHOLE = Size(
    "whole",
    {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 49152,
        "max_position_embeddings": 4096,
        "initializer_range": 0.02,
    },
    prompts=256, answers_each=4, new_tokens=128, prompt_tokens=(50, 400),
    peer_batches=(64, 256, 1024), peer_answers=128, texts=256, text_tokens=(64, 900),
    train_rows=8, train_tokens=1024, steps=6, drawn=64, budget_s=60.0,
)  # fmt: skip
TINY = Size(
    "tiny",
    {"vocab_size": 384},
    prompts=3, answers_each=2, new_tokens=4, prompt_tokens=(5, 12),
    peer_batches=(2,), peer_answers=2, texts=4, text_tokens=(8, 24),
    train_rows=2, train_tokens=24, steps=2, drawn=4, budget_s=0.0,
)  # fmt: skip
SIZES = {size.name: size for size in (WHOLE, TINY)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part runs: the random model's folder, the device and the dtype."""

    size: Size
    folder: Path
    device: str
    dtype: str

    @property
    def base(self) -> Path:
        return self.folder / "base"

    def model(self) -> Any:
        """A fresh copy on the device, as transformers loads it."""
        import torch
        from transformers import AutoModelForCausalLM

        where = {} if self.device == "cpu" else {"device_map": {"": self.device}}
        automatic: Any = AutoModelForCausalLM
        return automatic.from_pretrained(
            self.base, dtype=getattr(torch, self.dtype), **where
        ).eval()

    def backend(self) -> Any:
        """Ours, opened as a command opens it."""
        from harness.backends.transformers.backend import TransformersBackend
        from harness.core.workspace import Workspace
        from harness.models.resolve import load, resolve

        files = resolve(str(self.base), Workspace.at(self.folder / "home"))
        return TransformersBackend(*load(files, dtype=self.dtype, device=self.device))


def place(size: Size, folder: Path) -> Place:
    """The device that is here, and the random model on disk where it isn't there yet."""
    import torch

    from tests.tiny import tiny_model, tiny_tokenizer

    gpu = torch.cuda.is_available() and size is not TINY
    made = Place(size, folder, "cuda:0" if gpu else "cpu", "bfloat16" if gpu else "float32")
    if not made.base.exists():
        with torch.device("cuda:0" if gpu else "cpu"):
            model = tiny_model(**size.model)
        model.to(getattr(torch, made.dtype)).save_pretrained(made.base)
        tiny_tokenizer().save_pretrained(made.base)
    return made


def token_rows(count: int, between: tuple[int, int], *, seed: int = 0) -> list[list[int]]:
    """Random token ids that every model here knows; lengths within `between`, both ends."""
    chance = np.random.default_rng(seed)
    lengths = chance.integers(between[0], between[1] + 1, count)
    return [chance.integers(3, 384, int(length)).tolist() for length in lengths]


def synchronized() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


Work = Callable[[int], float]
"""Does a side's work with so many new tokens (where it writes), and says how much it did."""


def in_turns(sides: Mapping[str, Work], tokens: int, budget_s: float) -> dict[str, float | str]:
    """Each side's median rate, or why it has none. First each works once unmeasured, with an eighth
    of the tokens; then all take turns until the budget is used, each at least once.
    """
    rates: dict[str, list[float]] = {name: [] for name in sides}
    failed: dict[str, str] = {}

    def work(name: str, tokens: int) -> float:
        synchronized()
        started = time.perf_counter()
        try:
            done = sides[name](tokens)
        except Exception as error:  # noqa: BLE001  a peer's trouble is a line in the table
            first = (str(error).strip().splitlines() or [""])[0]
            failed[name] = f"{type(error).__name__}: {first}"[:90]
            free()
            return 0.0
        synchronized()
        return done / (time.perf_counter() - started)

    began = time.monotonic()
    for name in sides:
        work(name, max(1, tokens // 8))
    turn = 0
    while turn == 0 or (time.monotonic() - began < budget_s / 2 and len(failed) < len(sides)):
        for name in [name for name in sides if name not in failed]:
            rates[name].append(work(name, tokens))
        turn += 1
    return {n: failed.get(n) or statistics.median(found) for n, found in rates.items()}


def free() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def row(
    what: str, ours: float | str, peers: Mapping[str, float | str], goal: str, unit: str
) -> dict[str, object]:
    """A row of the table. `ratio` is ours over the best peer's; above 1 is faster."""
    known = {name: rate for name, rate in peers.items() if isinstance(rate, float)}
    best = max(known, key=lambda name: known[name], default=None)
    ratio: object = ""
    if isinstance(ours, float) and best is not None:
        ratio = ours / known[best]
    said = "; ".join(f"{name}: {_shown(rate)}" for name, rate in peers.items())
    return {
        "what": what, "ours": f"{_shown(ours)} {unit}".strip(), "peer": said, "ratio": ratio,
        "goal": goal, "note": "",
    }  # fmt: skip


def _shown(rate: float | str) -> str:
    return (
        f"{rate:,.0f}"
        if isinstance(rate, float) and rate >= 100
        else (f"{rate:.3g}" if isinstance(rate, float) else rate)
    )


def step_seconds(trainer: Any) -> list[float]:
    """Seconds of each of a Trainer's steps but the first, drawing included."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        found: Sequence[float] = ()

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            synchronized()
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronized()
            self.found = (*self.found, time.perf_counter() - self.began)

    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    return list(clock.found[1:] or clock.found)
