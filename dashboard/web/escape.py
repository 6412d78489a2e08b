"""Escapes text of models and users before it is put into Markdown: all of it may be hostile.

`st.code(language=None)` renders plain text, and `core.escape` shows what hides; `plain` is for
the few places where a name of somebody else's making stands in Markdown.
"""

from __future__ import annotations

import re

from harness.core.escape import visible

__all__ = ["plain"]

# Where an address would become a link by itself; escapes are gone by the time that is looked for.
_ADDRESS = re.compile(r"(?<=[A-Za-z]:)(?=//)|(?<=[wW]{3})(?=\.)|(?<=\w@)(?=\w)")
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&\"'^=@/])")


def plain(text: object) -> str:
    """Text for a Markdown element, with every character that could mean anything escaped.

    Line breaks become spaces. Emoji shortcodes, directives and LaTeX have no letters left to
    begin with, and an address is parted by a word joiner, which nobody sees, so that it is no link.
    """
    line = " ".join(visible(str(text), 2_000).split())
    return _MARKUP.sub(r"\\\1", _ADDRESS.sub("\u2060", line))
