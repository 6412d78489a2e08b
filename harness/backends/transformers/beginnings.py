"""The beginnings that the prompts of one call share, read once and kept until it ends."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from harness.backends.transformers.causal import Causal
from harness.backends.transformers.passes import Chain, TreeReader
from harness.backends.transformers.prefix_tree import Node, Tokens, tree_of, walk

WORTH = 8
"""How many tokens a beginning has to save to be read by itself."""


class Beginnings:
    """What is worth keeping of `prompts`: at most `tokens` tokens, those first that save most.

    A beginning is read when the first prompt that has it is, `at_once` tokens in a pass, and freed
    with this object.
    """

    def __init__(
        self, causal: Causal, prompts: Sequence[Tokens], *, tokens: int, at_once: int
    ) -> None:
        self.causal = causal
        self._at_once = at_once
        self._kept: dict[Tokens, Chain | None] = dict.fromkeys(worth_keeping(prompts, tokens))

    def tree(self, texts: Sequence[Tokens], sizes: Sequence[int]) -> list[Node]:
        """The roots of a tree of texts, whose nodes go on from the beginnings that are kept.

        The first `sizes` tokens of a text are its prompt, the last of which is read in any case.
        """
        groups: dict[Tokens, list[int]] = {}
        for index, (text, size) in enumerate(zip(texts, sizes, strict=True)):
            groups.setdefault(self._longest(text[:size]), []).append(index)
        roots: list[Node] = []
        for beginning, indices in groups.items():
            own = tree_of([texts[i] for i in indices], worth=WORTH, start=len(beginning))
            for node in walk(own):
                node.texts = [indices[text] for text in node.texts]
            for root in own:
                root.behind = self._chain(beginning)
            roots += own
        return roots

    def _longest(self, prompt: Tokens) -> Tokens:
        # The states of a prompt's last token choose what comes first behind it.
        having = (kept for kept in self._kept if len(kept) < len(prompt) and _has(prompt, kept))
        return max(having, key=len, default=())

    def _chain(self, beginning: Tokens) -> Chain | None:
        if not beginning:
            return None
        chain = self._kept[beginning]
        if chain is None:
            chain = self._kept[beginning] = self._read(beginning)
        return chain

    def _read(self, beginning: Tokens) -> Chain:
        reader, chain = TreeReader(self.causal, self.tree([beginning], [len(beginning)])), Chain()

        def put(_index: int, _layer: int, keys: Tensor, values: Tensor) -> None:
            chain.append((keys.clone(), values.clone()))

        while pieces := reader.course.take(self._at_once):
            last = [len(pieces) - 1] if pieces[-1].ends else []
            reader.read(pieces, last, put)
            reader.passed()
        return chain


def worth_keeping(prompts: Sequence[Tokens], tokens: int) -> list[Tokens]:
    """The beginnings that save at least a quarter of the tokens of the prompts that have them."""
    nodes = list(walk(tree_of(prompts, worth=WORTH))) if len(prompts) > 1 else []
    # Of each node: how many prompts have it, their tokens in all, and one of them.
    below: dict[int, tuple[int, int, int]] = {}
    for node in reversed(nodes):
        parts = [below[id(child)] for child in node.children]
        parts += [(1, node.end, text) for text in node.texts]
        below[id(node)] = sum(p[0] for p in parts), sum(p[1] for p in parts), parts[0][2]
    gains = [(node.end * (below[id(node)][0] - 1), node) for node in nodes if node.children]
    chosen: list[Tokens] = []
    for gain, node in sorted(gains, key=lambda each: -each[0]):
        _, total, text = below[id(node)]
        if gain * 4 >= total and node.end <= tokens:
            tokens -= node.end
            chosen.append(prompts[text][: node.end])
    return chosen


def _has(text: Tokens, beginning: Tokens) -> bool:
    return text[: len(beginning)] == beginning
