"""What Prometheus is told of each line: its version, its verdicts, its traffic."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dashboard.receiver.exposition import Family, Sample
from harness.comparison.line_reading import states
from harness.comparison.line_state import LineState
from harness.store.store import Store
from harness.watch.monitor.verdict import SignalVerdict

RECENT = timedelta(minutes=5)
"""Over which rates and percentiles of the traffic are taken."""

SERVED = ("pass", "fail", "inconclusive")
JUDGED = ("pass", "fail", "inconclusive", "incomparable")
PERCENTILES = (50, 95, 99)


def line_families(store: Store, now: datetime | None = None) -> list[Family]:
    """All gauges of all lines, as they are now. Raises UserError where it can't read the store."""
    now = now or datetime.now(UTC)
    found = states(store, now=now)
    return [
        *_of_lines(found),
        *_of_signals(found),
        *_of_candidates(store, found),
        *_of_traffic(store, now),
    ]


def _of_lines(found: Sequence[LineState]) -> Iterator[Family]:
    yield Family(
        "ratchet_line_promoted_info",
        "The checkpoint that a line serves; always 1.",
        [
            (
                {
                    "line": state.line,
                    "digest": state.promoted.digest[:12],
                    "version": str(state.promoted.version or ""),
                },
                1.0,
            )
            for state in found
            if state.promoted is not None
        ],
    )
    yield Family(
        "ratchet_line_outcome",
        "1 for the watch's verdict on what a line serves now; all 0 where nobody has looked yet.",
        _states(((s.line, s.serving.outcome) for s in found), SERVED),
    )
    looks = [(s.line, s.serving.look) for s in found]
    yield Family(
        "ratchet_line_looked_timestamp_seconds",
        "When what a line serves was last looked at.",
        [({"line": line}, look.decided_at.timestamp()) for line, look in looks if look is not None],
    )
    yield Family(
        "ratchet_line_alarms",
        "Alarms of a line: lasting (not called false) and unanswered (seen by nobody).",
        [
            ({"line": state.line, "state": name}, float(number))
            for state in found
            for name, number in (
                ("lasting", sum(a.present and a.answer.false_alarm is None for a in state.alarms)),
                ("unanswered", len(state.unanswered())),
            )
        ],
    )
    yield Family(
        "ratchet_line_canary_traffic_ratio",
        "Share of a line's traffic that its canary has, 0 to 1.",
        [({"line": state.line}, state.serving.share) for state in found],
    )
    yield Family(
        "ratchet_line_conversations_waiting",
        "Conversations that came in and that no look has counted yet.",
        [({"line": state.line}, float(state.serving.uncounted)) for state in found],
    )


def _of_signals(found: Sequence[LineState]) -> Iterator[Family]:
    """Of the newest look at what each line serves."""
    rows = [
        ({"line": state.line, "signal": signal.signal, "tier": signal.tier}, signal)
        for state in found
        if state.serving.look is not None
        for signal in state.serving.look.signals
    ]

    def family(name: str, said: str, values: Iterable[float | None]) -> Family:
        known = zip(rows, values, strict=True)
        return Family(
            f"ratchet_signal_{name}",
            said,
            [(labels, float(value)) for (labels, _), value in known if value is not None],
        )

    signals = [signal for _, signal in rows]
    yield family("value", "Mean over the window, in the signal's unit.", (s.value for s in signals))
    yield family(
        "limit", "Where the signal fails, in the signal's unit.", (s.reference for s in signals)
    )
    yield family(
        "margin_left",
        "How far the value is on the good side of the limit, in the signal's unit.",
        (_margin_left(s) for s in signals),
    )
    yield family(
        "log_e_value",
        "Natural logarithm of the evidence for harm; the signal fails at its threshold.",
        (_log(s.e_value) for s in signals),
    )
    yield family(
        "log_e_threshold",
        "Natural logarithm of the evidence at which the signal fails.",
        (_log(s.threshold) for s in signals),
    )
    yield family(
        "failed", "1 where the signal failed.", (float(s.outcome == "fail") for s in signals)
    )
    yield family(
        "required",
        "1 where the signal decides, 0 where it is advisory.",
        (float(s.required) for s in signals),
    )
    yield family("conversations", "Conversations in the window.", (float(s.n) for s in signals))


def _of_candidates(store: Store, found: Sequence[LineState]) -> Iterator[Family]:
    judged = {s.candidate.verdict_id: s for s in found if s.candidate is not None}
    yield Family(
        "ratchet_candidate_outcome",
        "1 for the gate's verdict on the candidate that was judged last.",
        _states(((s.line, s.candidate.outcome) for s in judged.values() if s.candidate), JUDGED),
    )
    rows = store.query(
        "SELECT verdict_id, metric, try_cast(detail ->> '$.mean_z' AS DOUBLE) AS mean_z "
        "FROM verdict_metrics WHERE list_contains(?, verdict_id)",
        [list(judged)],
    )
    yield Family(
        "ratchet_candidate_margin_left",
        "How much worse a metric of that candidate could be and stay within the margin.",
        [
            ({"line": judged[row["verdict_id"]].line, "metric": row["metric"]}, -row["mean_z"])
            for row in rows
            if row["mean_z"] is not None
        ],
    )


def _of_traffic(store: Store, now: datetime) -> Iterator[Family]:
    since = now - RECENT
    rows = store.query(
        "SELECT coalesce(line, '') AS line, count(*) AS requests, count(error) AS errors, "
        f"quantile_cont(latency_s, {[p / 100 for p in PERCENTILES]}) AS latencies "
        # By our clock first, by which the table is in order: the rest of it is not read.
        "FROM observations WHERE received_at > ? AND observed_at > ? AND about IS NULL "
        "GROUP BY ALL ORDER BY ALL",
        [since, since],
    )
    yield Family(
        "ratchet_requests_per_second",
        "Requests of a line in the last five minutes, a second.",
        [(_line(row), row["requests"] / RECENT.total_seconds()) for row in rows],
    )
    yield Family(
        "ratchet_request_errors_ratio",
        "Share of them that ended in an error.",
        [(_line(row), row["errors"] / row["requests"]) for row in rows],
    )
    yield Family(
        "ratchet_request_latency_seconds",
        "Percentiles of their latency.",
        [
            ({**_line(row), "percentile": str(percentile)}, value)
            for row in rows
            for percentile, value in zip(PERCENTILES, row["latencies"] or (), strict=False)
        ],
    )


def _line(row: dict[str, Any]) -> dict[str, str]:
    return {"line": row["line"]}


def _states(pairs: Iterable[tuple[str, str | None]], known: Sequence[str]) -> list[Sample]:
    return [
        ({"line": line, "outcome": name}, float(outcome == name))
        for line, outcome in pairs
        for name in known
    ]


def _margin_left(signal: SignalVerdict) -> float | None:
    if signal.value is None or signal.reference is None:
        return None
    left = signal.value - signal.reference
    return left if signal.direction == "higher" else -left


def _log(value: float | None) -> float | None:
    if value is None:
        return None
    return math.log(value) if value > 0 else -math.inf
