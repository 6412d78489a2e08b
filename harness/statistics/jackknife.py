"""Jackknife pseudo-values for metrics that are not means: corpus BLEU, macro-F1."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from harness.core.errors import UserError
from harness.statistics.student_t import Array, cluster_sums

Aggregate = Callable[[Array], Array]
"""From summed statistics, shape (..., k), to the metric's value, shape (...)."""


def bleu(sums: Array) -> Array:
    """Corpus BLEU in [0, 100] from (sys_len, ref_len, correct_1..4, total_1..4), no smoothing.

    Papineni et al. 2002; 0 where an order has no match. `sums` has shape (..., 10).
    """
    system, reference = sums[..., 0], sums[..., 1]
    orders = (sums.shape[-1] - 2) // 2
    correct, total = sums[..., 2 : 2 + orders], sums[..., 2 + orders :]
    empty = (system <= 0) | (correct <= 0).any(-1) | (total <= 0).any(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        brevity = np.minimum(1 - reference / system, 0.0)
        value = 100 * np.exp(brevity + np.log(correct / total).mean(-1))
    return np.where(empty, 0.0, value)


def f1_macro(sums: Array) -> Array:
    """Mean F1 over classes, [0, 1], from (tp, fp, fn) per class, flattened: shape (..., 3·classes).

    A class that neither occurs nor is predicted is left out.
    """
    tp, fp, fn = (sums[..., i::3] for i in range(3))
    seen = 2 * tp + fp + fn
    used = seen > 0
    each = np.where(used, 2 * tp / np.where(used, seen, 1.0), 0.0)
    return np.asarray(each.sum(-1) / np.maximum(used.sum(-1), 1))


def ratio(sums: Array) -> Array:
    """Σ numerator / Σ denominator: rates per word, micro-averages. 0 where nothing was counted."""
    counted = sums[..., 1] != 0
    return np.where(counted, sums[..., 0] / np.where(counted, sums[..., 1], 1.0), 0.0)


AGGREGATES: Mapping[str, Aggregate] = {"bleu": bleu, "f1_macro": f1_macro, "ratio": ratio}


def swing(aggregate: str, stats: npt.ArrayLike) -> tuple[float, float]:
    """The most that one sample could lower and raise the corpus value: (down, up), both ≥ 0.

    `stats` has shape (n, k). Each is n times the change of the value when the sample that matters
    most has nothing right, or everything: the factor n puts it on the scale of one sample's
    pseudo-value. For a mean this would simply be its range; `rare_events` needs it.
    """
    f, table = AGGREGATES[aggregate], np.asarray(stats, dtype=float)
    total = table.sum(0)
    whole = float(f(total))
    worst, best = (f(total - table + _all(aggregate, table, right)) for right in (False, True))
    n = len(table)
    return n * max(whole - float(worst.min()), 0.0), n * max(float(best.max()) - whole, 0.0)


def _all(aggregate: str, table: Array, right: bool) -> Array:
    """The statistics of the same samples with everything right, or everything wrong."""
    changed = table.copy()
    if aggregate == "bleu":
        orders = (table.shape[1] - 2) // 2
        changed[:, 2 : 2 + orders] = table[:, 2 + orders :] if right else 0.0
    elif aggregate == "ratio":
        changed[:, 0] = table[:, 1] if right else 0.0
    else:
        own = table[:, 0::3] + table[:, 2::3]
        changed[:, 0::3] = own if right else 0.0
        changed[:, 1::3] = 0.0 if right else _elsewhere(own)
        changed[:, 2::3] = 0.0 if right else own
    return changed


def _elsewhere(own: Array) -> Array:
    """False positives as harmful as can be: each wrong answer names the rarest label but its own.

    The rarest, because in macro-F1 every label counts alike, so one false positive costs a rare
    label most.

    `own` has shape (n, labels), positive at the right label.
    """
    counts = own.sum(0)
    others = np.where((own > 0) | (counts == 0), np.inf, counts)
    rarest = np.argmin(others, axis=1)
    named = np.zeros_like(own)
    rows = np.flatnonzero(np.isfinite(others.min(1)))
    named[rows, rarest[rows]] = own[rows].sum(1)
    return named


def pseudo_values(
    aggregate: str | Aggregate | None,
    stats: npt.ArrayLike,
    clusters: npt.NDArray[np.intp] | None = None,
) -> Array:
    """One value per sample whose mean is the corpus value and whose spread gives its jackknife SE.

    `stats` has shape (n, k). With θ the value of all and θ_(−g) that without cluster g,
    ψ_g = θ + (G−1)(θ̄_(−) − θ_(−g)): Tukey's pseudo-values, centered on θ itself. Within a cluster
    ψ_g is spread so that the clustered standard error is the delete-a-cluster jackknife's
    (Efron & Stein 1981). With one cluster every value is θ. Raises UserError for an unknown
    aggregate.
    """
    f = AGGREGATES.get(aggregate) if isinstance(aggregate, str) else aggregate
    if f is None:
        raise UserError(
            f"there is no aggregate {aggregate!r} for corpus values",
            field="aggregate",
            hint=f"use one of: {', '.join(AGGREGATES)}",
        )
    table = np.asarray(stats, dtype=float)
    n = len(table)
    codes = np.arange(n) if clusters is None else clusters
    groups = int(codes.max()) + 1
    sums = cluster_sums(table.T, codes).T
    total = sums.sum(0)
    whole = f(total)
    if groups < 2:
        return np.full(n, whole)
    without = f(total - sums)
    # Tukey's ψ_g = G·θ − (G−1)·θ_(−g) has the bias-corrected value for its mean. Taking the mean of
    # the θ_(−g) in place of θ moves all by one constant: the mean is then the value that the
    # metric reports, and the spread is the same.
    away = (groups - 1) * (without.mean() - without)
    sizes = np.bincount(codes, minlength=groups)
    # n/(G·size): clusters count alike whatever their size, and the samples' mean stays θ.
    return np.asarray(whole + away[codes] * n / (groups * sizes[codes]))
