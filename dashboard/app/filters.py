"""Filters in the address: what the reader chose, what a link asks for, and what isn't there.

A filter is a query parameter first and a widget second, so every address can be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from dashboard.i18n.reader import tr
from dashboard.web.escape import plain
from harness.core.workspace import Workspace

T = TypeVar("T")

_KEPT = ("suite", "scope", "lang", "line", "training")
"""Filters that are taken over into the next view."""
_MOVED = "moved"
"""Set for one run after the reader chose something: what no longer fits is then no dead link."""
_ARRIVED = "arrived"
"""The filters of the view before, taken over on arrival at another."""
_CHOSEN = "chosen"
"""Every filter of this run as it stands, for the address that is shared."""


def pick(
    label: str,
    options: Sequence[T],
    *,
    param: str,
    shown: Callable[[T], str] = str,
    default: T | None = None,
    value: Callable[[T], str] = str,
) -> T:
    """A select box whose choice is a query parameter. `options` may not be empty.

    An address that asks for what isn't there is told so, and the page ends: nothing else takes its
    place. What nobody asked for stays out of the address, so that Back is one press.
    """
    by_value = {value(option): option for option in options}
    asked = st.query_params.get(param)
    if asked is not None and asked not in by_value and just_chose():
        del st.query_params[param]  # of the filters that another choice has just emptied
        asked = None
    gone = asked is not None and asked not in by_value
    if asked is None:
        asked = st.session_state.get(_ARRIVED, {}).get(param)
    if asked not in by_value and not gone:
        asked = value(default) if default is not None else None
        asked = asked if asked in by_value else next(iter(by_value))
    key = f"pick.{param}"
    wanted = None if gone else asked
    if key not in st.session_state or st.session_state[key] != wanted:
        st.session_state[key] = wanted
    chosen = st.selectbox(
        label,
        list(by_value),
        key=key,
        format_func=lambda name: shown(by_value[name]),
        on_change=_remember,
        args=(param,),
        placeholder=tr("choose"),
    )
    if chosen is None:
        is_gone(label, str(asked))
    keep(param, chosen)
    return by_value[chosen]


def search(param: str = "find") -> str:
    """A box for a text to look for, kept in the address."""
    asked = st.query_params.get(param, "")
    key = f"pick.{param}"
    if st.session_state.get(key) != asked:
        st.session_state[key] = asked
    text = st.text_input(
        tr("Search"),
        key=key,
        type="search",
        placeholder=tr("Search"),
        on_change=_remember,
        args=(param,),
    )
    keep(param, text or "")
    return (text or "").strip()


def is_gone(what: str, name: str) -> NoReturn:
    """Say that a link leads to what isn't here, and end the page."""
    st.warning(
        tr(
            "{what} {name} is not here. It may belong to another workspace, or have been removed.",
            what=what,
            name=plain(name),
        )
    )
    st.stop()


def just_chose() -> bool:
    """Whether this run came of the reader's choice of a filter, and not of an address."""
    return bool(st.session_state.get(_MOVED))


def _remember(param: str) -> None:
    chosen = st.session_state[f"pick.{param}"]
    if chosen:
        st.query_params[param] = chosen
    else:
        st.query_params.pop(param, None)
    st.session_state[_MOVED] = True


def keep(param: str, value: str) -> None:
    """Note a filter as it stands, for the shared address and, for some, for the next view."""
    st.session_state.setdefault(_CHOSEN, {})[param] = value
    if param in _KEPT:
        st.session_state[f"kept.{param}"] = value


def arrive(view: str) -> None:
    """Begin a run of a view: on arrival from another one its filters are taken over."""
    if st.session_state.get("view") != view:
        st.session_state["view"] = view
        kept = {name: st.session_state.get(f"kept.{name}") for name in _KEPT}
        st.session_state[_ARRIVED] = {name: value for name, value in kept.items() if value}
    st.session_state[_CHOSEN] = {}
    st.session_state["about"] = ""


def leave() -> None:
    """End a run of a view."""
    st.session_state.pop(_MOVED, None)


def about(text: str) -> None:
    """What this page shows at present, for the browser's tab and for shared links."""
    st.session_state["about"] = " ".join(text.split())[:120]


def tab_title(view: str) -> str:
    """`Verdict · ✗ step 30 · my-project`."""
    return " · ".join(filter(None, (view, st.session_state.get("about"), workspace_name())))


def address() -> str:
    """This page with every filter as it stands: where it was not chosen, what it is by default."""
    url = urlsplit(st.context.url or "")
    chosen = {**st.query_params.to_dict(), **st.session_state.get(_CHOSEN, {})}
    asked = {name: value for name, value in chosen.items() if value}
    return urlunsplit((url.scheme, url.netloc, url.path, urlencode(asked), ""))


def workspace_name() -> str:
    """The folder that a workspace lies in, or its own name where that says more."""
    home = Workspace.at().home.absolute()
    return home.parent.name if home.name == ".ratchet" else home.name
