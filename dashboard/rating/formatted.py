r"""Markdown, code and mathematics of an answer as a tree of a few known tags, never as markup.

markdown-it reads CommonMark with tables, latex2mathml reads what stands between dollars or in
`\(…\)`. A page builds its nodes from the tree; attributes, addresses and HTML are never among
them: a link is its words and its address as text, an image its description, HTML is the text that
the model wrote.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, ParseError, fromstring

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.tree import SyntaxTreeNode

Node = str | list[Any]
"""A text, or a list of a tag and the nodes in it."""

LONGEST = 50_000
"""Characters of an answer that is formatted; a longer one is shown as it was written."""

LONGEST_FORMULA = 2_000

TAGS = frozenset({
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "pre", "code",
    "strong", "em", "s", "hr", "br", "a", "img", "table", "thead", "tbody", "tr", "th", "td",
})  # fmt: skip
MATH_TAGS = frozenset({
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msup",
    "msub", "msubsup", "mover", "munder", "munderover", "mtable", "mtr", "mtd", "mstyle",
    "mpadded", "mphantom",
})  # fmt: skip
_NAMES = {
    "paragraph": "p",
    "bullet_list": "ul",
    "ordered_list": "ol",
    "list_item": "li",
    "link": "a",
    "softbreak": "br",
    "hardbreak": "br",
}
_CLOSES = {r"\(": r"\)", r"\[": r"\]", "$$": "$$"}
# A price is no formula: no space inside the dollars, and no digit after the second.
_IN_DOLLARS = re.compile(r"\$([^\s$](?:[^$\n]*[^\s$\\])?)\$(?!\d)")


@functools.lru_cache(maxsize=2048)
def formatted(text: str) -> Node | None:
    """The text as a tree; None where it is too long, or where formatting would change nothing."""
    if len(text) > LONGEST:
        return None
    from markdown_it.tree import SyntaxTreeNode

    tree = _node(SyntaxTreeNode(_markdown().parse(text)))
    return None if _is_plain(tree) else tree


@functools.cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    made.disable(["html_block", "html_inline", "entity"])
    # Before the rule that takes the backslash out of `\(`.
    made.inline.ruler.before("escape", "formula", _formula)
    return made


def _formula(state: StateInline, silent: bool) -> bool:
    found = _formula_at(state.src, state.pos, state.posMax)
    if found is None:
        return False
    formula, end = found
    if not silent:
        token = state.push("formula", "", 0)
        token.content, token.info = state.src[state.pos : end], formula
    state.pos = end
    return True


def _formula_at(text: str, at: int, end: int) -> tuple[str, int] | None:
    """The formula that begins there, and where it ends; None where none does.

    The end is sought no farther than a formula may be long: a text of beginnings alone, each
    looking through all that follows, would hold up every rater of the session.
    """
    end = min(end, at + LONGEST_FORMULA)
    if closes := _CLOSES.get(text[at : at + 2]):
        last = text.find(closes, at + 3, end)
        return None if last < 0 else (text[at + 2 : last], last + 2)
    found = _IN_DOLLARS.match(text, at, end)
    return None if found is None else (found[1], found.end())


def _node(node: SyntaxTreeNode) -> Node:
    kind = node.type
    if kind == "text":
        return node.content
    if kind == "formula":
        return _mathematics(node.info) or ["code", node.content]
    if kind in ("code_inline", "fence", "code_block"):
        code: Node = ["code", node.content]
        return code if kind == "code_inline" else ["pre", code]
    if kind == "image":
        return ["img", f"![{node.content}]({node.attrs.get('src', '')})"]
    tag = node.tag if kind in ("heading", "strong", "em") else _NAMES.get(kind, kind)
    within = [_node(child) for child in node.children]
    if tag == "a":
        address = str(node.attrs.get("href", ""))
        return ["a", *within, *([] if within == [address] else [f" ({address})"])]
    start = node.attrs.get("start", 1) if tag == "ol" else 1
    if start != 1:
        tag = f"ol:{start}"  # the one thing besides its name that a tag says
    return [tag if tag.partition(":")[0] in TAGS else "", *within]


def _mathematics(formula: str) -> Node | None:
    """The formula in MathML; None where it isn't LaTeX that the library reads."""
    from latex2mathml.converter import convert

    try:
        return _element(fromstring(convert(formula)))
    # The library raises whatever a torn formula makes it trip over.
    except (ParseError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    except Exception as error:  # its own errors derive from Exception alone
        if type(error).__module__.startswith("latex2mathml"):
            return None
        raise


def _element(element: Element) -> Node:
    name = element.tag.rpartition("}")[2]
    if name not in MATH_TAGS:
        raise ValueError(name)
    return [name, *filter(None, [element.text]), *map(_element, element)]


def _is_plain(tree: Node) -> bool:
    """Whether it is paragraphs of plain text alone, which read the same as they were written."""
    if isinstance(tree, str):
        return True
    return tree[0] in ("", "p", "br") and all(map(_is_plain, tree[1:]))
