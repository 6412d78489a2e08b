"""Small multiples: a chart a signal, hour by hour, with its limit, alarms and promotions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard.app.chart_style import BLUE, GREY, RED, styled, tooltip
from dashboard.app.page import MARKS, export
from dashboard.i18n.reader import tr, words
from dashboard.queries.signal_hours import Hour
from dashboard.web.escape import plain
from harness.watch.monitor.verdict import SignalVerdict, WatchVerdict

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_WORST = {"fail": 0, "inconclusive": 1, "pass": 2}


def small_multiples(
    line: str,
    found: Mapping[str, Sequence[Hour]],
    look: WatchVerdict | None,
    promotions: Sequence[tuple[datetime, str]],
    alarms: Sequence[datetime],
) -> None:
    """Three charts a row, the worst signal first."""
    import pandas as pd

    known = {s.signal: s for s in look.signals} if look is not None else {}
    order = sorted(found, key=lambda name: _rank(known.get(name)))
    tables, columns = [], st.columns(3)
    for place, name in enumerate(order):
        # A row is begun anew, so that charts beside each other stay level.
        columns = st.columns(3) if place and place % 3 == 0 else columns
        signal = known.get(name)
        frame = _frame(found[name])
        tables.append(frame.assign(signal=name)[["signal", "at", "value", "n"]])
        with columns[place % 3]:
            st.markdown(_head(name, signal))
            st.altair_chart(
                chart(frame, signal.reference if signal else None, promotions, alarms),
                width="stretch",
                key=f"hours.{line}.{name}",
                alt=name,
            )
    st.caption(
        tr(
            "Each point is an hour of {n}, in UTC; the red line is where it fails, a red rule an "
            "alarm, a grey one a promotion. The arrow shows which way is good.",
            n=48,
        )
    )
    export(f"signals-{line}", pd.concat(tables))


def chart(
    frame: pd.DataFrame,
    limit: float | None,
    promotions: Sequence[tuple[datetime, str]],
    alarms: Sequence[datetime],
) -> alt.LayerChart:
    """One signal: `frame` has at, value and n."""
    import altair as alt
    import pandas as pd

    base = alt.Chart(frame)
    x = alt.X("at:T", title=None, axis=alt.Axis(grid=False, tickCount=4, format="%d. %H:%M"))
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=3))
    layers: list[Any] = []
    if limit is not None:
        layers.append(
            alt.Chart(pd.DataFrame([{"y": limit}]))
            .mark_rule(color=RED, strokeDash=[5, 4])
            .encode(y="y:Q")
        )
    for color, moments in ((GREY, [at for at, _ in promotions]), (RED, list(alarms))):
        inside = [at for at in moments if frame["at"].min() <= pd.Timestamp(at)]
        if inside:
            rules = pd.DataFrame({"at": pd.to_datetime(inside, utc=True)})
            layers.append(alt.Chart(rules).mark_rule(color=color, strokeWidth=2).encode(x="at:T"))
    layers.append(base.mark_line(strokeWidth=1.5, color=BLUE).encode(x=x, y=y))
    layers.append(
        base.mark_point(filled=True, size=30, color=BLUE, opacity=1).encode(
            x=x, y=y, tooltip=tooltip(frame, words())
        )
    )
    return styled(alt.layer(*layers), height=130)


def _frame(hours: Sequence[Hour]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "at": pd.to_datetime([hour.at for hour in hours], utc=True),
            "value": [hour.value for hour in hours],
            "n": [hour.n for hour in hours],
            "tip_hour": [f"{hour.at:%Y-%m-%d %H:%M}" for hour in hours],
            "tip_value": [f"{hour.value:.4g}" for hour in hours],
            "tip_conversations": [f"{hour.n:,}" for hour in hours],
        }
    )


def _head(name: str, signal: SignalVerdict | None) -> str:
    if signal is None:
        return f"**{plain(name)}**"
    arrow = "↑" if signal.direction == "higher" else "↓"
    color = {"fail": "red", "pass": "green"}.get(signal.outcome, "gray")
    shown = signal.shown
    number = "" if shown.value is None else f" {shown.value:.3g} ({shown.n:,})"
    limit = "" if signal.reference is None else f" · {tr('fails at')} {signal.reference:.3g}"
    return f":{color}[{MARKS[signal.outcome]}] **{plain(name)} {arrow}**{number}{limit}"


def _rank(signal: SignalVerdict | None) -> tuple[int, int]:
    if signal is None:
        return (3, 0)
    return (_WORST[signal.outcome], 0 if signal.required else 1)
