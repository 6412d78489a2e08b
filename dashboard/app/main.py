"""What `streamlit run` runs: the menu, the language, and the view that was asked for."""

from __future__ import annotations

import os

import streamlit as st

from dashboard.app import chart_keys
from dashboard.app.filters import address, arrive, leave, tab_title, workspace_name
from dashboard.app.navigation import FIRST, navigation
from dashboard.app.page import cached, show_error
from dashboard.app.settings import OIDC_VARIABLE
from dashboard.i18n.reader import language, tr
from dashboard.i18n.translate import LANGUAGES, NAMES
from dashboard.queries import history
from dashboard.web.escape import plain
from harness.core.errors import UserError
from harness.core.workspace import Workspace


def run(first: str = FIRST) -> None:
    """One run of the script. `first` is the view at the bare address."""
    st.set_page_config(page_title="Ratchet", layout="wide")
    if not _may_enter():
        return
    page = navigation(first)
    arrive(page.url_path or first)
    with st.sidebar:
        st.markdown(f"**{plain(workspace_name())}**", help=str(Workspace.at().home))
        _choose_language()
        _say_language()
        chart_keys.listen()
    try:
        if cached(history.is_synthetic):
            said = tr("Synthetic data, by ratchet demo-data: no model was asked")
            st.markdown(f":orange-background[{said}]")
        page.run()
    except UserError as error:
        show_error(error)
    finally:
        leave()
        st.set_page_config(page_title=tab_title(page.title))
        _share(page.title)


def _share(view: str) -> None:
    """The address with every filter in it, bare and as a link that says what it shows."""
    with st.sidebar.popover(tr("Link to this page")):
        st.code(address(), language=None, wrap_lines=True)
        st.code(f"[{tab_title(view)}]({address()})", language=None, wrap_lines=True)


def _say_language() -> None:
    """Tell the browser in which language the page is: Streamlit's own page says English."""
    name = {"zh": "zh-CN"}.get(language(), language())
    st.html(
        f"<script>document.documentElement.lang = '{name}'</script>",
        unsafe_allow_javascript=True,
    )


def _choose_language() -> None:
    now = language()
    chosen = st.segmented_control(
        "Language · 语言",
        LANGUAGES,
        default=now,
        format_func=NAMES.__getitem__,
        key=f"language.{now}",
        label_visibility="collapsed",
        required=True,
    )
    if chosen and chosen != now:
        st.query_params["lang"] = chosen
        st.session_state["kept.lang"] = chosen
        st.rerun()
    st.session_state["kept.lang"] = now


def _may_enter() -> bool:
    """True, unless the server was given an OpenID provider and nobody has logged in."""
    if not os.environ.get(OIDC_VARIABLE) or st.user.is_logged_in:
        return True
    st.title("Ratchet", anchor=False)
    st.button(tr("Log in"), on_click=st.login, type="primary")
    return False


if __name__ == "__main__":
    run()
