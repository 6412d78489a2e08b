"""Small histories in a real store, told run by run, and the pages opened on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest

from harness.comparison.evidence import metric_scores
from harness.comparison.verdict_log import keep_verdict
from harness.gate.decision import decide
from harness.gate.policy import GatePolicy
from harness.store.runs import require_run
from harness.store.store import Store

SUITE = "story"
METRICS: dict[str, dict[str, Any]] = {
    "match": {"direction": "higher", "form": "mean", "unit": "share", "low": 0.0, "high": 1.0},
    "length": {
        "direction": "lower",
        "form": "mean",
        "unit": "characters",
        "low": 0.0,
        "high": None,
    },
}


def scored(
    store: Store,
    run_id: str,
    values: Mapping[str, Sequence[float]],
    *,
    training: str | None = None,
    step: int | None = None,
    suite: str = SUITE,
    subject: Mapping[str, Any] | None = None,
) -> str:
    """A run with one value a sample of each metric of the task `ask`."""
    metrics = {
        name: {"signature": f"{name}|v:1", "aggregate": None, "scale": "ratio", **METRICS[name]}
        for name in values
    }
    store.append(
        "runs",
        [
            {
                "run_id": run_id,
                "model": f"model-{run_id}",
                "model_digest": f"digest-{run_id}",
                "suite": suite,
                "suite_path": "story.yaml",
                "suite_digest": suite,
                "seed": 0,
                "draw": 0,
                "training_id": training,
                "step": step,
                "protocol": {"ask": {"data": "d", "metrics": metrics}},
                "subject": dict(subject or {}),
                "provenance": {},
                "started_at": datetime.now(UTC),
            }
        ],
    )
    rows = [
        {
            "run_id": run_id,
            "task": "ask",
            "metric": name,
            "sample_id": f"s{place:03}",
            "response_index": 0,
            "draw": 0,
            "outcome": "scored",
            "value": float(value),
            "signature": f"{name}|v:1",
        }
        for name, own in values.items()
        for place, value in enumerate(own)
    ]
    store.append("scores", rows)
    store.append("run_events", [{"run_id": run_id, "event": "finished"}])
    return run_id


def judged(
    store: Store,
    anchor: str,
    candidate: str,
    against: str = "anchor",
    training: str | None = None,
    step: int | None = None,
) -> str:
    """The real gate's verdict on two runs, kept; its id."""
    policy = GatePolicy()
    sides = [metric_scores(store, require_run(store, run)) for run in (anchor, candidate)]
    verdict = decide(sides[0], sides[1], policy)
    return keep_verdict(store, against, anchor, candidate, verdict, training, step)


def happened(store: Store, training: str, *events: tuple[str, int, int, Mapping[str, Any]]) -> None:
    """Events of a training: (event, step, attempt, detail)."""
    rows = [
        {
            "training_id": training,
            "event": event,
            "step": step,
            "attempt": attempt,
            "detail": detail,
        }
        for event, step, attempt, detail in events
    ]
    store.append("training_events", rows)


def opened(view: str, **params: str) -> AppTest:
    """A view as a browser opens it."""

    def script(first: str) -> None:
        from dashboard.app.main import run

        run(first)

    app = AppTest.from_function(script, default_timeout=90, args=(view,))
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception, app.exception[0].value
    return app


class _Table(HTMLParser):
    """The cells of a linked table, with the address that each row leads to first."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.leads: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
            self.leads.append(None)
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "a" and self.leads[-1] is None:
            self.leads[-1] = dict(attrs)["href"]

    def handle_data(self, data: str) -> None:
        self.rows[-1][-1] += data


def tables(app: AppTest) -> list[pd.DataFrame]:
    """The page's tables whose rows lead on, as they are read; the addresses are in `leads`."""
    found = []
    for block in app.get("html"):
        if 'class="leads"' in block.proto.body:
            read = _Table()
            read.feed(block.proto.body)
            head, *rows = read.rows
            found.append(pd.DataFrame(rows, columns=head).assign(leads=read.leads[1:]))
    return found


def text_of(app: AppTest) -> str:
    """All words of a page's main part, Markdown escapes left out."""
    kinds = (app.title, app.markdown, app.caption, app.info, app.warning, app.success, app.error)
    parts = [str(part.value) for kind in kinds for part in kind]
    parts += [f"{metric.label} {metric.value}" for metric in app.metric]
    parts += [frame.value.to_string() for frame in app.dataframe]
    parts += [table.to_string() for table in tables(app)]
    return "\n".join(parts).replace("\\", "")
