"""The menu of the dashboard: its pages, their titles and addresses."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import streamlit as st

from dashboard.i18n.reader import tr

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

VIEWS: dict[str, dict[str, str]] = {
    "": {"overview": "Today", "verdict": "Verdict", "explain": "Why", "watch": "Watch"},
    "Quality": {
        "trend": "Trend",
        "heatmap": "Heat map",
        "forgetting": "Forgetting",
        "drift": "Drift",
        "humans": "Humans",
    },
    "Look closer": {"runs": "Runs", "compare": "Compare", "samples": "Samples"},
    "Machinery": {
        "trainings": "Trainings",
        "promotions": "Promotions",
        "calibrations": "Calibrations",
    },
}
"""Section -> view -> its title. A view is the module `dashboard.app.views.<view>`."""

FIRST = "overview"


def page_of(view: str) -> StreamlitPage:
    """The page of a view, to link to."""
    for views in VIEWS.values():
        if view in views:
            return _page(view, views[view], FIRST)
    raise KeyError(view)


def navigation(first: str = FIRST) -> StreamlitPage:
    """The menu; returns the page that was asked for. `first` is what the bare address shows."""
    return st.navigation(
        {
            tr(section) if section else "": [
                _page(view, name, first) for view, name in views.items()
            ]
            for section, views in VIEWS.items()
        },
        expanded=True,
    )


def _page(view: str, name: str, first: str) -> StreamlitPage:
    return st.Page(_shower(view), title=tr(name), url_path=view, default=view == first)


def _shower(view: str) -> Callable[[], None]:
    def show() -> None:
        import_module(f"dashboard.app.views.{view}").show()

    show.__name__ = show.__qualname__ = view
    return show
