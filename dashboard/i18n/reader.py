"""The language that the reader of a page chose, and translation into it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.i18n import zh_errors
from dashboard.i18n.translate import LANGUAGES, Words, translate


def language() -> str:
    asked = st.query_params.get("lang") or st.session_state.get("kept.lang") or LANGUAGES[0]
    return asked if asked in LANGUAGES else LANGUAGES[0]


def tr(text: str, **values: Any) -> str:
    """The sentence in the reader's language. Values are put in as they are."""
    said = translate(text, language())
    return said.format(**values) if values else said


def problem(text: str) -> str:
    """An error's sentence, or its hint, in the reader's language where it is known there."""
    return zh_errors.chinese(text) if language() == "zh" else text


def words() -> Words:
    """The same for charts: any English word to what the reader sees."""
    return Words(language())
