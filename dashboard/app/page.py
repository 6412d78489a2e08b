"""What every page uses: cached queries, links, provenance lines, exports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import streamlit as st

from dashboard.app.filters import pick as pick
from dashboard.app.settings import ACTIONS_VARIABLE
from dashboard.i18n.reader import language, problem, tr
from dashboard.i18n.translate import LANGUAGES
from dashboard.queries import history
from dashboard.queries.time_left import Spent, duration_parts
from dashboard.web.escape import plain
from harness.core.errors import UserError
from harness.core.format import opponent_name
from harness.core.types import Row
from harness.core.workspace import Workspace
from harness.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

MARKS = {"pass": "✓", "fail": "✗", "inconclusive": "◆", "incomparable": "○", "none": "·"}
"""Signs that every font has; no emoji, which many machines show as boxes."""
_TONES = {"pass": "green", "fail": "red", "inconclusive": "orange", "incomparable": "violet"}
EXPLAINED = ("fail", "inconclusive")
"""Verdicts beside which a link leads to why."""
MEMORY_MB = 512
"""What the queries of all pages together may take; they leave half of the cores to a training."""
LOCK_S = 5.0
"""A page that waits longer for the store says so, and offers to try again."""


@st.cache_resource(show_spinner=False, max_entries=4)
def _store(home: str) -> Store:
    return Store(
        Workspace.at(home),
        lock_timeout_s=LOCK_S,
        fresh_within_s=2.0,
        threads=max(1, (os.cpu_count() or 2) // 2),
        memory_mb=MEMORY_MB,
    )


def store() -> Store:
    """The workspace's store: one for the whole server, and one query at a time."""
    return _store(str(Workspace.at().home))


@st.cache_data(ttl=15, max_entries=400, show_spinner=False)
def _cached(home: str, name: str, _ask: Callable[[], Any], key: tuple[Any, ...]) -> Any:
    return _ask()


def cached(ask: Callable[..., T], *args: Any) -> T:
    """What a query says, remembered for some seconds for everybody who looks at the same."""
    home = str(Workspace.at().home)
    name = f"{ask.__module__}.{ask.__qualname__}"
    found: T = _cached(home, name, lambda: ask(store(), *args), args)
    return found


@st.cache_data(ttl=2, max_entries=100, show_spinner=False)
def _recent(home: str, name: str, _ask: Callable[[], Any], key: tuple[Any, ...]) -> Any:
    return _ask()


def recent(ask: Callable[..., T], *args: Any) -> T:
    """`cached` for what is live: ten open pages ask the store once in two seconds."""
    name = f"{ask.__module__}.{ask.__qualname__}"
    found: T = _recent(str(Workspace.at().home), name, lambda: ask(store(), *args), args)
    return found


@st.cache_data(ttl=600, max_entries=100, show_spinner=False)
def _lasting(home: str, name: str, _ask: Callable[[], Any], key: tuple[Any, ...]) -> Any:
    return _ask()


def lasting(ask: Callable[..., T], *args: Any) -> T:
    """`cached` for what takes a second or two and hardly ever changes: it is kept ten minutes."""
    name = f"{ask.__module__}.{ask.__qualname__}"
    found: T = _lasting(str(Workspace.at().home), name, lambda: ask(store(), *args), args)
    return found


def may_act() -> bool:
    """Whether this server was started with --actions."""
    return os.environ.get(ACTIONS_VARIABLE) == "1"


# Words.


def mark(outcome: str) -> str:
    """A verdict's sign and word in its color, as Markdown."""
    return f":{_TONES.get(outcome, 'gray')}[**{MARKS[outcome]}** {tr(outcome)}]"


def verdict_label(row: Row) -> str:
    """A verdict in a list to choose from; its id alone where the list doesn't know it."""
    if "outcome" not in row:
        return str(row["verdict_id"])
    name = row["model"] or row["candidate_run"]
    look = ""
    if (row["looks"] or 1) > 1:
        look = f" · {tr('look {j} of {looks}', j=row['look'], looks=row['looks'])}"
    against = tr("against the {what}", what=tr(opponent_name(row["against"] or "anchor")))
    moment = f"{row['decided_at']:%Y-%m-%d %H:%M}"
    return f"{MARKS[row['outcome']]} {name} · {against}{look} · {moment}"


def when(moment: datetime | None) -> str:
    """`7 h ago`, or the day where it is longer ago than a week."""
    if moment is None:
        return "–"
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < 90:
        return tr("just now")
    if seconds < 5_400:
        return tr("{n} min ago", n=round(seconds / 60))
    if seconds < 129_600:
        return tr("{n} h ago", n=round(seconds / 3_600))
    if seconds < 604_800:
        return tr("{n} days ago", n=round(seconds / 86_400))
    return f"{moment:%Y-%m-%d}"


def duration(seconds: float) -> str:
    """`90 s`, `35 min` or `2.3 h`."""
    number, unit = duration_parts(seconds)
    return tr(unit, n=number)


def took(found: Spent | None) -> str:
    """What a training cost so far: its time, and how much of that was no training."""
    if found is None or found.seconds <= 0:
        return ""
    share = f"{1 - found.training_s / found.seconds:.0%}"
    return tr(
        "took {time}, {share} of it scoring, saving and loading",
        time=duration(found.seconds),
        share=share,
    )


# Links and steps.


