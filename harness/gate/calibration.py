"""From two scorings of one model to what the gate can and cannot see on a suite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from harness.core.errors import UserError
from harness.gate.checks import timings
from harness.gate.metric_scores import MetricScores
from harness.gate.pairing import MismatchError, Paired, pair
from harness.gate.policy import DEFAULT_POLICY, GatePolicy, Role
from harness.statistics.calibration import Rates, Twice, auto_margin, rates
from harness.statistics.power import assumed_sd, samples_needed, visible_drop


@dataclass(frozen=True, slots=True)
class MetricCalibration:
    """What the gate can see of one metric on this suite.

    Shares are of the anchor's value, 0 to 1. `None` means that no number would do.

    visible            smallest drop that FAILs in 80% of cases at the last look
    auto_margin        what `margin: auto` freezes: an unchanged model passes it in 80%
    pass_rate          how often an unchanged model passes at δ
    samples_needed     samples with which an unchanged model passes at δ in 80%
    responses_needed   responses per sample that would do the same with the samples there are
    power              drop -> chance of FAIL when this metric alone drops by that share
    """

    metric: str
    role: Role
    n: int
    responses: int
    level: float
    margin: float
    visible: float
    auto_margin: float | None
    pass_rate: float
    samples_needed: int | None
    responses_needed: int | None
    power: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the gate can see on this suite, as a whole and by gated metric. Chances are 0 to 1.

    false_rollback      chance that one unchanged checkpoint fails, at the policy's alpha
    false_rollback_run  that any of `run_length` unchanged checkpoints does, alpha split over them
    bare_rule           chance that comparing the plain means would fail one unchanged checkpoint
    passes              chance that an unchanged checkpoint passes as a whole; None where a
                        required metric could not be simulated
    """

    metrics: tuple[MetricCalibration, ...]
    false_rollback: float
    false_rollback_run: float
    run_length: int
    bare_rule: float
    passes: float | None
    alpha: float
    trials: int
    runs: int
    seed: int
    skipped: Mapping[str, str]

    def frozen_margins(self) -> dict[str, float]:
        """Metric -> margin, for `GatePolicy.with_frozen`."""
        return {m.metric: m.auto_margin for m in self.metrics if m.auto_margin is not None}

    def to_dict(self) -> dict[str, Any]:
        """JSON types only: drops become strings such as "0.05", an unseen drop becomes null."""
        out = asdict(self)
        out["skipped"] = dict(self.skipped)
        for row in out["metrics"]:
            row["power"] = {str(drop): chance for drop, chance in row["power"].items()}
            row["visible"] = row["visible"] if math.isfinite(row["visible"]) else None
        out["metrics"] = list(out["metrics"])
        return out


def calibrate(
    first: Mapping[str, MetricScores],
    second: Mapping[str, MetricScores],
    policy: GatePolicy = DEFAULT_POLICY,
    *,
    trials: int = 1000,
    run_length: int = 100,
    drops: Sequence[float] = (0.05, 0.06, 0.08, 0.10),
    seed: int = 0,
) -> Calibration:
    """Simulate the policy on two scorings of the same model (the second with fresh draws).

    first, second   "task/metric" -> scores: the first takes the anchor's part and the second the
                    candidate's, each with its number of responses
    trials          simulated checkpoints; `run_length` checkpoints make a simulated training
    drops           the true drops, as shares, whose chance of FAIL is measured

    Corpus values, quantiles and win shares can't be simulated and are skipped with a reason. Raises
    UserError where no gated metric is left.
    """
    roles, twice, skipped = policy.roles(list(first), timings(first)), [], {}
    for metric, role in roles.items():
        if role == "advisory":
            continue
        try:
            twice.append(scored_twice(metric, first[metric], second.get(metric), policy))
        except MismatchError as reason:
            skipped[metric] = str(reason)
    if not twice:
        raise UserError(
            "no gated metric can be calibrated",
            hint="; ".join(f"{m}: {why}" for m, why in skipped.items())
            or "every metric is advisory: require one under `gate: metrics:`",
        )
    required = [metric for metric, role in roles.items() if role == "required"]
    found = rates(
        twice,
        required,
        alpha=policy.alpha,
        fail_rule=policy.fail_rule,
        drops=drops,
        trials=trials,
        run_length=run_length,
        seed=seed,
    )
    rows = tuple(
        _row(metric, roles[metric.metric], first[metric.metric], found, policy, len(twice), seed)
        for metric in twice
    )
    return Calibration(
        metrics=rows,
        false_rollback=found.false_rollback,
        false_rollback_run=found.false_rollback_run,
        run_length=run_length,
        bare_rule=found.bare_rule,
        passes=found.passes,
        alpha=policy.alpha,
        trials=found.trials,
        runs=found.runs,
        seed=seed,
        skipped=skipped,
    )


