"""The look that all charts share: colors, shapes, legends, and saving a chart as SVG.

The colors are Okabe and Ito's, which survive color blindness; their blue is lighter here, so that
it is seen on both themes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

BLUE, GREEN, RED, AMBER, PURPLE, GREY = (
    "#2B8CC4",
    "#009E73",
    "#D55E00",
    "#E69F00",
    "#CC79A7",
    "#8C8C8C",
)
SKY = "#56B4E9"
OUTCOMES = ("pass", "fail", "inconclusive", "incomparable", "none")
OUTCOME_COLORS = (GREEN, RED, AMBER, PURPLE, GREY)
OUTCOME_SHAPES = ("circle", "cross", "diamond", "square", "circle")
SERIES = (BLUE, AMBER, PURPLE, GREEN, SKY, GREY)
"""For metrics side by side, the most different first; RED is left to limits and failures."""
SERIES_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")

Words = Mapping[str, str]


def styled(chart: Any, *, height: int) -> alt.LayerChart:
    """The one style: width of the page, quiet axes, a legend above."""
    drawn: alt.LayerChart = (
        chart.properties(width="container", height=height)
        .configure_view(stroke=None)
        .configure_axis(labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(orient="top", labelFontSize=12, titleFontSize=12, symbolSize=80)
        # A reader of the screen is told the chart's name, and has its numbers in a table below:
        # mark by mark it would be told of rules and bands too, which have no names.
        .configure_mark(aria=False)
    )
    return drawn


def clickable(layer: Any, frame: pd.DataFrame, *, told: bool = True) -> Any:
    """The layer with marks that lead on to the address in their row's `href`, where it has one.

    A link and no selection: Streamlit takes two entries of the browser's history for a page that
    a selection switches to, and Back would need two presses. Only these marks are told to a reader
    of the screen, and reached by keyboard (`chart_keys`); none that lies on another (`told` false).
    """
    if "href" not in frame:
        return layer
    linked = layer.encode(href="href:N")
    linked.mark.aria = told
    return linked


def svg(chart: Any) -> bytes:
    """The chart as a file that stands alone, on white. No network is asked."""
    import vl_convert as convert

    spec = chart.properties(width=760, background="white").to_dict(context={"pre_transform": False})
    return str(convert.vegalite_to_svg(spec, allowed_base_urls=[])).encode()


def outcome_color(frame: pd.DataFrame, words: Words) -> Any:
    """A mark's color by its `outcome`."""
    import altair as alt

    scale = alt.Scale(domain=list(OUTCOMES), range=list(OUTCOME_COLORS))
    legend = _outcome_legend(frame, words)
    return alt.Color("outcome:N", title=words["verdict"], scale=scale, legend=legend)


def outcome_shape(frame: pd.DataFrame, words: Words) -> Any:
    """And its shape: a verdict is told by both."""
    import altair as alt

    scale = alt.Scale(domain=list(OUTCOMES), range=list(OUTCOME_SHAPES))
    legend = _outcome_legend(frame, words)
    return alt.Shape("outcome:N", title=words["verdict"], scale=scale, legend=legend)


def _outcome_legend(frame: pd.DataFrame, words: Words) -> Any:
    """Of the outcomes that are there, in the reader's language."""
    import altair as alt

    present = [outcome for outcome in OUTCOMES if (frame["outcome"] == outcome).any()]
    names = json.dumps({outcome: words[outcome] for outcome in present}, ensure_ascii=False)
    return alt.Legend(values=present, labelExpr=f"{names}[datum.value]", columns=3)


def tooltip(frame: pd.DataFrame, words: Words) -> list[Any]:
    """The columns that begin with `tip_`, as text, under their names."""
    import altair as alt

    return [
        alt.Tooltip(f"{column}:N", title=words.get(column[4:], column[4:]))
        for column in frame.columns
        if column.startswith("tip_")
    ]
