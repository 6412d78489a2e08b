"""The page of answers: what two models said, sample by sample, regressed samples first.

Nothing on this page is rendered: what a model wrote is shown as plain text (dashboard.web.escape).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard.app.page import (
    cached,
    export,
    may_act,
    page_number,
    pick,
    provenance,
    require_history,
    title,
)
from dashboard.app.views.compare import two_runs
from dashboard.i18n.reader import tr
from dashboard.queries import history, sample_diff
from dashboard.web.escape import plain
from harness.core.escape import visible
from harness.core.format import number
from harness.core.protocol import MetricName
from harness.core.types import Row

PAGE = 5


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
    left, right = st.columns(2)
    with left:
        plainest = next((n for n, says in declared.items() if says["form"] == "mean"), None)
        metric = pick(tr("Metric"), list(declared), param="metric", default=plainest)
    counts = cached(sample_diff.tally, a["run_id"], b["run_id"], metric, declared[metric])
    total = sum(counts.values())
    with right:
        kind = pick(
            tr("Show"),
            ["all", *sample_diff.KINDS],
            param="kind",
            shown=lambda k: f"{tr(k)} · {total if k == 'all' else counts[k]:,}",
            default="regressed" if counts["regressed"] else "all",
        )
    number = total if kind == "all" else counts[kind]
    if not number:
        st.info(tr("No sample is left by these filters."))
        return
    _page(a, b, metric, declared[metric], None if kind == "all" else kind, number)
    provenance(a, role="A")
    provenance(b, role="B")
    if may_act():
        from dashboard.app.actions import mark_as_anchor

        mark_as_anchor(b["run_id"])


def _page(
    a: Row, b: Row, metric: str, says: Mapping[str, Any], kind: str | None, number: int
) -> None:
    import pandas as pd

    place = page_number(number, PAGE)
    asked = (a["run_id"], b["run_id"], metric, says, kind, place * PAGE, PAGE)
    found = cached(sample_diff.pairs, *asked)
    for pair in found:
        _pair(a, b, MetricName.parse(metric).task, pair)
    export("samples", pd.DataFrame(found))


def _pair(a: Row, b: Row, task: str, pair: Row) -> None:
    with st.container(border=True):
        color = {"regressed": "red", "fixed": "green"}.get(pair["kind"], "gray")
        kind = f":{color}[**{tr(pair['kind'])}**]"
        st.markdown(
            f"{kind} · {plain(pair['sample_id'])} · {number(pair['a'])} → {number(pair['b'])}"
        )
        asked = cached(sample_diff.sample, sample_diff.task_digest(b, task), pair["sample_id"])
        if asked is not None:
            _asked(asked)
        left, right = st.columns(2)
        with left:
            _answers("A", a, task, pair["sample_id"])
        with right:
            _answers("B", b, task, pair["sample_id"])


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


def _answers(side: str, run: Row, task: str, sample_id: str) -> None:
    st.caption(f"**{side}** · {plain(run['model'])}")
    found = cached(sample_diff.answers, run["run_id"], task, sample_id)
    if not found:
        st.caption(tr("no answer: the given text was read"))
    for answer in found:
        if answer["error"]:
            st.text(f"{tr('error')}: {visible(answer['error'], 500)}")
            continue
        said(answer["text"], answer["characters"])
        if answer["finish_reason"] == "length":
            st.caption(tr("cut at the longest answer allowed"))


def said(text: str, characters: int | None = None) -> None:
    """What somebody wrote, as the characters it is: never markup, never fetched."""
    shown = visible(text)
    more = (characters or len(text)) - len(text)
    if more > 0:
        shown += f"\n… ({more:,} {tr('characters more')})"
    long = len(shown) > 1_500 or shown.count("\n") > 20
    st.code(shown or " ", language=None, wrap_lines=True, height=320 if long else "content")
