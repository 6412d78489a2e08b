"""How long a recipe takes here, before it is run: by what was measured, or by arithmetic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.models.resolve import ModelFiles, load
from harness.store.store import Store
from harness.suite.suite import Suite
from trainers.config.method_traits import traits_of
from trainers.config.recipe import Recipe, Stage

# Floating-point operations per parameter and token (Kaplan et al., 2020, section 2.1): forward 2,
# backward 4, of which a frozen base needs the half that passes gradients through.
FORWARD, BACKWARD, BACKWARD_FROZEN = 2.0, 4.0, 2.0
CHARACTERS_PER_TOKEN = 4.0
"""Of English text, roughly; an estimate needs no tokenizer."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """Seconds of a stage: its steps, and the scoring of its checkpoints (checkpoint-0 too).

    `measured` says whether they come from trainings with this base on this machine.
    """

    training_s: float
    scoring_s: float
    measured: bool

    @property
    def seconds(self) -> float:
        return self.training_s + self.scoring_s

    def cost(self, price_per_hour: float) -> float:
        return self.seconds / 3600 * price_per_hour


def estimate(recipe: Recipe, stage: Stage, base: ModelFiles, store: Store | None) -> StageTime:
    """Of one stage without rollbacks. Medians of what the store has seen of the same base, trainer
    and batch, where there is such a training; else arithmetic over the speed of matrix products,
    measured on the spot, which no real step reaches: take it for a lower bound.
    """
    step = _median_step(stage, base, store)
    scoring = _median_scoring(stage, base, store)
    checkpoints = stage.segments + 1
    if step is not None and scoring is not None:
        return StageTime(step * stage.model.steps, scoring * checkpoints, True)
    parameters, speed = _parameters(base.folder), matrix_speed()
    read, written = _tokens_scored(stage.suite)
    train = _tokens_learned(stage)
    backward = BACKWARD if recipe.model.adapter_kind == "none" else BACKWARD_FROZEN
    per_token = parameters / speed
    generated = _tokens_generated(stage)
    steps = (train * (FORWARD + backward) + generated * FORWARD) * per_token
    return StageTime(steps, (read + written) * FORWARD * per_token * checkpoints, False)


def matrix_speed(seconds: float = 0.2) -> float:
    """Floating-point operations a second of fp32 matrix products on this machine."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 2048 if device == "cuda" else 512
    left, right = (torch.rand(size, size, device=device) for _ in range(2))
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        (left @ right).sum().item()
        done += 1
    return 2.0 * size**3 * done / passed


def _median_step(stage: Stage, base: ModelFiles, store: Store | None) -> float | None:
    if store is None:
        return None
    rows = store.query(
        """
        WITH alike AS (
            SELECT training_id FROM trainings
            WHERE base_digest = ?
              AND json_extract_string(config, '$.stage.trainer') = ?
              AND json_extract_string(config, '$.stage.batch_size') = ?
        ), gaps AS (
            SELECT step, epoch(happened_at) - epoch(lag(happened_at) OVER w) AS seconds,
                   step - lag(step) OVER w AS steps
            FROM training_steps JOIN alike USING (training_id)
            WINDOW w AS (PARTITION BY training_id, attempt ORDER BY step)
        )
        SELECT median(seconds) AS seconds FROM gaps WHERE steps = 1
        """,
        [base.digest, stage.model.trainer, str(stage.model.batch_size)],
    )
    found: float | None = rows[0]["seconds"]
    return found


def _median_scoring(stage: Stage, base: ModelFiles, store: Store | None) -> float | None:
    if store is None:
        return None
    rows = store.query(
        """
        SELECT median(CAST(json_extract_string(e.detail, '$.seconds') AS DOUBLE)) AS seconds
        FROM run_events e JOIN runs r USING (run_id) JOIN trainings t USING (training_id)
        WHERE e.event = 'finished' AND r.suite_digest = ? AND t.base_digest = ?
        """,
        [stage.suite.digest, base.digest],
    )
    found: float | None = rows[0]["seconds"]
    return found


def _parameters(folder: Path) -> int:
    """Of a model's files, from their headers alone; a pickled model is read."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                size = 1
                for length in tensors.get_slice(name).get_shape():
                    size *= length
                total += size
    if total:
        return total
    model, _ = load(ModelFiles(str(folder), folder, None, ""))
    return sum(parameter.numel() for parameter in model.parameters())


def _tokens_learned(stage: Stage) -> float:
    """Of all steps: examples as long as the data's mean, pairs as two of them."""
    rows = traits_of(stage.model.trainer).rows(stage.model, stage.model.steps)
    texts = [
        (sum(len(message["content"]) for message in example.prompt), answer)
        for example in stage.examples
        for answer in (example.text, example.completion, example.chosen, example.rejected)
        if answer is not None
    ]
    pairs = 2 if stage.examples and stage.examples[0].chosen is not None else 1
    if not texts:
        # Every completion that is generated is learned from with its prompt.
        return (
            stage.model.steps
            * stage.model.rows_per_step
            * (
                _mean([sum(len(m["content"]) for m in e.prompt) for e in stage.examples])
                / CHARACTERS_PER_TOKEN
                + stage.model.max_new_tokens
            )
        )
    mean = _mean([asked + len(answer) for asked, answer in texts]) / CHARACTERS_PER_TOKEN
    return rows * pairs * mean


def _tokens_generated(stage: Stage) -> float:
    if not traits_of(stage.model.trainer).samples:
        return 0.0
    model = stage.model
    return model.steps / model.reuse * model.rows_per_step * model.max_new_tokens


def _tokens_scored(suite: Suite) -> tuple[float, float]:
    """(read, written at most) of one checkpoint's first look."""
    read = written = 0.0
    for task in suite.tasks:
        for sample in task.samples:
            if sample.reserve:
                continue
            prompt = sum(len(message["content"]) for message in sample.prompt or ())
            for kind in task.kinds:
                if kind == "generation":
                    read += prompt
                    written += task.settings.max_new_tokens * task.responses
                elif kind == "reference":
                    read += sum(prompt + len(reference) for reference in sample.references)
                else:
                    read += len(sample.text or "")
    return read / CHARACTERS_PER_TOKEN, written


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
