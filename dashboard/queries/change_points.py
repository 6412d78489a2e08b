"""Change points of a series, the trend of the margin left, and how differently texts are worded.

Pure functions over arrays. All of it is advice: only the gate stops a checkpoint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

PENALTY = 4.0
"""Of one more change point, in units of σ² ln n: chosen by simulation
(tests/benchmarks/figures_change_points.py), so that steady noise is cut in fewer than one history
of twenty."""

_CHINESE = re.compile("[\u4e00-\u9fff]")

ALARM_WITHIN = 10
"""Checkpoints: a margin that lasts longer at today's slope is not news."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Where the margin goes at today's slope.

    left    share of the margin that is left now: 1 at the anchor's level, 0 at the margin
    slope   its change per checkpoint, median of all pairs (Theil 1950, Sen 1968), with the 95%
            interval `low`..`high`
    gone_in checkpoints until nothing is left, None where the slope doesn't lead there
    proven  the whole interval of the slope is below 0
    """

    left: float
    slope: float
    low: float
    high: float
    gone_in: int | None
    proven: bool

    @property
    def is_alarming(self) -> bool:
        return self.proven and self.gone_in is not None and self.gone_in <= ALARM_WITHIN


def margin_left(change: float, allowed: float) -> float:
    """1 where nothing changed, 0 at the margin, above 1 where it got better.

    `allowed` is the worst change that the gate allows, signed like harm. Raises ValueError for 0.
    """
    if allowed == 0:
        raise ValueError("no change is allowed, so there is no margin to use up")
    return 1.0 - change / allowed


def forecast(left: Sequence[float], *, window: int = 12, least: int = 5) -> Forecast | None:
    """The trend of the margin that was left at the last `window` checkpoints.

    None with fewer than `least` of them.
    """
    from scipy.stats import theilslopes

    recent = np.asarray(left, dtype=float)[-window:]
    if len(recent) < least:
        return None
    slope, _, low, high = (float(v) for v in theilslopes(recent))
    now = float(recent[-1])
    gone = math.ceil(now / -slope) if slope < 0 < now else 0 if now <= 0 else None
    return Forecast(now, slope, low, high, gone, proven=high < 0)


def change_points(values: Sequence[float], *, shortest: int = 3) -> list[int]:
    """Indexes at which a new level begins, by PELT (Killick et al. 2012) with squared errors.

    Noise is estimated from successive differences, which a change of level touches only once.
    Fewer than 2 × `shortest` values have none.
    """
    import ruptures

    series = np.asarray(values, dtype=float)
    n = len(series)
    if n < 2 * shortest or np.ptp(series) == 0:
        return []
    steps = np.abs(np.diff(series))
    # Two estimates of one σ: the median shrugs off a jump, the mean survives many ties.
    sigma = max(
        1.4826 * float(np.median(steps)) / math.sqrt(2),
        math.sqrt(math.pi) / 2 * float(np.mean(steps)),
    )
    found = ruptures.Pelt(model="l2", min_size=shortest, jump=1).fit(series / sigma)
    return [int(end) for end in found.predict(pen=PENALTY * math.log(n)) if end < n]


@dataclass(frozen=True, slots=True)
class Trigrams:
    """The letter trigrams of a set of texts: each as one number, rising, and how often it came."""

    keys: npt.NDArray[Any]
    often: npt.NDArray[Any]


def trigrams(texts: Iterable[str]) -> Trigrams:
    """Counted without case, over words parted by one space; a page reads millions."""
    found: list[npt.NDArray[Any]] = [np.empty(0, dtype=np.uint64)]
    for text in texts:
        joined = " ".join(text.casefold().split())
        points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        wide = points.astype(np.uint64)
        # No code point has more than 21 bits.
        found.append(wide[:-2] << 42 | wide[1:-1] << 21 | wide[2:])
    return Trigrams(*np.unique(np.concatenate(found), return_counts=True))


def distance(ours: Trigrams, theirs: Trigrams) -> float:
    """How differently two sets of texts are worded, 0 (alike) to 1 (nothing in common).

    Jensen-Shannon distance, to the base 2, between their frequencies of letter trigrams. Two
    sets without a trigram are alike; one without is at distance 1.
    """
    from scipy.spatial.distance import jensenshannon

    if not len(ours.keys) or not len(theirs.keys):
        return 0.0 if len(ours.keys) == len(theirs.keys) else 1.0
    keys = np.union1d(ours.keys, theirs.keys)
    p, q = np.zeros(len(keys)), np.zeros(len(keys))
    p[np.searchsorted(keys, ours.keys)] = ours.often
    q[np.searchsorted(keys, theirs.keys)] = theirs.often
    found = jensenshannon(p, q, base=2)
    return float(min(max(found, 0.0), 1.0))


def chinese_share(text: str) -> float:
    """Share of letters that are Chinese characters, 0 to 1; 0 for a text without letters."""
    chinese = len(_CHINESE.findall(text))
    return chinese / sum(map(str.isalpha, text)) if chinese else 0.0
