"""Two runs' scores for one metric, aligned by sample."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.gate.metric_scores import MetricScores
from harness.statistics.margins import Array, harm, linear_allowance, log_allowance
from harness.statistics.rare_events import Range


@dataclass(frozen=True, slots=True)
class Paired:
    """The evidence of both runs on their common samples; arrays of shape (n,), metric's unit.

    ids                 the samples, sorted
    anchor, candidate   values whose mean is the metric's value (`linear_values`)
    harm, base          how much worse each sample got, and what a relative margin is a share of
                        (harness.statistics.margins)
    anchor_value, candidate_value   the whole metric's
    own                 each sample's own value in both runs, as a table shows it
    logarithmic         harm is in nats and base in tokens (perplexity)
    clusters, weights   a code of 0..G−1 and a weight for each sample, where there are any
    variance            of each sample's value over fresh responses, in both runs
    known               the metric's range, where it has one
    lost                samples left out because an answer is an error
    """

    ids: tuple[str, ...]
    anchor: Array
    candidate: Array
    harm: Array
    base: Array
    anchor_value: float
    candidate_value: float
    own: tuple[Array, Array]
    logarithmic: bool = False
    clusters: npt.NDArray[np.intp] | None = None
    weights: Array | None = None
    variance: tuple[Array, Array] | None = None
    known: Range | None = None
    lost: int = 0

    @property
    def n(self) -> int:
        return len(self.ids)

    @property
    def groups(self) -> int:
        """How many independent clusters there are; samples, where there are no clusters."""
        return self.n if self.clusters is None else int(self.clusters.max()) + 1

    def allowance(self, margin: float, floor: float) -> Array:
        """What the margin allows each sample to lose, in the unit of harm."""
        rule = log_allowance if self.logarithmic else linear_allowance
        return rule(self.base, margin, floor)


class MismatchError(Exception):
    """The two runs can't be compared here; the message says why."""


class LostEvidenceError(MismatchError):
    """Too many samples were lost with a sandbox or a server, which says nothing about the model."""


def pair(
    anchor: MetricScores | None,
    candidate: MetricScores,
    *,
    error_share: float = 0.01,
    only: Collection[str] | None = None,
) -> Paired:
    """Align two runs by sample; `only` restricts them to some samples (a slice).

    `error_share` is the share of errors (0 to 1) up to which samples are left out. Raises
    MismatchError with a reason where evidence is missing or doesn't fit, and LostEvidenceError
    where only what a sandbox or a server lost is missing.
    """
    # A win share compares with the anchor's answers already; "no better, no worse" is ½.
    if candidate.form == "winshare":
        anchor = _even(candidate)
    if anchor is None:
        raise MismatchError("the anchor doesn't have this metric")
    _same_kind(anchor, candidate)
    _few_errors(anchor, candidate, error_share)
    ids, lost = _common(anchor, candidate, error_share, only)
    values = _finite(ids, anchor.values, "anchor"), _finite(ids, candidate.values, "candidate")
    weights = _weights(ids, anchor, candidate)
    clusters = cluster_codes(ids, anchor.clusters or candidate.clusters)
    if candidate.form == "perplexity":
        return _perplexity(ids, anchor, candidate, values, clusters, lost)
    if candidate.scale == "ratio" and min(values[0].min(), values[1].min()) < 0:
        raise MismatchError("a value below 0 has no relative margin: declare the scale `interval`")
    a = linear_values(ids, anchor, "anchor", clusters)
    c = linear_values(ids, candidate, "candidate", clusters)
    return Paired(
        ids=ids,
        anchor=a,
        candidate=c,
        harm=_snapped(harm(a, c, candidate.direction), a, c),
        base=a,
        anchor_value=_mean(a, weights),
        candidate_value=_mean(c, weights),
        own=values,
        clusters=clusters,
        weights=weights,
        variance=_variance(ids, anchor, candidate),
        known=_range(ids, *values, anchor, candidate),
        lost=lost,
    )


def linear_values(
    ids: tuple[str, ...],
    scores: MetricScores,
    run: str = "run",
    clusters: npt.NDArray[np.intp] | None = None,
) -> Array:
    """One value per sample, shape (n,), whose mean is the metric's value over these samples.

    For a mean those are the samples' own values; for a corpus value jackknife pseudo-values, for a
    quantile its linear approximation. So all of them are tested alike, as means. `run` names the
    run in messages. Raises MismatchError where what they are computed from is missing.
    """
    values = _finite(ids, scores.values, run)
    if scores.form == "corpus":
        from harness.statistics.jackknife import pseudo_values

        return pseudo_values(scores.aggregate, _stats(ids, scores, run), clusters)
    if scores.form == "quantile":
        return _quantile(ids, scores, values, run)
    return values