def scored_twice(
    metric: str, first: MetricScores, second: MetricScores | None, policy: GatePolicy
) -> Twice:
    """Split the difference of two scorings into the spread of an anchor and of a candidate.

    With Ka and Kc responses a sample's value has the variance w/Ka and w/Kc, w that of one
    response; so the squared difference of the two scorings estimates w·(1/Ka + 1/Kc). Raises
    MismatchError where the metric can't be simulated or the scorings don't fit.
    """
    if second is None:
        raise MismatchError("it has only one scoring")
    if first.form in ("corpus", "quantile", "winshare"):
        raise MismatchError(f"a drop of a {first.form} metric can't be simulated")
    paired = pair(first, second, error_share=policy.error_share)
    gap = np.abs(paired.harm)
    ours, theirs = 1 / max(first.responses, 1), 1 / max(second.responses, 1)
    floor = policy.of(metric).floor
    if first.scale == "interval" and floor is None:
        floor = policy.margin_of(metric) * float(np.std(paired.anchor, ddof=1))
    return Twice(
        metric=metric,
        middle=paired.base if paired.logarithmic else (paired.anchor + paired.candidate) / 2,
        anchor_half=gap * math.sqrt(ours / (ours + theirs)),
        candidate_half=gap * math.sqrt(theirs / (ours + theirs)),
        higher=first.direction == "higher",
        logarithmic=paired.logarithmic,
        interval=first.scale == "interval",
        counts=_counts(paired, second),
        margin=policy.margin_of(metric),
        floor=floor or 0.0,
        worst_harm=None if paired.known is None else float(paired.known.worst_harm),
        best_gain=0.0 if paired.known is None else float(paired.known.best_gain),
        clusters=paired.clusters,
        weights=paired.weights,
    )


def _counts(paired: Paired, scores: MetricScores) -> int:
    values = paired.candidate
    hits = values * scores.responses
    shares = values.min() >= 0 and values.max() <= 1 and np.allclose(hits, np.round(hits))
    return scores.responses if shares and not paired.logarithmic else 0


def _row(
    metric: Twice,
    role: Role,
    first: MetricScores,
    found: Rates,
    policy: GatePolicy,
    tests: int,
    seed: int,
) -> MetricCalibration:
    n = len(metric.middle)
    level = 1.0 if metric.logarithmic else float(metric.middle.mean())
    within = float(np.mean(metric.anchor_half**2 + metric.candidate_half**2))
    scale = float(metric.middle.mean()) if metric.logarithmic else 1.0
    drop_sd = math.sqrt(within + _loss_variance(metric)) / scale
    allowance = metric.allowance(metric.middle, metric.margin)
    between = float(np.var(allowance))
    return MetricCalibration(
        metric=metric.metric,
        role=role,
        n=n,
        responses=max(first.responses, 1),
        level=level,
        margin=metric.margin,
        visible=visible_drop(
            drop_sd,
            n,
            level,
            margin=metric.margin,
            alpha=policy.alpha,
            tests=tests,
            strict=policy.fail_rule == "strict",
        ),
        auto_margin=auto_margin(metric, alpha=policy.alpha, seed=seed),
        pass_rate=found.pass_rate[metric.metric],
        samples_needed=samples_needed(
            math.sqrt(within + between), float(allowance.mean()), policy.alpha
        ),
        responses_needed=_responses_needed(metric, first, between, policy.alpha),
        power=found.power[metric.metric],
    )


def _loss_variance(metric: Twice) -> float:
    """What a real drop of about the margin adds to the variance of one sample's harm.

    It is random which of the right answers are lost: binomial over a sample's responses.
    """
    if not metric.counts or metric.interval:
        return 0.0
    lost = max(metric.margin, 0.01)
    return float(np.mean(metric.middle**2)) * lost * (1 - lost) / metric.counts


def _responses_needed(
    metric: Twice, first: MetricScores, between: float, alpha: float
) -> int | None:
    """Responses per sample with which these samples suffice for PASS of an unchanged model.

    None where answers don't vary, or where the variance that more responses can't reduce (between
    samples, and the anchor's) is too large already.
    """
    from harness.statistics.power import smallest_distance

    n = len(metric.middle)
    room = float(metric.allowance(metric.middle, metric.margin).mean())
    unit = smallest_distance(1.0, n, alpha)
    spare = (room / unit) ** 2 - between - float(np.mean(metric.anchor_half**2))
    per_response = float(np.mean(metric.anchor_half**2)) * max(first.responses, 1)
    if spare <= 0 or per_response == 0:
        return None
    return max(1, math.ceil(per_response / spare))


def visible_before_scoring(
    n: int,
    *,
    responses: int = 1,
    anchor_responses: int = 16,
    margin: float = 0.05,
    alpha: float = 0.05,
    tests: int = 1,
    level: float = 0.7,
) -> float:
    """The smallest drop that n samples would show in 80% of cases, before anything was scored.

    A share of the anchor's value, for a right-or-wrong metric at `level` among `tests` gated ones.
    `ratchet suites check` prints it beside the margin. It is a guess that calibration replaces.
    """
    sd = math.hypot(
        assumed_sd(responses, anchor_responses, level),
        math.sqrt(level * margin * (1 - margin) / max(responses, 1)),
    )
    return visible_drop(sd, n, level, margin=margin, alpha=alpha, tests=tests)
