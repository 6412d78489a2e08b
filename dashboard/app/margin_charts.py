"""Charts in units of the margin, on a scale that is linear about the anchor and logarithmic beyond.

What lies further than the scale stands at its edge, with an arrow and the change itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from dashboard.app.chart_style import (
    AMBER,
    BLUE,
    GREY,
    RED,
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

NEAR, FAR = 2.0, 20.0
"""Margins to either side that a scale shows at least and at most."""

_SIGNED = "datum.value == 0 ? '0' : datum.label"
_TICKS = (-20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20)


def reach_of(values: Iterable[float | None]) -> float:
    """How far a scale goes that holds these changes, NEAR to FAR."""
    known = [abs(value) for value in values if value is not None and not math.isnan(value)]
    return min(max([NEAR, *known]), FAR)


def forest(rows: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """The rows of a verdict: change with interval in units of the margin.

    `rows` has name, at, low, high (0: no change, −1: the margin, infinite where nothing is
    allowed), outcome, href, text (the change itself), and tooltips.
    """
    import altair as alt
    import pandas as pd

    reach = reach_of((*rows["at"], *rows["low"], *rows["high"]))
    x = _scale(reach)
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=170, ticks=False))
    band = (
        alt.Chart(pd.DataFrame({"from": [-1.0], "to": [0.0]}))
        .mark_rect(color=SKY, opacity=0.16)
        .encode(x=alt.X("from:Q", scale=x), x2="to:Q")
    )
    base = alt.Chart(_held(rows, reach))
    color = outcome_color(rows, words)
    bars = base.mark_rule(strokeWidth=3, opacity=0.7).encode(
        x=alt.X("low:Q", scale=x), x2="high:Q", y=y, color=color
    )
    marks = base.mark_point(filled=True, size=110, opacity=1, cursor="pointer").encode(
        x=alt.X("at:Q", scale=x, axis=_axis(reach), title=words["worse ← margins → better"]),
        y=y,
        color=color,
        shape=outcome_shape(rows, words),
        tooltip=tooltip(rows, words),
    )
    layers = [band, *_rules(x), bars, *_beyond(base, x, y), clickable(marks, rows)]
    return styled(alt.layer(*layers), height=max(190, 44 * rows["name"].nunique() + 120))


def dumbbell(rows: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """Best so far against now, per slice: `rows` has name, best, at, low, high, href, text."""
    import altair as alt

    reach = reach_of((*rows["best"], *rows["at"], *rows["low"], *rows["high"]))
    x = _scale(reach)
    base = alt.Chart(_held(rows, reach))
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=190, ticks=False))
    bars = base.mark_rule(strokeWidth=3, opacity=0.7, color=BLUE).encode(
        x=alt.X("low:Q", scale=x), x2="high:Q", y=y
    )
    now = base.mark_point(filled=True, size=100, color=BLUE, opacity=1, cursor="pointer").encode(
        x=alt.X("at:Q", title=words["worse ← margins → better"], axis=_axis(reach), scale=x),
        y=y,
        tooltip=tooltip(rows, words),
    )
    best = base.mark_tick(thickness=3, size=20, color=AMBER).encode(x=alt.X("best:Q", scale=x), y=y)
    layers = [*_rules(x), bars, best, *_beyond(base, x, y), clickable(now, rows)]
    return styled(alt.layer(*layers), height=max(130, 34 * len(rows) + 60))


def heat(cells: pd.DataFrame, *, words: Words) -> alt.LayerChart:
    """Checkpoint × metric: `cells` has column, place, name, margins (+ better), sure, href."""
    import altair as alt

    columns = list(dict.fromkeys(cells.sort_values("place")["column"]))
    x = alt.X(
        "column:N",
        sort=columns,
        title=words["run, oldest first"],
        axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False, domain=False),
    )
    y = alt.Y(
        "name:N", sort=None, title=None, axis=alt.Axis(labelLimit=150, ticks=False, domain=False)
    )
    base = alt.Chart(cells.assign(margins=cells["margins"].clip(-FAR, FAR)))
    color = alt.Color(
        "margins:Q",
        title=words["margins"],
        scale=alt.Scale(
            type="symlog",
            domain=[-10, -1, 0, 1, 10],
            range=["#8C3D00", RED, "#F3F3F0", "#4A9CCB", "#00456B"],
            clamp=True,
            interpolate="rgb",
        ),
        legend=alt.Legend(
            orient="top",
            gradientLength=180,
            values=[-10, -1, 0, 1, 10],
            format="+.0f",
            labelExpr=_SIGNED,
        ),
    )
    boxes = base.mark_rect(stroke="transparent", cornerRadius=2, cursor="pointer").encode(
        x=x,
        y=y,
        color=color,
        opacity=alt.condition("datum.sure", alt.value(1.0), alt.value(0.3)),
        tooltip=tooltip(cells, words),
    )
    sure = (
        base.transform_filter("datum.sure")
        .mark_point(filled=True, size=18, cursor="pointer")
        .encode(
            x=x,
            y=y,
            color=alt.condition("abs(datum.margins) > 0.9", alt.value("white"), alt.value("#222")),
            tooltip=tooltip(cells, words),
        )
    )
    height = 36 * max(1, cells["name"].nunique()) + 130
    drawn = alt.layer(clickable(boxes, cells), clickable(sure, cells, told=False))
    return styled(drawn.resolve_scale(color="independent"), height=height)


def _scale(reach: float) -> Any:
    import altair as alt

    return alt.Scale(type="symlog", constant=1, domain=[-reach, reach], clamp=True, nice=False)


def _axis(reach: float) -> Any:
    import altair as alt

    ticks = [tick for tick in _TICKS if abs(tick) <= reach]
    return alt.Axis(grid=False, format="+.0f", values=ticks, labelExpr=_SIGNED)


def _rules(x: Any) -> list[Any]:
    """Where nothing changed, and where the margin ends."""
    import altair as alt
    import pandas as pd

    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=GREY)
    edge = alt.Chart(pd.DataFrame({"x": [-1.0]})).mark_rule(
        color=RED, strokeDash=[5, 4], strokeWidth=1.5
    )
    return [rule.encode(x=alt.X("x:Q", scale=x)) for rule in (zero, edge)]


def _held(rows: pd.DataFrame, reach: float) -> pd.DataFrame:
    """The rows on the scale, and how those beyond it are told at its edge."""
    import pandas as pd

    at = rows["at"]
    held = rows.assign(
        beyond=[
            "" if abs(value) <= reach else f"{text} →" if value > 0 else f"← {text}"
            for value, text in zip(at, rows["text"], strict=True)
        ],
        right=at > 0,
    )
    names = [name for name in ("at", "low", "high", "best") if name in rows]
    numbers = rows[names].apply(pd.to_numeric).clip(-reach, reach)
    return held.assign(**{name: numbers[name] for name in names})


def _beyond(base: Any, x: Any, y: Any) -> list[Any]:
    """An arrow and the change, inside of the edge that a row lies beyond."""
    import altair as alt

    return [
        base.transform_filter(f"datum.beyond != '' && {'' if right else '!'}datum.right")
        .mark_text(align="right" if right else "left", dx=-10 if right else 10, fontSize=12)
        .encode(x=alt.X("at:Q", scale=x), y=y, text="beyond:N", color=alt.value(GREY))
        for right in (True, False)
    ]
