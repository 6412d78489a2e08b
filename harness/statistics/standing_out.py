"""Which parts of the samples lost more than the rest: all parts asked at once, by permutation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BLOCK = 128
_TIE = 1e-5
"""Correlations that are this near count as one: single precision tells them no further apart."""


@dataclass(frozen=True, slots=True)
class StandsOut:
    """One part: its place in `parts`, and its p-value over all of them."""

    part: int
    p: float


def standing_out(
    harm: Array,
    parts: Array,
    *,
    clusters: npt.NDArray[np.intp] | None = None,
    alpha: float = 0.05,
    most: int = 5,
    rounds: int = 2_000,
    seed: int = 0,
) -> list[StandsOut]:
    """The parts whose samples lost more than the others, the clearest first; empty where none does.

    harm      (n,) how much worse each sample got, in any unit
    parts     (k, n) of 0 and 1: which samples belong to each part
    clusters  (n,) codes from 0: samples of one cluster are moved together
    alpha     the share of worlds in which a part is named though the harm of all samples is of one
              kind

    The largest correlation of any part with the harm is compared with the largest that comes out
    where the harm is dealt to the samples anew (Westfall and Young, 1993: as Holm's, but exact, and
    not stricter than needed where parts overlap). What a part that was named accounts for is taken
    out before the next is looked for, so that its other names are not told as further findings.
    """
    harm, parts = _in_clusters(harm, parts, clusters)
    if harm.size < 3 or not parts.size:
        return []
    orders = _Orders(harm.size, rounds, seed)
    centered = parts - parts.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centered, axis=1)
    usable = lengths > 1e-12
    centered[usable] /= lengths[usable, None]
    centered[~usable] = 0.0
    single = centered.astype(np.float32)
    found: list[StandsOut] = []
    left = harm - harm.mean()
    while len(found) < most:
        size = float(np.linalg.norm(left))
        if size < 1e-12:
            break
        seen = centered @ (left / size)
        seen[[each.part for each in found]] = -np.inf
        part = int(seen.argmax())
        if seen[part] <= 0:
            break
        p = _p_value(single, left / size, orders, float(seen[part]), alpha)
        if p is None:
            break
        found.append(StandsOut(part, p))
        left = left - (centered[part] @ left) * centered[part]
    return found


class _Orders:
    """Dealings of `size` samples, made as far as they are asked for: shapes (size, up to BLOCK)."""

    def __init__(self, size: int, rounds: int, seed: int) -> None:
        self.size, self.rounds = size, rounds
        self._chance = np.random.default_rng(seed)
        self._made: list[npt.NDArray[np.int32]] = []

    def blocks(self) -> Iterator[npt.NDArray[np.int32]]:
        for place, start in enumerate(range(0, self.rounds, BLOCK)):
            if place == len(self._made):
                count = min(BLOCK, self.rounds - start)
                made = [self._chance.permutation(self.size) for _ in range(count)]
                self._made.append(np.stack(made, axis=1).astype(np.int32))
            yield self._made[place]


def _p_value(
    centered: npt.NDArray[np.float32], harm: Array, orders: _Orders, seen: float, alpha: float
) -> float | None:
    """The share of dealings whose largest correlation with any part is at least `seen`; None as
    soon as it is sure to be above `alpha`.
    """
    dealt = harm.astype(np.float32)
    as_large = 1
    for block in orders.blocks():
        as_large += int(((centered @ dealt[block]).max(axis=0) >= seen - _TIE).sum())
        if as_large > alpha * (orders.rounds + 1):
            return None
    return as_large / (orders.rounds + 1)


def _in_clusters(
    harm: Array, parts: Array, clusters: npt.NDArray[np.intp] | None
) -> tuple[Array, Array]:
    """Means over each cluster: what is independent of the rest."""
    if clusters is None:
        return harm.astype(float), parts.astype(float)
    sizes = np.bincount(clusters)
    means = np.bincount(clusters, weights=harm) / sizes
    shares = np.stack([np.bincount(clusters, weights=part) / sizes for part in parts])
    return means, shares
