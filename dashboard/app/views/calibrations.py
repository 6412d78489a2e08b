"""The page of calibrations: how often a gate rolls back by mistake, and what it can detect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.app import charts
from dashboard.app.filters import pick
from dashboard.app.linked_table import linked_table
from dashboard.app.page import cached, empty, export, require_history, title, url, when
from dashboard.i18n.reader import tr, words
from dashboard.queries import history
from dashboard.web.escape import plain
from harness.core.types import Row
from harness.statistics.intervals import wilson


def show() -> None:
    title("Calibrations", "What can this gate see, and how often does it cry wolf?")
    if not require_history():
        return
    found = {row["calibration_id"]: row for row in cached(history.calibrations)}
    if not found:
        empty("No suite was calibrated yet.", "ratchet calibrate MODEL --suite SUITE")
        return
    chosen = pick(
        tr("Calibration"),
        list(found),
        param="calibration",
        shown=lambda i: f"{found[i]['suite']} · {found[i]['calibrated_at']:%Y-%m-%d %H:%M}",
    )
    _show(found[chosen])


def _show(row: Row) -> None:
    import pandas as pd

    detail = row["detail"]
    one, run, bare, passes = st.columns(4)
    trials = detail["trials"]
    for place, name, share in (
        (one, tr("false roll back, one checkpoint"), row["false_rollback"]),
        (run, tr("… one training of {n}", n=detail["run_length"]), detail["false_rollback_run"]),
        (bare, tr("… by the bare rule"), detail["bare_rule"]),
        (passes, tr("unchanged model passes"), detail.get("passes")),
    ):
        place.metric(name, _share(share))
        if share is not None and place is not run:
            ends = wilson(share * trials, trials)
            place.caption(f"[{_share(ends.low)}, {_share(ends.high)}]")
    st.caption(
        tr(
            "Simulated on the suite's own scores: {n} checkpoints that are identical to the "
            "anchor, at alpha {alpha}. In brackets, and as bars: 95% intervals of the "
            "simulation (Wilson).",
            n=f"{detail['trials']:,}",
            alpha=f"{detail['alpha']:g}",
        )
    )
    power = [
        {
            "drop": 100 * float(drop),
            "power": chance,
            "low": seen.low,
            "high": seen.high,
            "metric": metric["metric"],
            "tip_metric": metric["metric"],
            "tip_value": f"{_share(chance)} [{_share(seen.low)}, {_share(seen.high)}]",
        }
        for metric in detail["metrics"]
        for drop, chance in metric["power"].items()
        for seen in [wilson(chance * detail["trials"], detail["trials"])]
    ]
    chart = None
    if power:
        chart = charts.series(
            pd.DataFrame(power),
            x="drop",
            y="power",
            x_title=tr("true drop, % of the anchor"),
            words=words(),
            by="metric",
            form=".0%",
            height=280,
        )
        st.markdown(f"**{tr('chance of FAIL')}**")
        st.altair_chart(chart, width="stretch", alt=tr("chance of FAIL"))
    frame = pd.DataFrame([_metric(metric) for metric in detail["metrics"]])
    leads = [url("trend", suite=row["suite"], metric=m["metric"]) for m in detail["metrics"]]
    linked_table(frame, leads, name=tr("Calibrations"))
    export(f"calibration-{row['calibration_id']}", frame, chart=chart)
    for name, why in (detail.get("skipped") or {}).items():
        st.caption(plain(f"{name}: {why}"))
    st.caption(
        plain(
            f"{tr('calibration')} {row['calibration_id']} · {tr('suite')} {row['suite']} "
            f"{row['suite_digest'][:8]} · {tr('bytes')} {row['model_digest'][:12]} · "
            f"{when(row['calibrated_at'])} · {', '.join(row['runs'] or ())}"
        )
    )


def _metric(metric: Mapping[str, Any]) -> Row:
    visible = metric["visible"]
    return {
        tr("metric"): metric["metric"],
        tr("role"): tr(metric["role"]),
        tr("samples × responses"): f"{metric['n']} × {metric['responses']}",
        tr("margin"): _share(metric["margin"]),
        tr("seen in 80%"): "–" if visible is None else f"−{visible:.1%}",
        tr("unchanged passes"): _share(metric["pass_rate"]),
        tr("auto margin"): _share(metric["auto_margin"]),
        tr("samples needed"): _count(metric["samples_needed"]),
        tr("responses needed"): _count(metric["responses_needed"]),
    }


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}" if value < 0.1 else f"{value:.0%}"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