def page_number(total: int, size: int, *, param: str = "page") -> int:
    """A pager under a list, 0 for its first page; the number is in the URL."""
    last = max(0, (total - 1) // size)
    asked = st.query_params.get(param, "1")
    now = min(max(int(asked) - 1 if asked.isdigit() else 0, 0), last)
    before, where, after = st.columns([1, 2, 1], vertical_alignment="center")
    if before.button(tr("← before"), disabled=now == 0, key=f"{param}.before", width="stretch"):
        st.query_params[param] = str(now)
        st.rerun()
    where.caption(
        tr("{a} to {b} of {n}", a=now * size + 1, b=min((now + 1) * size, total), n=f"{total:,}"),
        text_alignment="center",
    )
    if after.button(tr("after →"), disabled=now == last, key=f"{param}.after", width="stretch"):
        st.query_params[param] = str(now + 2)
        st.rerun()
    return now


def link(page: str, label: str, **params: str | None) -> None:
    """A link to another view with its filters."""
    from dashboard.app.navigation import page_of

    asked = {name: value for name, value in params.items() if value}
    if language() != LANGUAGES[0]:
        asked["lang"] = language()
    st.page_link(page_of(page), label=label, query_params=asked)


def why_link(verdict_id: str, outcome: str | None) -> None:
    """A link to the page that says why, beside a verdict that is a FAIL or INCONCLUSIVE."""
    if outcome in EXPLAINED:
        link("explain", tr("why? →"), verdict=verdict_id)


def why_url(verdict_id: str | None, outcome: str | None) -> str | None:
    """The same as an address; None beside another verdict."""
    return url("explain", verdict=verdict_id) if verdict_id and outcome in EXPLAINED else None


def url(view: str, **filters: str | None) -> str:
    """The address of another view with its filters, for the marks of a chart."""
    asked = {name: value for name, value in filters.items() if value}
    if language() != LANGUAGES[0]:
        asked["lang"] = language()
    return f"{view}?{urlencode(asked)}"


# Heads, empty states, provenance, exports.


def title(text: str, question: str) -> None:
    st.title(tr(text), anchor=False)
    st.caption(tr(question))


def empty(what: str, *commands: str) -> None:
    """Nothing to show yet: why, and what to type."""
    st.info(tr(what))
    st.code("\n".join(commands), language=None, wrap_lines=True)


def require_history() -> bool:
    """False, with a word on what to type, where the store is empty."""
    if not cached(history.is_empty):
        return True
    empty(
        "No model was scored here yet.",
        "ratchet score MODEL --suite suites/quickstart.yaml",
        "ratchet demo-data --home .ratchet-demo   # or look at a synthetic history",
    )
    return False


def suite_and_scope() -> tuple[str, list[Row]]:
    """The two filters that most views begin with, and the runs that they leave."""
    left, right = st.columns(2)
    with left:
        suite = pick(tr("Suite"), cached(history.suites), param="suite")
    scopes = {row["scope"]: row for row in cached(history.scopes, suite)}
    with right:
        scope = pick(
            tr("Runs"),
            list(scopes),
            param="scope",
            shown=lambda name: _scope(name, scopes[name]),
        )
    return scope, cached(history.runs_of, suite, scope)


def _scope(name: str, row: Row) -> str:
    runs = tr("{n} runs", n=row["runs"])
    if name == history.OUTSIDE:
        return f"{tr('outside trainings')} · {runs}"
    return f"{tr('training')} {name} · {runs}"


def provenance(run: Row | None, *, role: str = "Run", extra: Iterable[str] = ()) -> None:
    """The strip that says where the numbers on this page come from."""
    if run is None:
        return
    parts = [
        f"{tr(role)} {run['run_id']}",
        str(run["model"]),
        f"{tr('bytes')} {run['model_digest'][:12]}",
        f"{tr('suite')} {run['suite']} {run['suite_digest'][:8]}",
        f"{tr('seed')} {run['seed']}",
        f"{run['started_at']:%Y-%m-%d %H:%M} UTC",
        *_subject(run["subject"]),
        *extra,
    ]
    st.caption(plain(" · ".join(part for part in parts if part)))


def _subject(subject: Mapping[str, Any] | None) -> Iterable[str]:
    return (str(value) for value in (subject or {}).values() if value not in (None, "", "none"))


def export(
    name: str, frame: pd.DataFrame, *, chart: Any = None, markdown: str | None = None
) -> None:
    """CSV and Markdown of a table, SVG of a chart; each is made when it is asked for."""
    with st.popover(tr("Export")):
        if chart is not None:
            st.download_button(
                "SVG",
                lambda: _svg(chart),
                f"{name}.svg",
                "image/svg+xml",
                key=f"{name}.svg",
                on_click="ignore",
            )
        st.download_button(
            "CSV",
            lambda: frame.to_csv(index=False).encode("utf-8-sig"),
            f"{name}.csv",
            "text/csv",
            key=f"{name}.csv",
            on_click="ignore",
        )
        st.download_button(
            "Markdown",
            lambda: (markdown or as_markdown(frame)).encode(),
            f"{name}.md",
            "text/markdown",
            key=f"{name}.md",
            on_click="ignore",
        )


def as_markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown, its cells escaped."""
    head = [plain(column) for column in frame.columns]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in frame.itertuples(index=False):
        lines.append("| " + " | ".join(plain("" if v is None else v) for v in row) + " |")
    return "\n".join(lines) + "\n"


def show_error(error: UserError) -> None:
    """What the user can act on, as plain text, and a button that tries again."""
    st.error(plain(problem(error.what)))
    if error.where or error.hint:
        hint = problem(error.hint) if error.hint else None
        st.text("\n".join(part for part in (error.where, hint) if part))
    st.button(tr("Try again"), on_click=st.cache_data.clear)


def _svg(chart: Any) -> bytes:
    from dashboard.app.chart_style import svg

    return svg(chart)
