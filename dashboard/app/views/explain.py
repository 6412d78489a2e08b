"""The page that says why: where a checkpoint got worse, in which words, and what taught it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import streamlit as st

from dashboard.app import verdict_text
from dashboard.app.filters import about, pick
from dashboard.app.linked_table import linked_table
from dashboard.app.marked_text import heated, marked
from dashboard.app.page import (
    EXPLAINED,
    MARKS,
    cached,
    empty,
    export,
    lasting,
    link,
    mark,
    provenance,
    require_history,
    title,
    url,
    verdict_label,
)
from dashboard.i18n.reader import problem, tr
from dashboard.queries import explained, history
from dashboard.web.escape import plain
from harness.comparison.lost_words import Changed, LostTexts
from harness.comparison.mistakes import MOST, SURE, Change, count
from harness.comparison.where import Condition, Fell, Slice
from harness.core.errors import UserError
from harness.core.escape import visible
from harness.core.format import number
from harness.core.protocol import MetricName
from harness.core.text_diff import diff
from harness.report.explained import explained_markdown

T = TypeVar("T")


def show() -> None:
    title("Why", "Where did it get worse, in which words, and what taught it?")
    if not require_history():
        return
    found = {row["verdict_id"]: row for row in cached(history.verdicts)}
    asked = st.query_params.get("verdict")
    if asked and asked not in found and cached(history.verdict, asked) is not None:
        found[asked] = {"verdict_id": asked}
    if not found:
        empty("The gate has not spoken yet.", "ratchet gate MODEL --against line:NAME")
        return
    doubted = [name for name, row in found.items() if row.get("outcome") in EXPLAINED]
    chosen = pick(
        tr("Verdict"),
        list(found),
        param="verdict",
        shown=lambda name: verdict_label(found[name]),
        default=next(iter(doubted), None),
    )
    shown = cached(history.verdict, chosen)
    assert shown is not None
    about(f"{MARKS[shown.verdict.outcome.value]} {shown.candidate_model or shown.candidate_run}")
    _head(shown)
    _part(tr("Where it fell"), lambda: _where(shown, lasting(explained.where, chosen)))
    _part(tr("What kind of mistakes"), lambda: _kinds(lasting(explained.kinds, chosen)))
    _part(tr("Which words"), lambda: _words(lasting(explained.words, chosen)))
    _part(tr("Which rows taught it"), lambda: _rows(shown))
    _foot(shown)


def _head(shown: history.Shown) -> None:
    headline = plain(verdict_text.sentences(shown.verdict)[0])
    st.markdown(f"{mark(shown.verdict.outcome.value)} · {headline}")
    link("verdict", tr("the verdict →"), verdict=shown.id)


def _part(heading: str, draw: Callable[[], None]) -> None:
    """One answer; where there is none, why not."""
    st.subheader(heading, anchor=False)
    try:
        draw()
    except UserError as error:
        st.caption(plain(problem(error.what)))


def _where(shown: history.Shown, found: list[Fell]) -> None:
    for each in found:
        said = tr(
            "{metric}: {moved} on average over {n} samples.",
            metric=f"**{plain(each.metric)}**",
            moved=_moved(each.harm, each.unit),
            n=f"{each.n:,}",
        )
        st.markdown(said if each.slices else f"{said} {tr('No slice stands out.')}")
        if each.slices:
            _slices(shown, each)


def _slices(shown: history.Shown, fell: Fell) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        [
            {
                tr("slice"): _slice(one),
                tr("samples"): f"{one.n:,}",
                tr("on these"): _moved(one.inside, fell.unit),
                tr("on the others"): _moved(one.outside, fell.unit),
                tr("p, over all slices"): _p(one.p),
            }
            for one in fell.slices
        ]
    )
    leads = [_samples(shown, fell.metric, one) for one in fell.slices]
    linked_table(frame, leads, name=f"{tr('Where it fell')}: {fell.metric}")


def _samples(shown: history.Shown, metric: str, one: Slice) -> str:
    """The samples of a slice, as far as that page can tell them apart."""
    languages = [label for field, label in one.conditions if field == "language"]
    part = f"language:{languages[0]}" if languages else None
    sides = {"a": shown.anchor_run, "b": shown.candidate_run}
    return url("samples", **sides, metric=metric, slice=part)


def _slice(one: Slice) -> str:
    return tr(" and ").join(map(_condition, one.conditions))


def _condition(condition: Condition) -> str:
    field, label = condition
    if field == "length":
        counted = [int(digits) for digits in re.findall(r"\d+", label)]
        over = label.startswith("over")
        if not counted:
            return tr("length in between")
        longer = tr("length over {n} characters", n=counted[0])
        return longer if over else tr("length up to {n} characters", n=counted[0])
    own = {"language": tr("language"), "topic": tr("topic"), "word": tr("word")}
    return f"{own.get(field, field)} {label}"


def _moved(harm: float, unit: str) -> str:
    size = f"{number(abs(harm))} {tr('nats')}" if unit else number(abs(harm))
    return tr("{size} lost", size=size) if harm > 0 else tr("{size} gained", size=size)


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"


def _kinds(found: list[Change]) -> None:
    import pandas as pd

    if not found:
        st.caption(tr("No rule finds a mistake in the answers of either model."))
        return
    sure = [each for each in found if each.p <= SURE]
    if not sure:
        st.caption(tr("Of these kinds none became surely more or fewer."))
    frame = pd.DataFrame(
        [
            {
                tr("task"): each.task,
                tr("kind"): _kind(each.kind),
                tr("before → after"): f"{count(each.before)} → {count(each.after)}",
                tr("samples"): f"{each.n:,}",
                tr("p, over all kinds"): _p(each.p),
            }
            for each in (sure or found)[:MOST]
        ]
    )
    linked_table(frame, [None] * len(frame), name=tr("What kind of mistakes"))


def _kind(kind: str) -> str:
    """A kind in the reader's language; the name of a field stays."""
    found = re.fullmatch(r"field (.*) (missing|wrong|not asked for)", kind, re.DOTALL)
    if found is None:
        return tr(kind)
    says = {
        "missing": tr("the field {name} is missing", name=found[1]),
        "wrong": tr("the field {name} is wrong", name=found[1]),
        "not asked for": tr("the field {name} was not asked for", name=found[1]),
    }
    return says[found[2]]


