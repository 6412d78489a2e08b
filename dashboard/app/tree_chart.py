"""The chart of a training's checkpoints as a tree: a lane for each attempt, roll backs between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dashboard.app.chart_style import (
    BLUE,
    GREY,
    RED,
    Words,
    clickable,
    outcome_color,
    outcome_shape,
    styled,
    tooltip,
)
from dashboard.queries.checkpoint_tree import Checkpoint, Tree

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

LANE = 62


def checkpoint_tree(
    tree: Tree, *, words: Words, href: Callable[[Checkpoint], str | None]
) -> alt.LayerChart:
    """Each checkpoint by its worst verdict; abandoned ones grey, the best ones ringed."""
    import altair as alt

    nodes = _nodes(tree, words).assign(href=[href(one) for one in tree.checkpoints])
    lanes = {attempt: lane for lane, attempt in enumerate(tree.attempts)}
    x = alt.X("step:Q", title=words["step"], axis=alt.Axis(format="d", grid=False, tickMinStep=1))
    y = alt.Y(
        "lane:Q",
        title=None,
        axis=None,
        scale=alt.Scale(domain=[len(lanes) - 0.35, -0.65], nice=False),
    )
    lines, backs = _lines(tree, lanes), _backs(tree, lanes)
    layers: list[Any] = []
    if len(lines):
        grey = alt.condition("datum.abandoned", alt.value(GREY), alt.value(BLUE))
        faded = alt.condition("datum.abandoned", alt.value(0.45), alt.value(0.9))
        layers.append(
            alt.Chart(lines)
            .mark_rule(strokeWidth=2)
            .encode(x=x, y=y, x2="to_step:Q", y2="to_lane:Q", color=grey, opacity=faded)
        )
    if len(backs):
        layers.append(
            alt.Chart(backs)
            .mark_rule(strokeWidth=1.5, strokeDash=[5, 4], color=RED)
            .encode(x=x, y=y, x2="to_step:Q", y2="to_lane:Q", tooltip=tooltip(backs, words))
        )
    base = alt.Chart(nodes)
    ring = base.transform_filter("datum.best").mark_point(size=330, strokeWidth=2, color=BLUE)
    layers.append(ring.encode(x=x, y=y))
    marks = base.mark_point(filled=True, size=110, cursor="pointer").encode(
        x=x,
        y=y,
        color=outcome_color(nodes, words),
        shape=outcome_shape(nodes, words),
        opacity=alt.condition("datum.abandoned", alt.value(0.45), alt.value(1.0)),
        tooltip=tooltip(nodes, words),
    )
    layers.append(clickable(marks, nodes))
    text = base.transform_filter("datum.said != ''").mark_text(dy=-18, fontSize=12, color=GREY)
    layers.append(text.encode(x=x, y=y, text="said:N"))
    return styled(alt.layer(*layers), height=LANE * len(lanes) + 110)


def _nodes(tree: Tree, words: Words) -> pd.DataFrame:
    import pandas as pd

    lanes = {attempt: lane for lane, attempt in enumerate(tree.attempts)}
    rows = []
    for one in tree.checkpoints:
        state = [
            words[name]
            for name, is_so in (
                ("best checkpoint", one.best),
                ("held", one.held),
                ("abandoned", one.abandoned),
                ("offered", one.offered and not one.versions),
            )
            if is_so
        ]
        promoted = [f"{words['promoted']} {version}" for version in one.versions]
        offered = [words["offered"]] if one.offered and not promoted else []
        rows.append(
            {
                "step": one.step,
                "lane": lanes[one.attempt],
                "outcome": one.outcome,
                "best": one.best,
                "abandoned": one.abandoned,
                "said": ", ".join(promoted or offered),
                "tip_step": str(one.step),
                "tip_attempt": str(one.attempt),
                "tip_verdict": words[one.outcome],
                "tip_state": ", ".join([*state, *promoted]) or "–",
            }
        )
    return pd.DataFrame(rows)


def _lines(tree: Tree, lanes: dict[int, int]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "step": tree.checkpoints[one.parent].step,
                "lane": lanes[tree.checkpoints[one.parent].attempt],
                "to_step": one.step,
                "to_lane": lanes[one.attempt],
                "abandoned": one.abandoned,
            }
            for one in tree.checkpoints
            if one.parent is not None
        ]
    )


def _backs(tree: Tree, lanes: dict[int, int]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for back in tree.rollbacks:
        failed, to = tree.checkpoints[back.failed], tree.checkpoints[back.to]
        rows.append(
            {
                # A little lower, so that it is seen beside the line that led there.
                "step": failed.step,
                "lane": lanes[failed.attempt] + 0.12,
                "to_step": to.step,
                "to_lane": lanes[to.attempt] + 0.12,
                "tip_rolled back": f"{failed.step} → {to.step}",
            }
        )
    return pd.DataFrame(rows)
