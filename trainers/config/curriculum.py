"""The order in which a source's rows come: by difficulty, or with rare classes more often.

Pure functions that make endless streams of row numbers from a seed; the data plan takes from them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.errors import UserError
from trainers.config.data_schema import CurriculumModel

if TYPE_CHECKING:
    from harness.backends.base import Backend
    from trainers.config.recipe import Example


def available(progress: float, model: CurriculumModel) -> float:
    """Share of the rows that may be drawn at `progress` (0 to 1): the square-root competence of
    Platanios et al., 2019, eq. 7, which gives each new row the same time.
    """
    if progress >= model.full_at:
        return 1.0
    start = model.start**2
    return min(1.0, math.sqrt(start + (1 - start) * progress / model.full_at))


def paced(
    difficulty: Sequence[float], model: CurriculumModel, *, length: int, seed: int
) -> Iterator[int]:
    """Row numbers, endlessly: each draw is of those available by then, none of them again before
    all have come. `length` is how many draws the training takes of this source.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    keys = np.asarray(difficulty, dtype=np.float64)
    if not np.isfinite(keys).all():
        raise UserError("a difficulty is not a finite number", field=model.by)
    ties = generator.permutation(len(keys))
    order = np.lexsort((ties, keys if model.first == "easy" else -keys)).tolist()
    pool: list[int] = []
    opened = drawn = 0
    while True:
        share = available(drawn / max(1, length), model)
        reach = max(1, math.ceil(share * len(order) - 1e-9))
        pool += order[opened:reach]
        opened = max(opened, reach)
        if not pool:
            pool = order[:opened]
        place = int(generator.integers(len(pool)))
        pool[place], pool[-1] = pool[-1], pool[place]
        yield pool.pop()
        drawn += 1


def class_weights(labels: Sequence[Hashable], power: float = 1.0) -> list[float]:
    """A sampling weight per row, the count of its class to the minus `power`, with mean 1.

    0 leaves the rows as they are; at 1 every class is drawn equally often.
    """
    counts = Counter(labels)
    raw = [counts[label] ** -power for label in labels]
    return [weight * len(raw) / sum(raw) for weight in raw]


def weighted(weights: Sequence[float], *, seed: int) -> Iterator[int]:
    """Row numbers, endlessly: in each pass of n draws a row comes n w / sum(w) times, rounded up
    or down by chance (systematic sampling), in an order of its own.
    """
    shares = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise UserError("sampling weights must be positive numbers", field="weights")
    generator = np.random.Generator(np.random.Philox(seed))
    while True:
        order = generator.permutation(len(shares))
        steps = np.cumsum(shares[order]) / shares.sum() * len(shares)
        # The last step is n but for rounding, which must not lose or add a draw.
        steps[-1] = len(shares)
        marks = np.floor(steps + generator.random())
        times = np.diff(marks, prepend=0.0).astype(int)
        chosen = np.repeat(order, times)
        yield from generator.permutation(chosen).tolist()


def column_of(examples: Sequence[Example], name: str) -> list[float]:
    """A numeric column of the data. Raises UserError where a row lacks it or has no number."""
    found = []
    for example in examples:
        value: Any = example.columns.get(name)
        try:
            found.append(float(value))
            if not math.isfinite(found[-1]):
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"row {example.row!r} has no finite number in {name!r} to order by",
                field="curriculum.by",
                hint=f"its columns are {', '.join(example.columns) or 'none'}",
            ) from None
    return found


def own_perplexity(backend: Backend, examples: Sequence[Example]) -> list[float]:
    """Perplexity per example, exp(mean NLL in nats): of the answer given its prompt, or of the
    text. Raises UserError for an example that doesn't fit the model.
    """
    from harness.backends.base import LogprobRequest, encode_answer

    requests = []
    for number, example in enumerate(examples):
        if example.prompt:
            prompt = example.asked(backend)
            before, said = encode_answer(backend, example.completion or "", prompt)
            given = (*prompt, *before)
        else:
            given, said = (backend.prefix_token_id,), tuple(backend.encode(example.text or ""))
        requests.append(LogprobRequest(str(number), given, said))
    found: dict[int, float] = {}
    for result in backend.logprobs(requests):
        number = int(result.request_id)
        if result.error is not None:
            raise UserError(
                f"row {examples[number].row!r} can't be read by the model: {result.error}",
                hint="shorten the row",
            )
        mean = sum(result.logprobs) / max(1, len(result.logprobs))
        found[number] = math.exp(min(-mean, 700.0))
    return [found[number] for number in range(len(examples))]
