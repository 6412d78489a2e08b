"""The page of trainings, live while one runs: losses, gradient norm, learning rate, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from dashboard.app import charts, machine, verdict_text
from dashboard.app.filters import about, pick
from dashboard.app.page import (
    MARKS,
    cached,
    duration,
    empty,
    export,
    link,
    recent,
    title,
    took,
    url,
    when,
    why_link,
)
from dashboard.app.tree_chart import checkpoint_tree as checkpoint_tree_chart
from dashboard.i18n.reader import tr, words
from dashboard.queries import checkpoint_tree, elo, history, measures
from dashboard.queries.checkpoint_tree import Checkpoint, Tree
from dashboard.queries.time_left import Left, spent, time_left
from dashboard.web.escape import plain
from harness.core.escape import visible
from harness.core.format import in_todays_words
from harness.core.types import Row
from harness.statistics.intervals import Estimate

EVERY_S = 5.0
QUIET_S = 900
"""A training that ended in no event and has been silent for so long may have been killed."""

_OVER = ("finished", "stopped", "promoted", "interrupted")


def show() -> None:
    title("Trainings", "Is it learning, and did the gate step in?")
    found = {row["training_id"]: row for row in cached(history.trainings)}
    asked = st.query_params.get("training")
    if asked and asked not in found:
        found |= {row["training_id"]: row for row in cached(history.trainings, asked)}
    if not found:
        empty("Nothing was trained here yet.", "ratchet train trainers/recipes/quickstart.yaml")
        return
    chosen = pick(
        tr("Training"),
        list(found),
        param="training",
        shown=lambda name: f"{name} · {tr(_state(found[name]))} · {when(_last(found[name]))}",
    )
    about(chosen)
    running = _state(found[chosen]) == "running"
    st.fragment(_live, run_every=EVERY_S if running else None)(chosen)


def _last(row: Row) -> datetime | None:
    moments: list[datetime] = [
        at for at in (row["started_at"], row["last_step_at"], row["last_event_at"]) if at
    ]
    return max(moments, default=None)


def _state(row: Row) -> str:
    if row["last_event"] in _OVER:
        return str(row["last_event"])
    last = _last(row)
    silent = last is None or (datetime.now(UTC) - last).total_seconds() > QUIET_S
    return "silent" if silent else "running"


def _live(training_id: str) -> None:
    """One look at a training, at most four seconds old."""
    (row,) = recent(history.trainings, training_id)
    steps = recent(history.training_steps, training_id)
    events = recent(history.training_events, training_id)
    _head(row, steps, events)
    if not steps:
        st.info(tr("No step was taken yet."))
        return
    tree = recent(checkpoint_tree.tree, training_id)
    _tree(tree)
    _curves(row, steps)
    _events(events, tree)
    st.caption(
        plain(
            f"{tr('training')} {training_id} · {tr('recipe')} {row['recipe']} · "
            f"{tr('line')} {row['line']} · {tr('started')} {row['started_at']:%Y-%m-%d %H:%M} UTC"
        )
    )


def _head(row: Row, steps: list[Row], events: list[Row]) -> None:
    planned = _planned(row["config"])
    step, last = row["step"] or 0, steps[-1] if steps else {}
    state = _state(row)
    first, second, third, fourth = st.columns(4)
    first.metric(tr("state"), tr(state))
    second.metric(tr("step"), f"{step:,} / {planned:,}" if planned else f"{step:,}")
    third.metric(tr("loss, nats per token"), _digits(last.get("loss")))
    fourth.metric(tr("rolled back"), f"{row['rollbacks']} ×")
    cost = took(spent(steps, events[::-1]))
    if cost:
        st.caption(cost)
    if planned and state == "running":
        left = time_left(planned, steps, events[::-1], datetime.now(UTC))
        st.progress(min(step / planned, 1.0), text=f"{step / planned:.0%}{_left(left)}")
        _machine()
    if state == "silent":
        st.warning(tr("Nothing was heard of it for a while. The same command goes on with it."))


def _tree(tree: Tree) -> None:
    """The checkpoints and what became of them; a click leads to the verdict."""
    if not tree.checkpoints:
        return
    st.subheader(tr("Checkpoints"), anchor=False)

    def behind(one: Checkpoint) -> str | None:
        return url("verdict", verdict=one.verdict_id) if one.verdict_id else None

    chart = checkpoint_tree_chart(tree, words=words(), href=behind)
    st.altair_chart(chart, width="stretch", key="tree", alt=tr("Checkpoints"))
    st.caption(
        tr(
            "A lane is an attempt, and a dashed red line a roll back; what was abandoned is grey. "
            "A ring marks each best checkpoint. A click leads to the verdict."
        )
    )


def _planned(config: Row) -> int:
    """Steps of the stage that this training is; 0 where that isn't known."""
    stages = config.get("stages") or ()
    number = (config.get("stage") or {}).get("number") or 1
    return (stages[number - 1].get("steps") or 0) if number <= len(stages) else 0


