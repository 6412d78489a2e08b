"""The first page: each line in three sentences, what needs a human, and the last verdicts."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from dashboard.app import verdict_text
from dashboard.app.answers import answer_box, said, sentence
from dashboard.app.linked_table import linked_table
from dashboard.app.page import (
    EXPLAINED,
    MARKS,
    cached,
    duration,
    empty,
    export,
    link,
    may_act,
    provenance,
    recent,
    require_history,
    title,
    took,
    url,
    when,
    why_link,
    why_url,
)
from dashboard.i18n.reader import tr, words
from dashboard.queries import history
from dashboard.queries.attention import (
    Judged,
    Overview,
    last_candidates,
    overview,
)
from dashboard.queries.margin_history import Course, best_of, forecasts
from dashboard.queries.time_left import spent, time_left
from dashboard.web.escape import plain
from harness.comparison.line_state import LineState, TrainingStand
from harness.comparison.line_words import Need, canary, serving, settling, ship

EVERY_S = 30.0


def show() -> None:
    title("Today", "Is it still getting better, and may we ship?")
    if not recent(overview).lines:
        if not require_history():
            return
        empty(
            "Nothing was ever promoted, so no line has a promoted checkpoint.",
            "ratchet promote MODEL --line support-bot",
        )
    st.fragment(_live, run_every=EVERY_S)()
    _sources(recent(overview))


def _live() -> None:
    """Everything that may change while somebody looks, anew every half minute."""
    seen = recent(overview)
    for state in seen.lines:
        _strip(state)
    for state in seen.lines:
        with st.container(border=True):
            _line(state, seen.courses.get(state.line))
    st.subheader(tr("What needs a human"), anchor=False)
    _needs(seen)
    _recent()


def _strip(state: LineState) -> None:
    """Red for a failure of what is served, amber for an advisory one."""
    if state.alarm_on_served() is not None:
        st.error(f"**{plain(state.line)}** · {sentence(serving(state))}")
    elif state.serving.advisory:
        names = ", ".join(signal.signal for signal in state.serving.advisory)
        said = tr("got worse in production, advisory: {signals}", signals=plain(names))
        st.warning(f"**{plain(state.line)}** · {said}")


# One line.


def _line(state: LineState, of: Course | None) -> None:
    head, act = st.columns([4, 1], vertical_alignment="center")
    version = state.promoted.version if state.promoted else None
    head.markdown(f"#### {plain(state.line)}" + (f" · v{version}" if version is not None else ""))
    if may_act() and state.promoted is not None:
        from dashboard.app.actions import roll_back

        with act:
            roll_back(state.line)
    _ship(state)
    _better(state, of)
    _serving(state)
    for stand in state.trainings:
        if stand.state == "running":
            _training(stand)


def _ship(state: LineState) -> None:
    label, text, go = _row()
    label.markdown(f"**{tr('Ship?')}**")
    first, second = ship(state)
    text.markdown(f"{sentence(first)}  \n{sentence(second)}")
    found = state.candidate
    if found is None:
        text.code(f"ratchet gate MODEL --against line:{state.line}", language=None, wrap_lines=True)
        return
    if found.holds not in ("promoted", "judged before"):
        for line in verdict_text.stored(found.verdict_id, found.headline):
            text.caption(plain(line))
    with go:
        link("verdict", tr("the verdict →"), verdict=found.verdict_id)
        why_link(found.verdict_id, found.outcome)


def _better(state: LineState, of: Course | None) -> None:
    label, text, go = _row()
    label.markdown(f"**{tr('Better?')}**")
    if of is None:
        text.markdown(tr("There is nothing to be better than yet."))
        return
    left = of.now
    if not left:
        text.markdown(tr("Nothing was compared with the promoted version yet."))
        return
    last = {metric: rows[-1]["left"] for metric, rows in left.items()}
    tightest = min(last, key=lambda metric: last[metric])
    best = best_of(left)
    text.markdown(
        tr(
            "{n} candidates since the promotion; the best is {name}, with {kept} of its tightest "
            "margin left. The last one used {share} of the margin of {metric}.",
            n=state.judged,
            name=plain(best["model"] or best["verdict_id"]) if best else "–",
            kept=f"{best['left']:.0%}" if best else "–",
            share=f"{max(0.0, 1 - last[tightest]):.0%}",
            metric=plain(tightest),
        )
    )
    for metric, seen in forecasts(left).items():
        if seen.is_alarming:
            gone = tr("at this slope gone in {n} checkpoints", n=seen.gone_in)
            text.caption(f":orange[{plain(metric)}: {gone}]")
    with go:
        link("drift", tr("drift →"), line=state.line)
    _course(state.line, of)


def _course(line: str, of: Course) -> None:
    """The margins left at the last verdicts, with the promotions between them as flags."""
    import pandas as pd

    from dashboard.app.charts import margins as chart

    points, flags = of.points, of.flags
    frame = pd.DataFrame(points).drop(columns=["at"])
    frame["href"] = [url("verdict", verdict=name) for name in frame["verdict_id"]]
    frame["tip_metric"], frame["tip_margin left"] = (
        frame["metric"],
        [f"{row['left']:.0%} [{row['low']:.0%}, {row['high']:.0%}]" for row in points],
    )
    marks = [
        (flag.place, f"{'↩ ' * (flag.event == 'rolled_back')}v{flag.version}") for flag in flags
    ]
    drawn = chart(frame, words=words(), flags=marks)
    said = tr("margin left at the last verdicts, with 95% intervals; at 0% the gate trips")
    if flags:
        said += tr("; a grey rule is a promotion or a roll back")
    st.caption(said)
    st.altair_chart(drawn, width="stretch", key=f"margins.{line}", alt=tr("Margin left"))
    export(
        f"margins-{line}",
        frame[["metric", "place", "verdict_id", "left", "low", "high"]],
        chart=drawn,
    )


def _serving(state: LineState) -> None:
    label, text, go = _row()
    label.markdown(f"**{tr('Serving?')}**")
    found = state.serving
    color = {"pass": "green", "fail": "red"}.get(found.outcome or "", "")
    said = sentence(serving(state))
    sign = f":{color}[**{MARKS[found.outcome or 'none']}**] " if color else ""
    text.markdown(f"{sign}{said}")
    waiting = settling(state)
    if waiting is not None:
        text.caption(sentence(waiting))
    runs = canary(state)
    if runs is not None:
        text.markdown(sentence(runs))
    if found.watched:
        with go:
            link("watch", tr("watch →"), line=state.line)
    else:
        text.code(f"ratchet watch serve --line {state.line}", language=None, wrap_lines=True)


def _training(stand: TrainingStand) -> None:
    label, text, go = _row()
    label.markdown(f"**{tr('Training')}**")
    step = stand.step or 0
    parts = [f"{tr('step')} {step:,}" + (f" / {stand.planned:,}" if stand.planned else "")]
    steps = cached(history.training_steps, stand.training_id)
    events = cached(history.training_events, stand.training_id)[::-1]
    left = time_left(stand.planned, steps, events, datetime.now(UTC)) if stand.planned else None
    if left is not None:
        parts.append(tr("about {time} left", time=duration(left.seconds)))
    parts.append(took(spent(steps, events)) or f"{tr('started')} {when(stand.started_at)}")
    text.markdown(f"{plain(stand.training_id)} · {' · '.join(parts)}")
    if stand.planned:
        text.progress(min(step / stand.planned, 1.0))
    with go:
        link("trainings", tr("training →"), training=stand.training_id)


def _row() -> tuple[st.delta_generator.DeltaGenerator, ...]:
    return tuple(st.columns([0.8, 5, 1.2], vertical_alignment="top"))


# What needs a human.


def _needs(seen: Overview) -> None:
    if not seen.needs:
        st.success(tr("Nothing waits for you."))
    for need in seen.needs:
        _need(need)


def _need(need: Need) -> None:
    text, go, act = st.columns([4, 1.2, 1], vertical_alignment="center")
    sign = f":red[**{tr('decide')}**]" if need.level == "act" else f":orange[**{tr('look')}**]"
    text.markdown(f"{sign} · {sentence(need.says)}")
    answered = said(need.answer)
    if answered:
        text.caption(plain(answered))
    with go:
        link(need.page, tr(_LINKS.get(need.page, "look →")), **need.params)
        if need.page == "verdict":
            _why_of(need.params.get("verdict"))
    with act:
        answer_box(need.about, need.line, key=f"need.{need.about}")


def _why_of(verdict_id: str | None) -> None:
    shown = cached(history.verdict, verdict_id) if verdict_id else None
    if shown is not None:
        why_link(shown.id, shown.verdict.outcome.value)


_LINKS = {
    "verdict": "the verdict →",
    "watch": "watch →",
    "trainings": "training →",
    "drift": "drift →",
    "promotions": "promotions →",
}


# Last verdicts.


def _recent() -> None:
    found = cached(last_candidates, 8)
    if not found:
        return
    import pandas as pd

    st.subheader(tr("Last verdicts"), anchor=False)
    table = pd.DataFrame(
        [
            {
                tr("candidate"): row.name,
                tr("verdict"): f"{MARKS[row.outcome]} {tr(row.outcome)}",
                tr("when"): when(row.decided_at),
                tr("change"): _deciding(row),
                tr("why"): tr("why? →") if row.outcome in EXPLAINED else "",
            }
            for row in found
        ]
    )
    leads = [url("verdict", verdict=row.verdict_id) for row in found]
    reasons = [why_url(row.verdict_id, row.outcome) for row in found]
    linked_table(table, leads, name=tr("Last verdicts"), also={tr("why"): reasons})


def _deciding(row: Judged) -> str:
    if row.metric is None or row.candidate is None:
        return row.headline
    before = "–" if row.anchor is None else f"{row.anchor:.3g}"
    return f"{row.metric}: {before} → {row.candidate:.3g}"


def _sources(seen: Overview) -> None:
    """The table behind this page and its source: each line's promoted run, or the last."""
    import pandas as pd

    promoted = [state for state in seen.lines if state.promoted is not None]
    if seen.lines:
        export("lines", pd.DataFrame([_exported(state) for state in seen.lines]))
    for state in promoted:
        assert state.promoted is not None
        run_id = state.promoted.run_id
        found = cached(history.run, run_id) if run_id else None
        provenance(found, role="Promoted", extra=[f"{tr('line')} {state.line}"])
    if promoted:
        return
    if cached(history.is_empty):
        return
    newest = cached(history.runs_of, cached(history.suites)[0], None, 1)
    provenance(cached(history.run, newest[-1]["run_id"]) if newest else None, role="Last run")


def _exported(state: LineState) -> dict[str, object]:
    now, found = state.promoted, state.candidate
    return {
        "line": state.line,
        "version": now.version if now else None,
        "digest": now.digest if now else None,
        "run_id": now.run_id if now else None,
        "event": now.event if now else None,
        "since": now.since if now else None,
        "verdict_id": now.verdict_id if now else None,
        "candidate": found.run_id if found else None,
        "candidate_verdict": found.verdict_id if found else None,
        "candidate_outcome": found.outcome if found else None,
        "holds": found.holds if found else None,
        "serving": state.serving.outcome,
    }