def _quantile(ids: tuple[str, ...], scores: MetricScores, values: Array, run: str) -> Array:
    from harness.statistics.quantile import quantile_values, values_needed

    q = float(scores.aggregate or "0.5")
    table = values[:, None]
    if scores.stats and all(i in scores.stats for i in ids):
        counts = {len(scores.stats[i]) for i in ids}
        if len(counts) == 1 and counts != {0}:
            table = np.array([scores.stats[i] for i in ids], dtype=float)
    needed = values_needed(q)
    if table.size < needed:
        raise MismatchError(
            f"the {q:.0%} quantile needs at least {needed} values, and the {run} has {table.size}"
        )
    return quantile_values(table, q)


def _range(
    ids: tuple[str, ...], a: Array, c: Array, anchor: MetricScores, candidate: MetricScores
) -> Range | None:
    """The metric's bounds, as far as they are known; None where there is no worst value.

    What the metric doesn't declare is inferred: a ratio scale ends at 0, and one whose values are
    all at most 1 is taken for a share, which ends there.
    """
    if candidate.form == "quantile" or candidate.summed:
        return None
    if candidate.form == "corpus":
        return _corpus_range(ids, a, c, anchor, candidate)
    low, high = min(a.min(), c.min()), max(a.max(), c.max())
    ratio, upward = candidate.scale == "ratio", candidate.direction == "higher"
    is_share = ratio and high <= 1
    worst, best = candidate.worst, candidate.best if candidate.best is not None else anchor.best
    if worst is None and ratio:
        worst = 0.0 if upward else None
    if best is None:
        best = (1.0 if is_share else high) if upward else (0.0 if ratio else low)
    if worst is None:
        return None
    sign = 1.0 if upward else -1.0
    better = sign * a
    return Range.of(
        better, sign * c, float(better.max() - sign * worst), float(sign * best - better.min())
    )


def _corpus_range(
    ids: tuple[str, ...], a: Array, c: Array, anchor: MetricScores, candidate: MetricScores
) -> Range | None:
    """How far one sample could move a corpus value; the samples' own values show how rare that is.

    None for aggregates whose worst case isn't known.
    """
    from harness.statistics.jackknife import AGGREGATES, swing

    name = candidate.aggregate
    if name is None or candidate.direction == "lower" or name not in AGGREGATES:
        return None
    down, _ = swing(name, _stats(ids, anchor, "anchor"))
    _, up = swing(name, _stats(ids, candidate, "candidate"))
    return Range.of(a, c, down, up)


def _perplexity(
    ids: tuple[str, ...],
    anchor: MetricScores,
    candidate: MetricScores,
    values: tuple[Array, Array],
    clusters: npt.NDArray[np.intp] | None,
    lost: int,
) -> Paired:
    ours, theirs = _stats(ids, anchor, "anchor"), _stats(ids, candidate, "candidate")
    tokens = ours[:, 1]
    if tokens.min() <= 0:
        empty = ids[int(np.argmin(tokens))]
        raise MismatchError(f"the anchor counted no tokens in sample {empty!r}")
    # Both at the anchor's token counts, as the test is; e^700 is near the largest float.
    per_token = [math.exp(min(s[:, 0].sum() / tokens.sum(), 700.0)) for s in (ours, theirs)]
    return Paired(
        ids=ids,
        anchor=values[0],
        candidate=values[1],
        harm=_snapped(harm(ours[:, 0], theirs[:, 0], "lower"), ours[:, 0], theirs[:, 0]),
        base=tokens,
        anchor_value=per_token[0],
        candidate_value=per_token[1],
        own=values,
        logarithmic=True,
        clusters=clusters,
        lost=lost,
    )


def _snapped(difference: Array, a: Array, c: Array) -> Array:
    """Differences within rounding error become 0: they all have one sign now and then, and t would
    take that for proof.
    """
    noise = np.abs(difference) <= 1e-12 * np.maximum(np.abs(a), np.abs(c))
    return np.asarray(np.where(noise, 0.0, difference))


def _even(candidate: MetricScores) -> MetricScores:
    from dataclasses import replace

    return replace(candidate, values=dict.fromkeys(candidate.values, 0.5), errors=0)


