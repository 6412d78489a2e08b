"""A table whose rows lead on, by a click or by Tab and Enter: what its chart shows, as links."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from harness.core.escape import visible
from harness.core.format import MINUS, number

if TYPE_CHECKING:
    import pandas as pd

_FRAME = (
    "overflow:auto;max-height:36rem;border:1px solid rgba(128,128,128,.3);border-radius:.5rem;"
    "margin-bottom:1rem"
)
_TABLE = "border-collapse:collapse;width:100%;font-size:.875rem;margin:0"
_CELL = "padding:.35rem .6rem;border:0;border-top:1px solid rgba(128,128,128,.2);text-align:"
_HEAD = "padding:.35rem .6rem;border:0;font-weight:600;white-space:nowrap;text-align:"
_LONG = 60
"""Characters of a cell from which on it is broken into lines."""


def linked_table(
    frame: pd.DataFrame,
    leads: Sequence[str | None],
    *,
    name: str,
    at: str | None = None,
    also: Mapping[str, Sequence[str | None]] | None = None,
) -> None:
    """Draw `frame` with a link to its entry of `leads` in each row, in the column `at` (the first).

    `also` has those of further columns. Rows without one are plain. Every cell is escaped, so that
    nothing in it is markup.
    """
    linked = {frame.columns[0] if at is None else at: leads, **(also or {})}
    right = {column for column in frame.columns if frame[column].dtype.kind in "if"}
    heads = "".join(
        f'<th scope="col" style="{_HEAD}{_side(column in right)}">{_text(column)}</th>'
        for column in frame.columns
    )
    rows = []
    for place, values in enumerate(frame.itertuples(index=False)):
        cells = []
        for column, value in zip(frame.columns, values, strict=True):
            shown = _text(value)
            wrap = ";min-width:16rem" if len(shown) > _LONG else ";white-space:nowrap"
            lead = linked[column][place] if column in linked else None
            if lead and shown:
                address = escape(lead, quote=True)
                shown = f'<a href="{address}" style="color:inherit">{shown}</a>'
            cells.append(f'<td style="{_CELL}{_side(column in right)}{wrap}">{shown}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    st.html(
        f'<div class="leads" role="region" tabindex="0" aria-label="{_text(name)}" '
        f'style="{_FRAME}"><table style="{_TABLE}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _side(right: bool) -> str:
    return "right" if right else "left"


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value) if not math.isinf(value) else "∞" if value > 0 else f"{MINUS}∞"
    return escape(visible(str(value), 500), quote=True)
