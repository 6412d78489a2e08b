"""Texts of models with some of their pieces marked: every piece escaped, the only markup ours."""

from __future__ import annotations

import html
from collections.abc import Sequence

import streamlit as st

from harness.core.escape import visible
from harness.core.text_diff import Part

_BOX = (
    "white-space:pre-wrap;overflow-wrap:anywhere;font-family:monospace;font-size:.875rem;"
    "max-height:24rem;overflow:auto;padding:.6rem;border-radius:.5rem;margin:0;"
    "background:rgba(128,128,128,.12);color:inherit;border:0"
)
_MARK = "background:rgba(230,159,0,.35);color:inherit;border-radius:2px"
_HEAT = "background:rgba(213,94,0,{share:.2f});color:inherit;border-radius:2px"
DARKEST = 0.4
PIECES = 600
FULL_NATS = 3.0
NUMBERED = 8


def marked(parts: Sequence[Part], more: str = "") -> None:
    """What differs is marked; `more` stands behind it."""
    pieces = (
        f'<mark style="{_MARK}">{html.escape(text)}</mark>' if differs else html.escape(text)
        for text, differs in parts
    )
    _box("".join(pieces) + html.escape(more))


def heated(pieces: Sequence[tuple[str, float]]) -> None:
    """Pieces with their change in nats: the darker, the more it lost; the worst have its number."""
    worst = sorted(range(len(pieces)), key=lambda i: pieces[i][1])[:NUMBERED]
    numbered = {i for i in worst if pieces[i][1] <= -1.0}
    shown = []
    for place, (text, nats) in enumerate(pieces[:PIECES]):
        said = html.escape(visible(text, None))
        if nats > -0.3:
            shown.append(said)
            continue
        share = DARKEST * min(1.0, -nats / FULL_NATS)
        number = f"⟨{nats:+.1f}⟩" if place in numbered else ""
        shown.append(f'<mark style="{_HEAT.format(share=share)}">{said}{number}</mark>')
    _box("".join(shown) + (" …" if len(pieces) > PIECES else ""))


def _box(body: str) -> None:
    st.html(f'<pre tabindex="0" style="{_BOX}">{body}</pre>')
