"""Texts as a tree over their tokens: what several begin with stands in it once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

Tokens = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Node:
    """Some tokens of a text, the first at place `start`, which follow those of `parent`.

    `texts` are the indices of the texts that end here. A root may go on from a text that is not in
    the tree: then `behind` is what is kept of that.
    """

    parent: Node | None
    start: int
    tokens: Tokens
    children: list[Node] = field(default_factory=list)
    texts: list[int] = field(default_factory=list)
    behind: Any = None

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of one node that are read together, from place `start`.

    `after` is the piece of the same pass that they go on from, an index; None where they go on from
    what is kept, or begin a text. `ends` says whether the node is read to its end with them.
    """

    node: Node
    start: int
    tokens: Tokens
    after: int | None
    ends: bool

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


def tree_of(texts: Sequence[Tokens], *, worth: int, start: int = 0) -> list[Node]:
    """The roots of the tree of `texts`, none of which is empty; equal texts end in one node.

    The first `start` tokens, which all of them share and go beyond, are left out.

    A beginning is cut off only where that saves at least `worth` tokens: each further node has its
    price too.
    """
    top = Node(None, start, ())
    path = [top]
    before: Tokens = texts[0][:start] if texts else ()
    for index in sorted(range(len(texts)), key=lambda i: texts[i]):
        text = texts[index]
        shared = common_length(before, text)
        last: Node | None = None
        while path[-1].end > shared:
            last = path.pop()
        if path[-1].end < shared:
            assert last is not None
            path.append(_cut(last, shared))
        if len(text) > path[-1].end:
            node = Node(path[-1], path[-1].end, text[path[-1].end :])
            path[-1].children.append(node)
            path.append(node)
        path[-1].texts.append(index)
        before = text
    for child in top.children:
        child.parent = None
    roots = _worthy(top.children, worth)
    for node in walk(roots):
        node.children = _worthy(node.children, worth)
    return roots


def common_length(a: Tokens, b: Tokens) -> int:
    """How many tokens two texts begin with alike."""
    if a[: len(b)] == b[: len(a)]:
        return min(len(a), len(b))
    low, high = 0, min(len(a), len(b))
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _cut(node: Node, place: int) -> Node:
    """A new node for what `node` has before `place`, put between it and its parent."""
    parent = node.parent
    assert parent is not None
    head = Node(parent, node.start, node.tokens[: place - node.start], [node])
    parent.children[parent.children.index(node, -1)] = head
    node.tokens = node.tokens[place - node.start :]
    node.parent, node.start = head, place
    return head


def _worthy(siblings: Sequence[Node], worth: int) -> list[Node]:
    """The siblings, with the children of each that is not worth a node of its own in its place."""
    kept: list[Node] = []
    waiting = list(reversed(siblings))
    while waiting:
        node = waiting.pop()
        saved = len(node.tokens) * (len(node.children) - 1)
        if node.texts or saved >= worth:
            kept.append(node)
            continue
        for child in node.children:
            child.parent, child.start = node.parent, node.start
            child.tokens = node.tokens + child.tokens
        waiting += reversed(node.children)
    return kept


def count(roots: Sequence[Node]) -> int:
    """How many tokens the tree has."""
    return sum(len(node.tokens) for node in walk(roots))


def walk(roots: Sequence[Node]) -> Iterator[Node]:
    """Every node, each before those that follow it, and a whole branch before the next."""
    waiting = list(reversed(roots))
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


class Course:
    """Leads through a tree in passes of few tokens, in the order of `walk`.

    What a pass goes on from is in the pass itself, or on one path from a root: that path's end is
    all that has to be kept between two passes.
    """

    def __init__(self, roots: Sequence[Node]) -> None:
        self._nodes = list(walk(roots))
        self._at = 0
        self._read = 0
        self._next = (0, 0)

    def take(self, tokens: int) -> list[Piece]:
        """The pieces of the next pass, at most so many tokens; none at the end of the course.

        It is the same pass again, or a smaller one, until `passed` is called.
        """
        pieces: list[Piece] = []
        last: dict[int, int] = {}
        at, read, room = self._at, self._read, tokens
        while at < len(self._nodes) and room:
            node = self._nodes[at]
            left = len(node.tokens) - read
            # A node that fits into a pass of its own isn't cut to fill this one up.
            if pieces and left > room and left <= tokens:
                break
            size = min(left, room)
            after = last.get(id(node.parent)) if read == 0 else None
            last[id(node)] = len(pieces)
            some = node.tokens[read : read + size]
            pieces.append(Piece(node, node.start + read, some, after, size == left))
            room -= size
            at, read = (at + 1, 0) if size == left else (at, read + size)
        self._next = at, read
        return pieces

    @property
    def goes_on_from(self) -> tuple[Node | None, int]:
        """What the pass after the taken one begins behind: a node and the place up to which it is
        read; None where it begins with a root, or where there is no further pass.
        """
        at, read = self._next
        if at >= len(self._nodes):
            return None, 0
        node = self._nodes[at]
        return (node, node.start + read) if read else (node.parent, node.start)

    def passed(self) -> None:
        """Go on behind the pass that was taken."""
        self._at, self._read = self._next

    def skip(self) -> list[Node]:
        """Leave out the next node, which can't be read, and all that follow it; they are given."""
        first = self._nodes[self._at]
        lost = [*walk([first])]
        self._at, self._read = self._at + len(lost), 0
        return lost
