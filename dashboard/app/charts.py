"""Every chart of the dashboard, in one style.

Intervals are always drawn, nothing is smoothed, and a verdict shows by shape as well as by color.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dashboard.app.chart_style import (
    AMBER,
    BLUE,
    GREY,
    PURPLE,
    RED,
    SERIES,
    SERIES_SHAPES,
    SKY,
    Words,
    outcome_color,
    outcome_shape,
    styled,
    tooltip,
)

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_PLAIN_ZERO = "datum.value == 0 ? '0' : datum.label"


def trend(
    points: pd.DataFrame,
    *,
    words: Words,
    anchor: float | None = None,
    bound: float | None = None,
    changes: Sequence[int] = (),
    by_step: bool = False,
) -> alt.LayerChart:
    """One metric over checkpoints: `points` has x, value, low, high, outcome, model, run, at.

    The anchor's value is a rule; the band between it and `bound` is what the margin allows;
    `changes` are the x of change points.
    """
    import altair as alt

    axis = alt.X(
        "x:Q",
        title=words["step"] if by_step else words["run, oldest first"],
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
        scale=alt.Scale(zero=False, nice=False, padding=18),
    )
    y = alt.Scale(zero=False, nice=True)
    layers: list[Any] = []
    if anchor is not None:
        layers += _margin(anchor, bound, words)
    if len(changes):
        import pandas as pd

        at = alt.Chart(pd.DataFrame({"x": list(changes)}))
        layers.append(at.mark_rule(strokeDash=[2, 3], color=PURPLE, size=2).encode(x="x:Q"))
    base = alt.Chart(points)
    layers.append(
        base.mark_line(color=GREY, strokeWidth=1, opacity=0.6).encode(x=axis, y="value:Q")
    )
    layers.append(
        base.mark_rule(strokeWidth=2, opacity=0.65).encode(
            x=axis,
            y=alt.Y("low:Q", title=None, scale=y),
            y2="high:Q",
            color=outcome_color(points, words),
        )
    )
    layers.append(
        base.mark_point(filled=True, size=75, opacity=1).encode(
            x=axis,
            y=alt.Y("value:Q", title=None, scale=y),
            color=outcome_color(points, words),
            shape=outcome_shape(points, words),
            tooltip=tooltip(points, words),
        )
    )
    return styled(alt.layer(*layers), height=320)


def forest(rows: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """The rows of a verdict: change with interval in units of the margin.

    `rows` has name, at, low, high (0: no change, −1: the margin), outcome, label, role.
    """
    import altair as alt
    import pandas as pd

    reach = max(2.0, *(abs(float(v)) for v in (*rows["low"], *rows["high"])))
    reach = min(reach, 4.0)
    x = alt.Scale(domain=[-reach, reach], clamp=True, nice=False)
    axis = alt.Axis(grid=False, format="+.0f", tickCount=5, labelExpr=_PLAIN_ZERO)
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=170, ticks=False))
    band = (
        alt.Chart(pd.DataFrame({"from": [-1.0], "to": [0.0]}))
        .mark_rect(color=SKY, opacity=0.16)
        .encode(x=alt.X("from:Q", scale=x), x2="to:Q")
    )
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=GREY).encode(x="x:Q")
    edge = (
        alt.Chart(pd.DataFrame({"x": [-1.0]}))
        .mark_rule(color=RED, strokeDash=[5, 4], strokeWidth=1.5)
        .encode(x="x:Q")
    )
    base = alt.Chart(rows)
    color = outcome_color(rows, words)
    bars = base.mark_rule(strokeWidth=3, opacity=0.7).encode(
        x=alt.X("low:Q", scale=x), x2="high:Q", y=y, color=color
    )
    marks = base.mark_point(filled=True, size=110, opacity=1).encode(
        x=alt.X("at:Q", scale=x, axis=axis, title=words["worse ← margins → better"]),
        y=y,
        color=color,
        shape=outcome_shape(rows, words),
        tooltip=tooltip(rows, words),
    )
    return styled(
        alt.layer(band, edge, zero, bars, marks), height=max(150, 44 * rows["name"].nunique() + 80)
    )


def heat(cells: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """Checkpoint × task: `cells` has run, place, name, margins (signed, + better), text."""
    import altair as alt

    x = alt.X(
        "place:O",
        title=words["run, oldest first"],
        axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False, domain=False),
    )
    y = alt.Y(
        "name:N", sort=None, title=None, axis=alt.Axis(labelLimit=150, ticks=False, domain=False)
    )
    base = alt.Chart(cells)
    boxes = base.mark_rect(stroke="transparent", cornerRadius=2).encode(
        x=x,
        y=y,
        color=alt.Color(
            "margins:Q",
            title=words["margins"],
            scale=alt.Scale(
                domain=[-2, -1, 0, 1, 2],
                range=["#8C3D00", RED, "#F3F3F0", "#4A9CCB", "#00456B"],
                clamp=True,
                interpolate="rgb",
            ),
            legend=alt.Legend(
                orient="top", gradientLength=180, tickCount=5, format="+.0f", labelExpr=_PLAIN_ZERO
            ),
        ),
        tooltip=tooltip(cells, words),
    )
    sure = (
        base.transform_filter("datum.sure")
        .mark_point(filled=True, size=18)
        .encode(
            x=x,
            y=y,
            color=alt.condition("abs(datum.margins) > 0.9", alt.value("white"), alt.value("#222")),
        )
    )
    height = 36 * max(1, cells["name"].nunique()) + 130
    return styled(alt.layer(boxes, sure).resolve_scale(color="independent"), height=height)


def dumbbell(rows: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """Best so far against now, per slice: `rows` has name, best, now, low, high, lost, ..."""
    import altair as alt

    base = alt.Chart(rows)
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=190, ticks=False))
    zero = base.mark_rule(color=GREY).encode(x=alt.datum(0))
    edge = base.mark_rule(color=RED, strokeDash=[5, 4], strokeWidth=1.5).encode(x=alt.datum(-1))
    bars = base.mark_rule(strokeWidth=3, opacity=0.7, color=BLUE).encode(
        x=alt.X("low:Q"), x2="high:Q", y=y
    )
    now = base.mark_point(filled=True, size=100, color=BLUE, opacity=1).encode(
        x=alt.X(
            "now:Q",
            title=words["worse ← margins → better"],
            axis=alt.Axis(grid=False, format="+.0f", tickCount=7, labelExpr=_PLAIN_ZERO),
            scale=alt.Scale(domain=[-4, 3], clamp=True, nice=False),
        ),
        y=y,
        tooltip=tooltip(rows, words),
    )
    best = base.mark_tick(thickness=3, size=20, color=AMBER).encode(x="best:Q", y=y)
    return styled(alt.layer(zero, edge, bars, best, now), height=max(110, 34 * len(rows) + 40))


def series(
    points: pd.DataFrame,
    *,
    x: str,
    y: str,
    x_title: str,
    words: Words,
    by: str | None = None,
    anchor: float | None = None,
    form: str = "",
    height: int = 210,
) -> alt.LayerChart:
    """Plain measured points with a thin line; intervals where `points` has low and high."""
    import altair as alt

    base = alt.Chart(points)
    axis = alt.X(f"{x}:Q", title=x_title, axis=alt.Axis(grid=False, tickMinStep=1, format="d"))
    axis_y = alt.Y(f"{y}:Q", title=None, scale=alt.Scale(zero=False))
    if form:
        axis_y = axis_y.axis(format=form)
    color: Any = alt.value(BLUE)
    if by is not None:
        scale = alt.Scale(range=list(SERIES))
        legend = alt.Legend(columns=2) if points[by].nunique() > 1 else None
        color = alt.Color(f"{by}:N", title=None, scale=scale, legend=legend)
    layers: list[Any] = []
    if anchor is not None:
        layers += _margin(anchor, None, words)
    layers.append(
        base.mark_line(strokeWidth=1.5, opacity=0.85).encode(x=axis, y=axis_y, color=color)
    )
    if "low" in points:
        layers.append(
            base.mark_rule(strokeWidth=2, opacity=0.6).encode(
                x=axis, y="low:Q", y2="high:Q", color=color
            )
        )
    if len(points) <= 120:
        layers.append(
            base.mark_point(filled=True, size=45, opacity=1).encode(
                x=axis, y=axis_y, color=color, tooltip=tooltip(points, words)
            )
        )
    return styled(alt.layer(*layers), height=height)


def intervals(rows: pd.DataFrame, *, title: str, words: Words) -> alt.LayerChart:
    """A value and its interval per name: `rows` has name, value, low, high; limit, outcome."""
    import altair as alt

    base = alt.Chart(rows)
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=190, ticks=False))
    layers = []
    if "limit" in rows:
        layers.append(base.mark_tick(color=RED, thickness=2, size=22).encode(x="limit:Q", y=y))
    style: dict[str, Any] = {"color": alt.value(BLUE)}
    if "outcome" in rows:
        style = {"color": outcome_color(rows, words)}
    bars = base.mark_rule(strokeWidth=3, opacity=0.7).encode(x="low:Q", x2="high:Q", y=y, **style)
    if "outcome" in rows:
        style["shape"] = outcome_shape(rows, words)
    axis = alt.Axis(grid=True, tickCount=6)
    marks = base.mark_point(filled=True, size=100, opacity=1).encode(
        x=alt.X("value:Q", title=title, scale=alt.Scale(zero=False), axis=axis),
        y=y,
        tooltip=tooltip(rows, words),
        **style,
    )
    return styled(alt.layer(*layers, bars, marks), height=max(90, 40 * len(rows) + 80))


def matrix(cells: pd.DataFrame, *, title: str, words: Words) -> alt.LayerChart:
    """Shares of wins of row over column: `cells` has row, column, share, votes."""
    import altair as alt

    base = alt.Chart(cells)
    order = list(dict.fromkeys(cells["row"]))
    x = alt.X(
        "column:N",
        sort=order,
        title=None,
        axis=alt.Axis(labelAngle=-25, labelLimit=140, labelOverlap=False),
    )
    y = alt.Y("row:N", sort=order, title=None, axis=alt.Axis(labelLimit=150))
    boxes = base.mark_rect(cornerRadius=2).encode(
        x=x,
        y=y,
        color=alt.Color(
            "share:Q",
            title=title,
            scale=alt.Scale(domain=[0, 0.5, 1], range=[RED, "#F3F3F0", BLUE], interpolate="rgb"),
            legend=None,
        ),
        tooltip=tooltip(cells, words),
    )
    texts = base.mark_text(fontSize=13).encode(
        x=x,
        y=y,
        text=alt.Text("share:Q", format=".0%"),
        color=alt.condition("abs(datum.share - 0.5) > 0.3", alt.value("white"), alt.value("#222")),
    )
    return styled(alt.layer(boxes, texts), height=60 * max(1, cells["row"].nunique()) + 90)


def _margin(anchor: float, bound: float | None, words: Words) -> list[Any]:
    import altair as alt
    import pandas as pd

    layers: list[Any] = []
    if bound is not None:
        frame = pd.DataFrame({"from": [anchor], "to": [bound]})
        layers.append(
            alt.Chart(frame).mark_rect(color=SKY, opacity=0.16).encode(y="from:Q", y2="to:Q")
        )
        edge = pd.DataFrame({"y": [bound], "tip": [words["the margin"]]})
        rule = alt.Chart(edge).mark_rule(color=RED, strokeDash=[5, 4], strokeWidth=1.5)
        layers.append(rule.encode(y="y:Q", tooltip=alt.Tooltip("tip:N", title=" ")))
    frame = pd.DataFrame({"y": [anchor], "tip": [words["the anchor"]]})
    rule = alt.Chart(frame).mark_rule(color=BLUE, strokeWidth=1.5)
    layers.append(rule.encode(y="y:Q", tooltip=alt.Tooltip("tip:N", title=" ")))
    return layers


def margins(points: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """The margin that was left at each verdict: `points` has place, left, low, high, metric."""
    import altair as alt

    base = alt.Chart(points)
    x = alt.X(
        "place:Q",
        title=None,
        axis=alt.Axis(grid=False, tickMinStep=1, format="d", tickCount=5),
        scale=alt.Scale(zero=False),
    )
    y = alt.Y("left:Q", title=None, axis=alt.Axis(format=".0%", tickCount=3, grid=False))
    color = alt.Color(
        "metric:N",
        title=None,
        scale=alt.Scale(range=list(SERIES)),
        legend=alt.Legend(orient="bottom", direction="vertical", labelLimit=260),
    )
    shape = alt.Shape("metric:N", title=None, scale=alt.Scale(range=list(SERIES_SHAPES)))
    rule = base.mark_rule(color=RED, strokeDash=[5, 4]).encode(y=alt.datum(0))
    line = base.mark_line(strokeWidth=1.5, opacity=0.8).encode(x=x, y=y, color=color)
    marks = base.mark_point(filled=True, size=36, opacity=1).encode(
        x=x, y=y, color=color, shape=shape, tooltip=tooltip(points, words)
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(
        x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=color
    )
    return styled(alt.layer(rule, bars, line, marks), height=190 + 18 * points["metric"].nunique())