def _same_kind(anchor: MetricScores, candidate: MetricScores) -> None:
    for name in ("direction", "scale", "form", "aggregate"):
        ours, theirs = getattr(anchor, name), getattr(candidate, name)
        if ours != theirs:
            raise MismatchError(f"its {name} is {ours} in the anchor and {theirs} in the candidate")


def _few_errors(anchor: MetricScores, candidate: MetricScores, share: float) -> None:
    for name, run in (("anchor", anchor), ("candidate", candidate)):
        if run.error_share > share:
            total = run.total if run.total is not None else len(run.values) + run.errors
            if run.errors - run.lost <= share * total:
                raise LostEvidenceError(
                    f"{run.lost} of {total} samples of the {name} were lost with the sandbox or "
                    "the server: score again"
                )
            raise MismatchError(
                f"{run.errors} of {total} samples of the {name} are errors, more than {share:.0%}"
            )


def _common(
    anchor: MetricScores,
    candidate: MetricScores,
    share: float,
    only: Collection[str] | None,
) -> tuple[tuple[str, ...], int]:
    ours, theirs = set(anchor.values), set(candidate.values)
    for name, missing, errors in (
        ("candidate", ours - theirs, candidate.errors),
        ("anchor", theirs - ours, anchor.errors),
    ):
        # Samples that failed explain missing values; any more means that the runs differ.
        if len(missing) > errors:
            some = ", ".join(sorted(missing)[:3]) + (" …" if len(missing) > 3 else "")
            raise MismatchError(f"the {name} has no value for {len(missing)} samples ({some})")
    common = ours & theirs
    lost = len(ours | theirs) - len(common)
    if lost > share * len(ours | theirs):
        if lost - anchor.lost - candidate.lost <= share * len(ours | theirs):
            raise LostEvidenceError(
                f"{lost} samples were lost in one of the runs with the sandbox or the server: "
                "score again"
            )
        raise MismatchError(f"{lost} samples are errors in one of the runs, more than {share:.0%}")
    chosen = sorted(common if only is None else common.intersection(only))
    if not chosen:
        raise MismatchError("the two runs have no sample in common")
    return tuple(chosen), lost


def _finite(ids: tuple[str, ...], values: Mapping[str, float], run: str) -> Array:
    try:
        out = np.fromiter((values[i] for i in ids), dtype=float, count=len(ids))
    except TypeError as error:
        raise MismatchError(f"a value of the {run} is not a number ({error})") from None
    bad = np.flatnonzero(~np.isfinite(out))
    if len(bad):
        raise MismatchError(f"the {run}'s value of sample {ids[bad[0]]!r} is {out[bad[0]]}")
    return out


def _stats(ids: tuple[str, ...], scores: MetricScores, run: str) -> Array:
    stats = scores.stats or {}
    missing = [i for i in ids if i not in stats]
    if missing:
        raise MismatchError(f"the {run} has no sufficient statistics for sample {missing[0]!r}")
    try:
        table = np.array([tuple(stats[i]) for i in ids], dtype=float)
    except ValueError:
        raise MismatchError(f"the {run}'s sufficient statistics differ in length") from None
    if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
        raise MismatchError(f"the {run}'s sufficient statistics are incomplete or not finite")
    return table


def _weights(ids: tuple[str, ...], anchor: MetricScores, candidate: MetricScores) -> Array | None:
    weights = anchor.weights or candidate.weights
    if weights is None:
        return None
    missing = [i for i in ids if i not in weights]
    if missing:
        raise MismatchError(f"sample {missing[0]!r} has no weight")
    out = _finite(ids, weights, "weights")
    if out.min() < 0 or out.sum() <= 0:
        raise MismatchError("weights must be positive")
    return out


def cluster_codes(
    ids: tuple[str, ...], clusters: Mapping[str, str] | None
) -> npt.NDArray[np.intp] | None:
    """Codes 0..G−1 by cluster, shape (n,); a sample without a cluster gets one of its own.

    None without clusters.
    """
    if not clusters:
        return None
    # The first member keeps a sample's id from being taken for a cluster of the same name.
    codes: dict[tuple[bool, str], int] = {}
    names = ((i in clusters, str(clusters.get(i, i))) for i in ids)
    return np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.intp)


def _variance(
    ids: tuple[str, ...], anchor: MetricScores, candidate: MetricScores
) -> tuple[Array, Array] | None:
    both = (anchor.variance, candidate.variance)
    if both[0] is None or both[1] is None or any(i not in v for v in both if v for i in ids):
        return None
    return _finite(ids, both[0], "anchor"), _finite(ids, both[1], "candidate")


def _mean(values: Array, weights: Array | None) -> float:
    return float(np.average(values, weights=weights))
