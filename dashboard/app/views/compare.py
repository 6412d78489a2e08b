"""The page that compares two runs: what was fixed, what regressed, and which settings differ."""

from __future__ import annotations

import streamlit as st

from dashboard.app import margin_charts
from dashboard.app.filters import about, is_gone, just_chose, pick
from dashboard.app.linked_table import linked_table
from dashboard.app.page import cached, export, link, provenance, require_history, title, url
from dashboard.i18n.reader import tr, words
from dashboard.queries import history, measures, run_table, sample_diff
from dashboard.web.escape import plain
from harness.core.format import number
from harness.core.types import Row


def show() -> None:
    title("Compare", "What was fixed, what regressed, and what differs between the two?")
    if not require_history():
        return
    sides = two_runs()
    if sides is None:
        return
    a, b = sides
    _settings(a, b)
    _metrics(a, b)
    provenance(a, role="A")
    provenance(b, role="B")


def two_runs() -> tuple[Row, Row] | None:
    """A and B, by default the anchor and the last run; None where there is only one."""
    suites = cached(history.suites)
    asked = _asked()
    known = next((run["suite"] for run in asked.values()), None)
    suite = (
        pick(tr("Suite"), suites, param="suite", default=known) if len(suites) > 1 else suites[0]
    )
    runs = cached(history.runs_of, suite)
    for run in asked.values():
        if run["suite"] == suite and all(r["run_id"] != run["run_id"] for r in runs):
            runs = [{**run, "outcome": "none", "anchor_run": None, "against": None}, *runs]
    if len(runs) < 2:
        st.info(tr("There is only one run of this suite, and nothing to compare it with."))
        st.code("ratchet score ANOTHER-MODEL --suite SUITE", language=None, wrap_lines=True)
        return None
    by_id = {row["run_id"]: row for row in reversed(runs)}
    outside = [row for row in runs if row["training_id"] is None] or runs
    anchor = cached(history.anchor_of, outside)
    left, right = st.columns(2)
    with left:
        first = anchor["run_id"] if anchor and anchor["run_id"] in by_id else runs[0]["run_id"]
        a = pick("A", list(by_id), param="a", shown=lambda i: label(by_id[i]), default=first)
    with right:
        last = outside[-1]["run_id"]
        b = pick("B", list(by_id), param="b", shown=lambda i: label(by_id[i]), default=last)
    sides = cached(history.run, a), cached(history.run, b)
    assert sides[0] is not None
    assert sides[1] is not None
    about(f"{sides[0]['model']} → {sides[1]['model']}")
    return sides[0], sides[1]


def _asked() -> dict[str, Row]:
    """The runs that the address names. A run that isn't there ends the page, and so do two that
    were never asked the same.
    """
    found: dict[str, Row] = {}
    for param in "ab":
        name = st.query_params.get(param)
        run = cached(history.run, name) if name else None
        if name and run is None:
            is_gone(tr("Run"), name)
        if run is not None:
            found[param] = run
    if len({run["suite"] for run in found.values()}) > 1 and not just_chose():
        a, b = found["a"], found["b"]
        st.warning(
            tr(
                "A was scored on the suite {a} and B on {b}: there is nothing to compare.",
                a=plain(a["suite"]),
                b=plain(b["suite"]),
            )
        )
        st.stop()
    return found


def label(row: Row) -> str:
    return f"{row['model']} · {row['started_at']:%Y-%m-%d %H:%M} · {row['run_id'][:8]}"


def _settings(a: Row, b: Row) -> None:
    from harness.core.fingerprint import part_differences, protocol_differences
    from harness.core.types import Fingerprint

    ours, theirs = (
        Fingerprint(run["protocol"], run["subject"] or {}, run["provenance"] or {})
        for run in (a, b)
    )
    asked = cached(sample_diff.asked, a["run_id"], b["run_id"])
    problems = [*protocol_differences(ours, theirs), *asked.problems]
    if problems:
        st.warning(
            tr("Another protocol: the gate would not compare these two.")
            + "\n"
            + "\n".join(f"- {plain(problem)}" for problem in problems[:10])
        )
    elif asked.note is not None:
        st.caption(tr(asked.note))
    differs = [
        *part_differences(ours.subject, theirs.subject),
        *part_differences(ours.provenance, theirs.provenance),
        *part_differences(*(cached(run_table.made_by, run["run_id"]) for run in (a, b))),
    ]
    if differs:
        said = tr("{what}: {said}", what=tr("Settings that differ"), said="; ".join(differs))
        st.caption(plain(said))
    elif a["model_digest"] == b["model_digest"]:
        st.caption(tr("The bytes are the same, and so are all settings that were recorded."))
    else:
        st.caption(tr("No setting that was recorded differs; the models' bytes do."))


def _metrics(a: Row, b: Row) -> None:
    import pandas as pd

    declared = history.declared(b)
    tallies = cached(sample_diff.tallies, a["run_id"], b["run_id"])
    changes = cached(measures.changes, a["run_id"], [b["run_id"]], declared)
    rows, forest, leads = [], [], []
    for tally in tallies:
        name = tally["metric"]
        change = changes.get((b["run_id"], name, ""))
        if change is None:
            continue
        says = declared[name]
        up = says["direction"] == "higher"
        text = measures.with_interval(change, signed=True)
        rows.append(
            {
                tr("metric"): name,
                "A": number(change.base),
                "B": number((change.base or 0.0) + change.value),
                tr("change A → B"): text,
                tr("fixed"): tally["higher"] if up else tally["lower"],
                tr("regressed"): tally["lower"] if up else tally["higher"],
                tr("same"): tally["samples"] - tally["higher"] - tally["lower"],
                tr("unit"): tr(says["unit"]),
            }
        )
        leads.append(url("samples", a=a["run_id"], b=b["run_id"], metric=name))
        seen = measures.in_margins(change, says["direction"])
        forest.append(_interval(name, seen, text) | {"href": leads[-1]})
    if not rows:
        st.info(tr("The two runs have no sample in common."))
        return
    chart = None
    if forest:
        named = words()
        named |= {"pass": tr("better"), "fail": tr("worse"), "none": tr("unclear")}
        named["verdict"] = tr("change")
        chart = margin_charts.forest(pd.DataFrame(forest), words=named)
        st.altair_chart(chart, width="stretch", alt=tr("Compare"))
        st.caption(
            tr(
                "In units of 5% of A, of which a sample must move more to count as fixed or "
                "regressed; where A is 0 any change is beyond the scale. Bars are 95% intervals "
                "of the paired change. Unclear: the interval holds 0."
            )
        )
    frame = pd.DataFrame(rows)
    linked_table(frame, leads, name=tr("Compare"))
    left, right = st.columns([1, 3])
    with left:
        export("compare", frame, chart=chart)
    with right:
        link("samples", tr("samples, regressed first →"), a=a["run_id"], b=b["run_id"])


def _interval(name: str, seen: measures.InMargins, text: str) -> Row:
    outcome = "none" if not seen.is_sure else "pass" if seen.at > 0 else "fail"
    tips = {"tip_metric": name, "tip_change": text}
    ends = {
        "low": seen.at if seen.low is None else seen.low,
        "high": seen.at if seen.high is None else seen.high,
    }
    text = text.partition(" [")[0]
    return {"name": name, "metric": name, "text": text, "at": seen.at, **ends, **tips} | {
        "outcome": outcome
    }