def _left(left: Left | None) -> str:
    """How long it takes from here, and by what that is said."""
    if left is None:
        return ""
    about = tr("about {time} left", time=duration(left.seconds))
    by = tr("by its steps, scoring left out")
    if left.segment_s is not None:
        by = tr(
            "by its last {n} segments, scoring included ({time} each)",
            n=left.segments,
            time=duration(left.segment_s),
        )
    return f" · {about}, {by}"


def _machine() -> None:
    seen = machine.now()
    parts = []
    if seen.used is not None and seen.total is not None:
        parts.append(f"{tr('memory')} {seen.used:.1f} / {seen.total:.1f} GiB")
    if seen.load is not None:
        parts.append(f"{tr('load per core')} {seen.load:.2f}")
    for gpu in seen.gpus:
        busy = "" if gpu.busy is None else f" {gpu.busy:.0%},"
        parts.append(f"{gpu.name}:{busy} {gpu.used:.1f} / {gpu.total:.1f} GiB")
    if not seen.gpus:
        parts.append(tr("no GPU here"))
    st.caption(plain(tr("{what}: {said}", what=tr("this machine"), said=" · ".join(parts))))


def _curves(row: Row, steps: list[Row]) -> None:
    import pandas as pd

    frame = pd.DataFrame(steps)
    frame["attempt"] = frame["attempt"].map(lambda n: f"{tr('attempt')} {n}")
    left, right = st.columns(2)
    _measured(row, left, right)
    with left:
        loss = _curve(frame, "loss", tr("training loss, nats per token"))
        _curve(frame, "learning_rate", tr("learning rate"), ".1e")
    with right:
        _curve(frame, "grad_norm", tr("gradient norm, before clipping"))
    table = frame.drop(columns=["happened_at"]).assign(
        happened_at=frame["happened_at"].map(lambda at: at.isoformat() if at else None)
    )
    export(f"training-{row['training_id']}", table, chart=loss)
    if len(steps) >= history.STEPS:
        st.caption(tr("Every k-th step is shown, none is averaged."))


def _curve(frame: Any, name: str, axis: str, form: str = "") -> Any:
    """Draws one column over the steps; the chart, or None where nothing is there to draw."""
    shown = frame.dropna(subset=[name])
    if not len(shown):
        return None
    points = shown[["step", "attempt", name]].assign(
        tip_step=shown["step"].astype(str), tip_value=shown[name].map(_digits)
    )
    chart = charts.series(
        points,
        x="step",
        y=name,
        x_title=tr("step"),
        words=words(),
        by="attempt",
        form=form,
    )
    st.markdown(f"**{axis}**")
    st.altair_chart(chart, width="stretch", key=f"curve.{name}", alt=axis)
    return chart


