"""Shares of responses against a limit: exact where independent, else adjusted for clustering."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.statistics.student_t import t_test


@dataclass(frozen=True, slots=True)
class ShareTest:
    """A share of responses against a limit.

    share       the share seen, 0 to 1
    effective   how many independent responses would be as precise
    over        p-value against "share ≤ limit": small where the limit is shown to be exceeded
    under       p-value against "share ≥ limit": small where the limit is shown to be kept
    """

    share: float
    effective: float
    over: float
    under: float


def share_test(
    shares: npt.ArrayLike,
    limit: float,
    *,
    responses: int = 1,
    clusters: npt.NDArray[np.intp] | None = None,
    weights: npt.ArrayLike | None = None,
) -> ShareTest:
    """Test a share of responses against `limit`, 0 to 1, given each sample's share, shape (n,).

    Several responses to one sample resemble each other, so they are worth fewer independent ones:
    the effective number share·(1−share)/se² with the clustered standard error, at most
    n·`responses` (Korn & Graubard 1998). The test is the exact binomial one on that number; where
    it isn't whole, the binomial's tail is taken as a beta function, which is defined in between.
    Where the share is 0 or 1 the standard error is 0 and says nothing about the resemblance, so
    each cluster counts as one observation: 4 clean answers to one prompt are one.
    """
    from scipy.special import betainc

    p = np.asarray(shares, dtype=float)
    test = t_test(p, clusters=clusters, weights=weights)
    share, se = float(test.mean), float(test.se)
    groups = len(p) if clusters is None else int(clusters.max()) + 1
    size = float(groups)
    if 0 < share < 1 and 0 < se < math.inf:
        # G/(G − 1) undoes the small-sample factor in se², so that independent responses count as
        # exactly themselves.
        size = min(share * (1 - share) / se**2 * groups / (groups - 1), float(len(p) * responses))
    events = share * size
    over = float(betainc(events, size - events + 1, limit)) if events > 0 else 1.0
    under = 1 - float(betainc(events + 1, size - events, limit)) if events < size else 1.0
    return ShareTest(share, size, over, under)


def responses_needed(limit: float, alpha: float, *, share: float = 0.0) -> int | None:
    """Independent responses that show "at most `limit`" if a share of `share` is seen.

    With none seen (1 − limit)^n ≤ alpha, so n = ln(alpha)/ln(1 − limit): 149 for 2% at .05. None
    where the share is at or over the limit, for then no number would do.
    """
    from scipy.special import bdtr, ndtri

    if share >= limit * (1 - 1e-6) or not 0 < limit < 1:
        return None
    if share <= 0:
        return math.ceil(math.log(alpha) / math.log1p(-limit))
    # Start at half of the normal approximation's number, and go up until the exact test is passed.
    steps = float(ndtri(1 - alpha)) / (limit - share)
    n = max(1, math.ceil(steps**2 * limit * (1 - limit) / 2))
    while bdtr(math.ceil(share * n - 1e-9), n, limit) > alpha:
        n = math.ceil(n * 1.02) + 1
    return n
