"""Escapes text of models and users before it is put into Markdown: all of it may be hostile.

`st.code(language=None)` renders plain text, and `core.escape` shows what hides; `plain` is for
the few places where a name of somebody else's making stands in Markdown.
"""

from __future__ import annotations

import re

from harness.core.escape import visible

__all__ = ["plain"]

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&\"'^=@/])")


def plain(text: object) -> str:
    """Text for a Markdown element, with every character that could mean anything escaped.

    Line breaks become spaces. Emoji shortcodes, directives and LaTeX have no letters left to
    begin with.
    """
    line = " ".join(visible(str(text), 2_000).split())
    return _MARKUP.sub(r"\\\1", line)
