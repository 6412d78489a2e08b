"""The page of answers: a list of samples, the regressed ones first, and one of them in full.

Nothing on this page is rendered: what a model wrote is shown as plain text (dashboard.web.escape).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard.app.filters import is_gone, just_chose, keep, pick, search
from dashboard.app.marked_text import marked
from dashboard.app.page import (
    cached,
    export,
    may_act,
    page_number,
    provenance,
    require_history,
    title,
)
from dashboard.app.views.compare import two_runs
from dashboard.i18n.reader import tr
from dashboard.queries import history, sample_diff
from dashboard.queries.sample_diff import Filters
from dashboard.web.escape import plain
from harness.core.escape import SHOWN_CHARACTERS, visible
from harness.core.format import number
from harness.core.protocol import MetricName
from harness.core.text_diff import Part, diff
from harness.core.types import Row

PAGE = 100
HEIGHT = 560
SIGNS = {"regressed": "▼", "fixed": "▲", "same": "·"}


def show() -> None:
    title("Samples", "What did both say, and where did it get worse?")
    if not require_history():
        return
    sides = two_runs()
    if sides is None:
        return
    a, b = sides
    declared = {n: says for n, says in history.declared(b).items() if n in history.declared(a)}
    if not declared:
        st.info(tr("The two runs have no metric in common."))
        return
    metric, filters = _filters(a, b, declared)
    digest = sample_diff.task_digest(b, MetricName.parse(metric).task)
    asked = (a["run_id"], b["run_id"], metric, declared[metric], digest)
    _list_and_one(a, b, metric, asked, filters)
    provenance(a, role="A")
    provenance(b, role="B")
    if may_act():
        from dashboard.app.actions import mark_as_anchor

        mark_as_anchor(b["run_id"])


def _filters(a: Row, b: Row, declared: Mapping[str, Any]) -> tuple[str, Filters]:
    first, second, third, fourth = st.columns([1.4, 1, 1, 1.2])
    with first:
        plainest = next((n for n, says in declared.items() if says["form"] == "mean"), None)
        metric = pick(tr("Metric"), list(declared), param="metric", default=plainest)
    counts = cached(sample_diff.tally, a["run_id"], b["run_id"], metric, declared[metric])
    with second:
        kind = pick(
            tr("Show"),
            ["all", *sample_diff.KINDS],
            param="kind",
            shown=lambda k: f"{tr(k)} · {sum(counts.values()) if k == 'all' else counts[k]:,}",
            default="regressed" if counts["regressed"] else "all",
        )
    digest = sample_diff.task_digest(b, MetricName.parse(metric).task)
    parts = {f"{row['part']}:{row['value']}": row for row in cached(sample_diff.slices, digest)}
    named = st.query_params.get("slice", "")
    if ":" in named and named not in parts:
        by, _, value = named.partition(":")
        one = cached(sample_diff.slice_of, digest, by, value)
        parts |= {named: one} if one is not None else {}
    with third:
        part = pick(
            tr("Slice"),
            ["all", *parts],
            param="slice",
            shown=lambda name: tr("all") if name == "all" else _slice(parts[name]),
        )
    with fourth:
        text = search()
    by, _, value = part.partition(":")
    chosen = None if part == "all" else (by, value)
    return metric, Filters(None if kind == "all" else kind, chosen, text)


def _slice(row: Row) -> str:
    return f"{tr(row['part'])} {row['value']} · {row['samples']:,}"


def _list_and_one(a: Row, b: Row, metric: str, asked: tuple[Any, ...], filters: Filters) -> None:
    import pandas as pd

    size = st.query_params.get("page", "1")
    place = max(int(size) - 1, 0) if size.isdigit() else 0
    found = cached(sample_diff.pairs, *asked, filters, place * PAGE, PAGE)
    if not found and place:
        st.query_params.pop("page", None)
        found = cached(sample_diff.pairs, *asked, filters, 0, PAGE)
    if not found:
        st.info(tr("No sample is left by these filters."))
        return
    left, right = st.columns([1.2, 1.7], gap="medium")
    with left:
        ids = [row["sample_id"] for row in found]
        chosen = _chosen(ids)
        _list(found, chosen, metric)
        if found[0]["total"] > PAGE:
            page_number(found[0]["total"], PAGE)
        export("samples", pd.DataFrame(found).drop(columns=["total"]))
    with right:
        row = next((row for row in found if row["sample_id"] == chosen), None)
        _one(a, b, MetricName.parse(metric), chosen, row, ids)


def _chosen(ids: Sequence[str]) -> str:
    """The sample that is shown: what was clicked or stepped to, what the address asks for, or the
    first of the list.
    """
    if just_chose() or st.query_params.get("sample") != st.session_state.get("sample.asked"):
        st.session_state.pop("sample", None)
        st.session_state["sample.asked"] = st.query_params.get("sample")
    asked = None if just_chose() else st.query_params.get("sample")
    chosen = str(st.session_state.get("sample") or asked or ids[0])
    return chosen if chosen in ids or chosen == asked else ids[0]


def _list(found: Sequence[Row], chosen: str, metric: str) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            " ": ["▸" if row["sample_id"] == chosen else "" for row in found],
            tr("kind"): [SIGNS[row["kind"]] for row in found],
            "A → B": [f"{number(row['a'])} → {number(row['b'])}" for row in found],
            tr("answer of B"): [" ".join(visible(row["line"] or "").split()) for row in found],
            tr("sample"): [visible(row["sample_id"], 60) for row in found],
            tr("slice"): [row["language"] or row["cluster"] or "" for row in found],
        }
    )
    state = st.dataframe(
        frame,
        hide_index=True,
        width="stretch",
        height=min(36 * len(found) + 40, HEIGHT),
        on_select="rerun",
        selection_mode="single-row",
        key=f"samples.{metric}",
        column_config={
            " ": st.column_config.Column(width=24),
            tr("kind"): st.column_config.Column(width=40),
            tr("answer of B"): st.column_config.Column(width=180),
        },
        alt=tr("Samples"),
    )
    rows = list(state["selection"]["rows"])
    if rows and rows != st.session_state.get("sample.row") and rows[0] < len(found):
        st.session_state["sample.row"] = rows
        if found[rows[0]]["sample_id"] != chosen:
            st.session_state["sample"] = found[rows[0]]["sample_id"]
            st.rerun()


def _step(sample_id: str) -> None:
    st.session_state["sample"] = sample_id


def _one(
    a: Row, b: Row, metric: MetricName, sample_id: str, row: Row | None, ids: Sequence[str]
) -> None:
    digest = sample_diff.task_digest(b, metric.task)
    asked = cached(sample_diff.sample, digest, sample_id)
    values = cached(sample_diff.others, a["run_id"], b["run_id"], metric.task, sample_id)
    if not values:
        is_gone(tr("Sample"), sample_id)
    keep("sample", sample_id)
    at = ids.index(sample_id) if sample_id in ids else -1
    head, back, on = st.columns([2, 1.2, 1.2], vertical_alignment="center")
    kind = f"{SIGNS[row['kind']]} {tr(row['kind'])} · " if row else ""
    head.markdown(f"**{kind}{plain(sample_id)}**")
    _stepper(back, tr("← previous"), "k", ids[at - 1] if at > 0 else None)
    _stepper(on, tr("next →"), "j", ids[at + 1] if at + 1 < len(ids) else None)
    scores = [
        f"{'**' if value['metric'] == metric.metric else ''}{plain(value['metric'])} "
        f"{number(value['a'])} → {number(value['b'])}"
        f"{'**' if value['metric'] == metric.metric else ''}"
        for value in values
    ]
    st.caption(" · ".join(scores))
    if asked is not None:
        _asked(asked)
    ours = cached(sample_diff.answers, a["run_id"], metric.task, sample_id)
    theirs = cached(sample_diff.answers, b["run_id"], metric.task, sample_id)
    _answers(a, b, ours, theirs)
    if asked is not None and ours and theirs and _is_pair(asked, ours[0], theirs[0]):
        _as_gold(asked, ours[0], theirs[0])


def _stepper(place: Any, label: str, key: str, to: str | None) -> None:
    place.button(
        label,
        key=f"step.{key}",
        shortcut=key,
        width="stretch",
        disabled=to is None,
        on_click=_step,
        args=(to,),
    )


def _asked(sample: Row) -> None:
    for message in sample["prompt"] or ():
        st.caption(tr(message["role"] or "user"))
        said(message["content"] or "")
    if sample["text"] is not None:
        st.caption(tr("text"))
        said(sample["text"])
    if sample["reference_texts"]:
        st.caption(tr("reference"))
        said("\n".join(sample["reference_texts"]))


def _answers(a: Row, b: Row, ours: Sequence[Row], theirs: Sequence[Row]) -> None:
    """Both sides, answer by answer, with what differs marked."""
    if not ours and not theirs:
        st.caption(tr("no answer: the given text was read"))
        return
    for place in range(max(len(ours), len(theirs))):
        own, other = (side[place] if place < len(side) else None for side in (ours, theirs))
        parts = diff(*(visible((one or {}).get("text") or "") for one in (own, other)))
        if own and other and own["text"] == other["text"] and not own["error"]:
            st.caption(tr("Both say the same."))
        sides = (("A", a, own, parts[0]), ("B", b, other, parts[1]))
        for column, (side, run, answer, pieces) in zip(st.columns(2), sides, strict=True):
            with column:
                st.caption(f"**{side}** · {plain(run['model'])}")
                _answer(answer, pieces)


def _answer(answer: Row | None, parts: Sequence[Part]) -> None:
    if answer is None:
        st.caption("–")
        return
    if answer["error"]:
        st.text(tr("{what}: {said}", what=tr("error"), said=visible(answer["error"], 500)))
        return
    more = answer["characters"] - len(answer["text"])
    marked(parts, f"… ({more:,} {tr('characters more')})" if more > 0 else "")
    if not answer["text"].strip():
        st.caption(tr("an empty answer"))
    if answer["read"] is not None:
        st.caption(tr("what is scored of it:"))
        said(answer["read"])
    if answer["finish_reason"] == "length":
        st.caption(tr("cut at the longest answer allowed"))


def _is_pair(sample: Row, ours: Row, theirs: Row) -> bool:
    """Whether raters can tell the answers apart, and nothing of them or the question is cut off."""
    texts = [message["content"] or "" for message in sample["prompt"] or ()]
    whole = all(len(text) < SHOWN_CHARACTERS for text in texts)
    whole &= all(len(side["text"] or "") == side["characters"] for side in (ours, theirs))
    failed = ours["error"] or theirs["error"]
    return whole and not failed and ours["text"] != theirs["text"]


def _as_gold(sample: Row, ours: Row, theirs: Row) -> None:
    """The pair as a line of a file of known pairs, to be copied or gathered and downloaded.

    This server writes nothing.
    """
    kept: dict[str, str] = st.session_state.setdefault("gold", {})
    with st.popover(tr("As a known pair for raters") + (f" · {len(kept)}" if kept else "")):
        st.caption(
            tr(
                "Pairs that you gather here become the file of ratchet rate create --gold. A "
                "suite's samples are not for training: a model must not learn what it is tested on."
            )
        )
        better = st.segmented_control(
            tr("Which answer is better?"), ("A", "B"), key="gold.better", default="B", required=True
        )
        good, bad = (ours, theirs) if better == "A" else (theirs, ours)
        prompt = "\n".join(message["content"] or "" for message in sample["prompt"] or ())
        line = {"prompt": prompt, "better": good["text"], "worse": bad["text"]}
        st.code(json.dumps(line, ensure_ascii=False), language=None, wrap_lines=True)
        if st.button(tr("Add to the known pairs"), key="gold.add", type="primary"):
            kept[sample["sample_id"]] = json.dumps(line, ensure_ascii=False)
        if kept:
            st.download_button(
                f"gold.jsonl · {len(kept)}",
                "".join(f"{one}\n" for one in kept.values()),
                "gold.jsonl",
                "application/jsonl",
                key="gold.file",
                on_click="ignore",
            )


def said(text: str) -> None:
    """What somebody wrote, as the characters it is: never markup, never fetched."""
    shown = visible(text)
    long = len(shown) > 600 or shown.count("\n") > 12
    st.code(shown or " ", language=None, wrap_lines=True, height=220 if long else "content")