def _words(found: explained.LostWords) -> None:
    if found.texts and not found.is_read:
        st.caption(
            tr(
                "Which tokens became less likely is stored, but not what they say: the "
                "candidate's tokenizer isn't here any more, or never was."
            )
        )
    elif found.texts:
        for task, texts in found.texts.items():
            _texts(task, texts)
    for task, answers in found.answers.items():
        said = tr("{task}: what the answers say that lost most", task=f"**{plain(task)}**")
        st.markdown(said)
        for each in answers:
            _answers(each)


def _texts(task: str, texts: LostTexts) -> None:
    st.markdown(
        tr(
            "{task}: change of ln p(token) over {n} texts that should be likely, candidate − "
            "anchor, in nats",
            task=f"**{plain(task)}**",
            n=f"{texts.count:,}",
        )
    )
    said = " · ".join(
        tr("{word} {nats} in {n}", word=f"“{plain(word)}”", nats=f"{lost.mean:+.2f}", n=lost.texts)
        for word, lost in texts.named
    )
    named = said or tr("no word stands out")
    st.caption(tr("{what}: {said}", what=tr("lost more than the others, on average"), said=named))
    for text in texts.worst:
        st.caption(f"{plain(text.sample)} · {text.nats:+.2f}")
        heated(text.pieces)


def _answers(each: Changed) -> None:
    st.caption(plain(each.sample))
    ours, theirs = diff(visible(each.before, 4_000), visible(each.after, 4_000))
    left, right = st.columns(2)
    for column, who, parts in ((left, tr("anchor"), ours), (right, tr("candidate"), theirs)):
        with column:
            st.caption(who)
            marked(parts)


def _rows(shown: history.Shown) -> None:
    import pandas as pd

    found = cached(explained.taught, shown.id)
    if found is None:
        if shown.training_id is None:
            st.caption(tr("The verdict is on no checkpoint of a training: its rows aren't known."))
            return
        st.caption(tr("Nobody has asked yet; it takes the models and some minutes:"))
        st.code(f"ratchet explain {shown.id}", language=None, wrap_lines=True)
        return
    if found.asked:
        st.markdown(
            tr(
                "Of {asked} rows from step {begin} to {end} {harmful} raised the loss of the "
                "{samples} samples that lost most; these did most of the harm:",
                asked=found.asked,
                begin=found.begin,
                end=found.end,
                harmful=found.harmful,
                samples=found.samples,
            )
        )
    else:
        st.markdown(tr("Rows that the remedy left out:"))
    frame = pd.DataFrame(
        [
            {tr("harm"): f"{row.share:.1%}", tr("row"): row.place, tr("what it teaches"): row.said}
            for row in found.rows
        ]
    )
    linked_table(frame, [None] * len(frame), name=tr("Which rows taught it"))


def _foot(shown: history.Shown) -> None:
    import pandas as pd

    left, right = st.columns(2)
    with left:
        export(
            f"why-{shown.id}",
            pd.DataFrame([_as_row(one) for one in _quiet(explained.where, shown.id) or ()]),
            markdown=lasting(_markdown, shown.id),
        )
    with right:
        link(
            "samples",
            tr("samples, regressed first →"),
            a=shown.anchor_run,
            b=shown.candidate_run,
        )
    st.caption(tr("What of one question moved an answer is drawn on the command line:"))
    st.code(f"ratchet explain {shown.id} --sample ID", language=None, wrap_lines=True)
    anchor = cached(history.run, shown.anchor_run) if shown.anchor_run else None
    provenance(cached(history.run, shown.candidate_run), role="Candidate")
    provenance(anchor, role="Anchor", extra=[f"{tr('verdict')} {shown.id}"])


def _markdown(store: Any, verdict_id: str) -> str:
    return explained_markdown(store, store.workspace, verdict_id)


def _quiet(ask: Callable[..., T], verdict_id: str) -> T | None:
    try:
        return lasting(ask, verdict_id)
    except UserError:
        return None


def _as_row(one: Fell) -> dict[str, object]:
    slices = "; ".join(each.name for each in one.slices)
    return {
        "metric": MetricName.parse(one.metric).task + "/" + MetricName.parse(one.metric).metric,
        "harm": one.harm,
        "unit": one.unit,
        "samples": one.n,
        "slices": visible(slices, 500),
    }
