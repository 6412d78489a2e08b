"""The charts in a metric's own unit, in one style.

Intervals are always drawn, nothing is smoothed, and a verdict shows by shape as well as by color.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dashboard.app.chart_style import (
    BLUE,
    GREY,
    PURPLE,
    RED,
    SERIES,
    SERIES_SHAPES,
    SKY,
    Words,
    clickable,
    outcome_color,
    outcome_shape,
    styled,
    tooltip,
)

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

WIDE = 20.0
"""Largest over smallest value from which on a trend is drawn on a logarithmic scale."""


def trend(
    points: pd.DataFrame,
    *,
    words: Words,
    anchor: float | None = None,
    bound: float | None = None,
    changes: Sequence[int] = (),
    by_step: bool = False,
) -> alt.LayerChart:
    """One metric over checkpoints: `points` has x, value, low, high, outcome, href.

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
    y = _wide(points["value"])
    layers: list[Any] = []
    if anchor is not None:
        layers += _margin(anchor, bound, words)
    if len(changes):
        import pandas as pd

        at = alt.Chart(pd.DataFrame({"x": list(changes)}))
        layers.append(at.mark_rule(strokeDash=[2, 3], color=PURPLE, size=2).encode(x="x:Q"))
    base = alt.Chart(points)
    layers.append(
        base.mark_line(color=GREY, strokeWidth=1, opacity=0.6).encode(
            x=axis, y=alt.Y("value:Q", scale=y)
        )
    )
    layers.append(
        base.mark_rule(strokeWidth=2, opacity=0.65).encode(
            x=axis,
            y=alt.Y("low:Q", title=None, scale=y),
            y2="high:Q",
            color=outcome_color(points, words),
        )
    )
    marks = base.mark_point(filled=True, size=75, opacity=1, cursor="pointer").encode(
        x=axis,
        y=alt.Y("value:Q", title=None, scale=y),
        color=outcome_color(points, words),
        shape=outcome_shape(points, words),
        tooltip=tooltip(points, words),
    )
    layers.append(clickable(marks, points))
    return styled(alt.layer(*layers), height=320)


def _wide(values: pd.Series) -> Any:
    """A scale on which one collapse doesn't flatten all else: logarithmic over WIDE-fold values."""
    import altair as alt

    low, high = float(values.min()), float(values.max())
    if low > 0 and high / low >= WIDE:
        return alt.Scale(type="log", nice=False)
    return alt.Scale(zero=False, nice=True)


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


def margins(
    points: pd.DataFrame, *, words: Words, flags: Sequence[tuple[float, str]] = ()
) -> alt.LayerChart:
    """The margin that was left at each verdict: `points` has place, left, low, high, metric,
    and href, and `anchor_run` where lines end with their anchor; `flags` are (place, name).
    """
    import altair as alt
    import pandas as pd

    base = alt.Chart(points)
    x = alt.X(
        "place:Q",
        title=None,
        axis=alt.Axis(grid=False, tickMinStep=1, format="d", tickCount=5),
        scale=alt.Scale(zero=False),
    )
    far = float(points[["left", "low", "high"]].abs().max().max()) > 5
    scale = alt.Scale(type="symlog", constant=1) if far else alt.Scale()
    axis = alt.Axis(format=".0%", tickCount=3, grid=False)
    y = alt.Y("left:Q", title=None, axis=axis, scale=scale)
    color = alt.Color(
        "metric:N",
        title=None,
        scale=alt.Scale(range=list(SERIES)),
        legend=alt.Legend(orient="bottom", direction="vertical", labelLimit=260),
    )
    shape = alt.Shape("metric:N", title=None, scale=alt.Scale(range=list(SERIES_SHAPES)))
    rule = base.mark_rule(color=RED, strokeDash=[5, 4]).encode(y=alt.datum(0))
    line = base.mark_line(strokeWidth=1.5, opacity=0.8).encode(x=x, y=y, color=color)
    if "anchor_run" in points:
        line = line.encode(detail="anchor_run:N")
    named = alt.Chart(pd.DataFrame(flags, columns=["place", "name"])).encode(x=x)
    raised = [
        named.mark_rule(color=GREY, strokeWidth=2),
        named.mark_text(align="left", dx=4, fontSize=12, color=GREY).encode(
            y=alt.value(8), text="name:N"
        ),
    ]
    marks = base.mark_point(filled=True, size=36, opacity=1).encode(
        x=x, y=y, color=color, shape=shape, tooltip=tooltip(points, words)
    )
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(
        x=x, y=alt.Y("low:Q", title=None, scale=scale), y2="high:Q", color=color
    )
    drawn = alt.layer(rule, *raised[: 2 * len(flags)], bars, line, clickable(marks, points))
    return styled(drawn, height=200 + 30 * points["metric"].nunique())


def promotions(points: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """The versions of a line over time: `points` has version, at, until, outcome, said, href.

    A bar is how long a version was served; the last one until now.
    """
    import altair as alt

    base = alt.Chart(points)
    x = alt.X("at:T", title=None, axis=alt.Axis(grid=False, labelOverlap=True))
    y = alt.Y(
        "version:O",
        title=words["version"],
        sort="descending",
        axis=alt.Axis(grid=False, ticks=False),
    )
    bars = base.mark_rule(strokeWidth=5, opacity=0.35, color=BLUE).encode(x=x, x2="until:T", y=y)
    marks = base.mark_point(filled=True, size=140, opacity=1, cursor="pointer").encode(
        x=x,
        y=y,
        color=outcome_color(points, words),
        shape=outcome_shape(points, words),
        tooltip=tooltip(points, words),
    )
    text = base.transform_filter("datum.said != ''").mark_text(dy=-16, fontSize=12, color=GREY)
    layers = [bars, clickable(marks, points), text.encode(x=x, y=y, text="said:N")]
    return styled(alt.layer(*layers), height=max(190, 44 * points["version"].nunique() + 90))
