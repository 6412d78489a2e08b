"""Pass@k and pass^k: whether one of k programs passes the tests, or all of them do."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from harness.core.errors import UserError
from harness.core.types import Sample, ScoreOutcome
from harness.metrics.base import Evidence, Fitted, Metric, MetricItem, MetricSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@overload
def pass_at_k(n: int, c: int, k: int) -> float: ...
@overload
def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> float | NDArray[np.float64]: ...
def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> float | NDArray[np.float64]:
    """Probability that at least one of k tries passes, from c passes among n tries.

    1 − C(n−c, k) / C(n, k), unbiased for 1 − (1−p)^k (Chen et al. 2021, HumanEval). In 0..1,
    higher is better. `n` and `c` are integers or arrays of one shape (a value per problem).
    Raises UserError for k > n, where there is no unbiased estimate, and for c outside 0..n.
    """
    n, c = _checked(n, c, k)
    return _plain(1.0 - _choose_ratio(n - c, n, k))


def pass_hat_k(n: ArrayLike, c: ArrayLike, k: int) -> float | NDArray[np.float64]:
    """Probability that all of k tries pass (pass^k): C(c, k) / C(n, k), unbiased for p^k.

    Yao et al. 2024, tau-bench. Arguments, range and errors as in `pass_at_k`.
    """
    n, c = _checked(n, c, k)
    return _plain(_choose_ratio(c, n, k))


def pass_at_k_variance(n: ArrayLike, c: ArrayLike, k: int) -> float | NDArray[np.float64]:
    """Variance of `pass_at_k` over fresh tries at the same problem; unbiased and never negative.

    q̂² − C(n−c, 2k) / C(n, 2k) with q̂ = C(n−c, k) / C(n, k): E[q̂²] = q² + Var(q̂), and the second
    term is an unbiased estimate of q², which needs n >= 2k. The variance of a mean over m problems
    is the sum over m²; it holds for these problems, not for others. Raises UserError for n < 2k.
    """
    n, c = _checked(n, c, k)
    return _plain(_fixed_variance(n - c, n, k))


def pass_hat_k_variance(n: ArrayLike, c: ArrayLike, k: int) -> float | NDArray[np.float64]:
    """Variance of `pass_hat_k` over fresh tries; see `pass_at_k_variance`."""
    n, c = _checked(n, c, k)
    return _plain(_fixed_variance(c, n, k))


def _checked(n: Any, c: Any, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    import numpy as np

    tries, passes = np.broadcast_arrays(np.asarray(n), np.asarray(c))
    for name, values in (("n", tries), ("c", passes), ("k", np.asarray(k))):
        if values.size and not np.issubdtype(values.dtype, np.integer):
            raise UserError(f"{name} counts tries: it must be whole", field=name)
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}", field="k")
    if (tries < k).any():
        raise UserError(
            f"pass@{k} needs at least {k} tries of each problem, not {int(tries.min())}",
            field="k",
            hint=f"ask for `responses: {k}` or more, or for a smaller k",
        )
    if ((passes < 0) | (passes > tries)).any():
        raise UserError("passes must lie between 0 and the number of tries", field="c")
    return tries.astype(np.int64), passes.astype(np.int64)


def _choose_ratio(part: NDArray[np.int64], whole: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """C(part, k) / C(whole, k) as a product of k ratios, none of which can overflow."""
    import numpy as np

    ratio = np.ones(part.shape)
    for drawn in range(k):
        ratio *= np.maximum(part - drawn, 0) / (whole - drawn)
    return ratio


def _fixed_variance(
    part: NDArray[np.int64], whole: NDArray[np.int64], k: int
) -> NDArray[np.float64]:
    import numpy as np

    if (whole < 2 * k).any():
        raise UserError(
            f"the variance at k={k} needs at least {2 * k} tries, not {int(whole.min())}",
            field="k",
            hint="use the spread across problems instead",
        )
    square = _choose_ratio(part, whole, k) ** 2
    return np.maximum(square - _choose_ratio(part, whole, 2 * k), 0.0)


def _plain(values: NDArray[np.float64]) -> float | NDArray[np.float64]:
    return float(values) if values.ndim == 0 else values


@dataclass(frozen=True, slots=True)
class PassAtK:
    """Mean pass@k over the samples (pass^k with `all_of_k`); a response passes by the metric `of`.

    `of` is any metric of one value per response whose values are 0 or 1, with its options in
    `with_options`. Across samples the standard error is that of a mean; n and c are kept for the
    gate's `fixed_set`, where the problems are fixed and only the tries are random.
    """

    k: int = 1
    of: str = "exact_match"
    with_options: dict[str, Any] = field(default_factory=dict)
    all_of_k: bool = False
    fitted: Metric | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UserError(f"k must be at least 1, not {self.k}", field="k")
        spec = self._inner.spec
        if spec.per != "response" or (spec.low, spec.high) != (0.0, 1.0):
            raise UserError(f"{self.of} gives no 0 or 1 per response", field="of")

    @property
    def _inner(self) -> Metric:
        from harness.metrics import get_metric

        return self.fitted or get_metric(self.of, self.with_options)

    def among(self, samples: Sequence[Sample]) -> PassAtK:
        """This metric with what it counts by told of `samples`."""
        inner = self._inner
        found = copy(self)
        if isinstance(inner, Fitted):
            object.__setattr__(found, "fitted", inner.among(samples))
        return found

    @property
    def spec(self) -> MetricSpec:
        inner = self._inner.spec
        options = (("k", str(self.k)), ("of", inner.signature.replace("|", ",")))
        return MetricSpec(
            "pass_hat_k" if self.all_of_k else "pass_at_k",
            inner.direction,
            form="pass_at_k",
            needs=inner.needs,
            per="sample",
            stats=("n", "c"),
            options=options,
            reads=inner.reads,
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return [[self._sample(row)] for row in self._inner.score(items)]

    def _sample(self, tries: Sequence[Evidence]) -> Evidence:
        for one in tries:
            if one.outcome is not ScoreOutcome.SCORED:
                return Evidence(None, None, one.outcome, one.reason)
            if one.value not in (0.0, 1.0):
                return Evidence.error(None, f"{self.of} gave {one.value}: neither 0 nor 1")
        n, c = len(tries), sum(one.value == 1.0 for one in tries)
        if n < self.k:
            return Evidence.unscored(None, f"pass@{self.k} needs {self.k} responses, not {n}")
        value = pass_hat_k(n, c, self.k) if self.all_of_k else pass_at_k(n, c, self.k)
        return Evidence(None, float(value), stats=(float(n), float(c)))


@dataclass(frozen=True, slots=True)
class PassHatK(PassAtK):
    """As `PassAtK`, where all of k tries must pass."""

    all_of_k: bool = True