def _measured(row: Row, left: Any, right: Any) -> None:
    """What the gate measured at each checkpoint: on the right nats per token of held-out text, on
    the left Elo, where the suite has it.
    """
    runs = cached(history.runs_of, None, row["training_id"])
    last = cached(history.run, runs[-1]["run_id"]) if runs else None
    if last is None:
        return
    declared = history.declared(last)
    runs = [found for found in runs if found["suite"] == last["suite"]]
    texts = [name for name, says in declared.items() if says["form"] == "perplexity"][:1]
    anchor = elo.anchor_of_training(runs)
    rated = [name for name in declared if elo.is_elo(name)] if anchor else []
    sides = [(found["run_id"], found["model_digest"]) for found in runs]
    with right:
        for name in texts:
            values = cached(measures.values, [run for run, _ in sides], declared, name)
            axis = tr("validation loss, nats per token ({name})", name=name)
            _points(runs, name, values, axis, math.log)
    with left:
        for name in rated:
            values = cached(elo.points, last["protocol"], name, anchor, sides)
            axis = tr("Elo, checkpoint-0 is 1000 ({name})", name=name)
            _points(runs, name, values, axis, float)


def _points(
    runs: list[Row],
    name: str,
    values: Mapping[tuple[str, str], Estimate],
    axis: str,
    shown: Callable[[float], float],
) -> None:
    """Draws one metric over the checkpoints, each value as `shown` makes it."""
    import pandas as pd

    points = []
    for found in runs:
        value = values.get((found["run_id"], name))
        if value is None:
            continue
        low, high = (value.value if end is None else end for end in (value.low, value.high))
        at = shown(value.value)
        points.append(
            {
                "step": found["step"],
                "value": at,
                "low": shown(max(low, 1e-9)),
                "high": shown(max(high, 1e-9)),
                "tip_step": str(found["step"]),
                "tip_value": f"{at:.3f}" if at < 100 else f"{at:.0f}",
                "tip_verdict": f"{MARKS[found['outcome']]} {tr(found['outcome'])}",
            }
        )
    if points:
        chart = charts.series(
            pd.DataFrame(points), x="step", y="value", x_title=tr("step"), words=words()
        )
        st.markdown(f"**{plain(axis)}**")
        st.altair_chart(chart, width="stretch", key=f"curve.{name}", alt=axis)


def _events(events: list[Row], tree: Tree) -> None:
    import pandas as pd

    st.subheader(tr("What happened"), anchor=False)
    backs = {back.verdict_id for back in tree.rollbacks}
    outcomes = {one.verdict_id: one.outcome for one in tree.checkpoints if one.verdict_id}
    for event in [event for event in events if event["event"] not in _QUIET][:20]:
        text, to = st.columns([5, 1.4], vertical_alignment="center")
        detail = event["detail"] or {}
        said = [f"**{_words(event['event'])}**"]
        if event["step"] is not None:
            said.append(tr("step {n}", n=event["step"]))
        said.append(when(event["happened_at"]))
        if event["event"] == "rolled_back":
            remedy = _words(str(detail.get("remedy")))
            back = tr("back to step {to}, remedy: {remedy}", to=detail.get("to"), remedy=remedy)
            said.append(plain(back))
        verdicts = detail.get("verdicts") or ()
        verdict = detail.get("verdict_id") or next(
            (name for name in verdicts if name in backs), next(iter(verdicts), None)
        )
        why = detail.get("why") or detail.get("headline") or tr(detail.get("outcome") or "")
        why = verdict_text.stored(verdict, why)[0] if verdict else verdict_text.happened(why)
        text.markdown(" · ".join(said) + (f"  \n{plain(why)}" if why else ""))
        if verdict:
            with to:
                link("verdict", tr("verdict of step {n} →", n=event["step"]), verdict=verdict)
                why_link(verdict, outcomes.get(verdict))
    with st.expander(tr("Every event")):
        frame = pd.DataFrame(events)
        said = frame["detail"].map(lambda detail: in_todays_words(str(detail or "")))
        frame["detail"] = said.map(lambda text: visible(text, 2_000))
        st.dataframe(frame, hide_index=True, width="stretch")


def _words(name: str) -> str:
    """A name of the store's as words: `rolled back`."""
    return tr(name).replace("_", " ")


_QUIET = ("checkpoint",)
"""Events of which the tree says all."""


def _digits(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1e}" if 0 < abs(value) < 0.001 else f"{value:.3f}"
