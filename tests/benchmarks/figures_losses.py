"""Whether focal loss and EWC matter: the figures of docs/losses.md.

    python -m tests.benchmarks.figures_losses focal
    python -m tests.benchmarks.figures_losses ewc

On tiny models, in minutes on one core.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from tests.tiny import tiny_model
from trainers.config.schema import LossModel
from trainers.methods.losses import Ewc, with_loss

VOCABULARY = 64
FIRST_WORD = 8
SEEDS = range(3)

Row = dict[str, list[int]]


def trained(
    model: Any, rows: Sequence[Row], losses: LossModel, ewc: Ewc | None, **keys: Any
) -> Any:
    """The model after a training on rows of one length, with the losses in a plain Trainer."""
    import torch
    from transformers import Trainer, TrainingArguments

    def collate(batch: Sequence[Row]) -> dict[str, Any]:
        return {key: torch.tensor([row[key] for row in batch]) for key in batch[0]}

    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=16,
            lr_scheduler_type="constant",
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            log_level="error",
            save_strategy="no",
            logging_strategy="no",
            remove_unused_columns=False,
            **keys,
        )
        with_loss(Trainer, losses, ewc)(
            model=model, args=arguments, train_dataset=list(rows), data_collator=collate
        ).train()
    return model.eval()


def texts(count: int, half: int, chance: random.Random) -> list[Row]:
    """Sequences over one half of the words: four times in five each word is the one before plus
    three, else any of its half.
    """
    size = (VOCABULARY - FIRST_WORD) // 2
    rows = []
    for _ in range(count):
        words = [chance.randrange(size)]
        while len(words) < 12:
            follows = chance.random() < 0.8
            words.append((words[-1] + 3) % size if follows else chance.randrange(size))
        ids = [FIRST_WORD + half * size + word for word in words]
        rows.append({"input_ids": ids, "labels": ids})
    return rows


def nll(model: Any, rows: Sequence[Row]) -> float:
    """Nats per token after the first."""
    import torch

    ids = torch.tensor([row["input_ids"] for row in rows])
    with torch.no_grad():
        return float(model(ids, labels=ids).loss)


def focal() -> None:
    """How sure a model is of what it never saw, after a hundred passes over too few rows."""
    for gamma in (0.0, 1.0, 2.0, 5.0):
        found = []
        for seed in SEEDS:
            chance = random.Random(seed)
            rows, fresh = texts(64, 0, chance), texts(400, 0, chance)
            model = trained(
                tiny_model(VOCABULARY, seed=seed, initializer_range=0.05),
                rows,
                LossModel(focal_gamma=gamma),
                None,
                max_steps=400,
                learning_rate=2e-3,
                seed=seed,
            )
            found.append((nll(model, fresh), *sureness(model, fresh)))
        loss, right, sure, gap = (_spread(side) for side in zip(*found, strict=True))
        print(f"gamma {gamma:g}: nll {loss}, right {right}, sure {sure}, gap {gap}", flush=True)


def sureness(model: Any, rows: Sequence[Row]) -> tuple[float, float, float]:
    """Accuracy of the likeliest word, its mean probability, and the expected calibration error:
    their mean distance over ten bins of probability.
    """
    import torch

    ids = torch.tensor([row["input_ids"] for row in rows])
    with torch.no_grad():
        sure, said = model(ids[:, :-1]).logits.softmax(-1).flatten(0, 1).max(-1)
    right = (said == ids[:, 1:].flatten()).float()
    bins = (sure * 10).clamp(max=9).long()
    gaps = [(right[bins == b] - sure[bins == b]).sum().abs() for b in range(10)]
    return float(right.mean()), float(sure.mean()), float(sum(gaps)) / len(sure)


def ewc() -> None:
    """What a second language costs the first, with the first held by EWC."""
    weights = (0.0, 100.0, 1000.0, 10000.0)
    found: dict[float, list[tuple[float, float]]] = {weight: [] for weight in weights}
    before = []
    for seed in SEEDS:
        chance = random.Random(seed)
        old, new = texts(400, 0, chance), texts(400, 1, chance)
        start = trained(
            tiny_model(VOCABULARY, seed=seed, initializer_range=0.05),
            old,
            LossModel(),
            None,
            max_steps=250,
            learning_rate=3e-3,
            seed=seed,
        )
        tests = (texts(200, 0, chance), texts(200, 1, chance))
        before.append(nll(start, tests[0]))
        state = {name: tensor.clone() for name, tensor in start.state_dict().items()}
        for weight in weights:
            start.load_state_dict(state)
            held = Ewc.of(start, old[:64], weight) if weight else None
            model = trained(
                start, new, LossModel(), held, max_steps=120, learning_rate=1e-3, seed=seed
            )
            found[weight].append((nll(model, tests[0]), nll(model, tests[1])))
    print(f"before: old {_spread(before)}", flush=True)
    for weight, pairs in found.items():
        olds, news = (_spread(side) for side in zip(*pairs, strict=True))
        print(f"weight {weight:g}: old {olds}, new {news}", flush=True)


def _spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    {"focal": focal, "ewc": ewc}[sys.argv[1]]()
