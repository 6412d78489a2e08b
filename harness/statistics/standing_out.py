"""Which parts of the samples lost more than the rest: all parts asked at once, by permutation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
BLOCK = 256


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
    chance = np.random.default_rng(seed)
    orders = [chance.permutation(harm.size) for _ in range(rounds)]
    centered = parts - parts.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(centered, axis=1)
    usable = lengths > 1e-12
    centered[usable] /= lengths[usable, None]
    centered[~usable] = 0.0
    found: list[StandsOut] = []
    left = harm - harm.mean()
    while len(found) < most:
        size = float(np.linalg.norm(left))
        if size < 1e-12:
            break
        seen = centered @ (left / size)
        seen[[each.part for each in found]] = -np.inf
        part = int(seen.argmax())
        p = (1 + int((_largest(centered, left / size, orders) >= seen[part] - 1e-12).sum())) / (
            rounds + 1
        )
        if p > alpha or seen[part] <= 0:
            break
        found.append(StandsOut(part, p))
        left = left - (centered[part] @ left) * centered[part]
    return found


def _largest(centered: Array, harm: Array, orders: Sequence[npt.NDArray[np.intp]]) -> Array:
    """Of each dealing of the harm the largest correlation with any part, shape (rounds,)."""
    found = []
    for start in range(0, len(orders), BLOCK):
        dealt = np.stack([harm[order] for order in orders[start : start + BLOCK]], axis=1)
        found.append((centered @ dealt).max(axis=0))
    return np.concatenate(found)


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
