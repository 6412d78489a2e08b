"""Finds many words in many texts at once: a vectorized Aho-Corasick automaton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LANES = 4096
_SEPARATOR = b"\xff"  # never occurs in UTF-8


class Automaton:
    """Finds every occurrence of every word, also inside other words and overlapping with them.

    The automaton of Aho & Corasick (1975) over the bytes of UTF-8. Its failure links are merged
    into one table (state × kind of byte), so each byte costs one look-up.

    Ten million look-ups one after the other are slow in Python. But which words end at a byte
    depends only on the bytes before it, as many as the longest word has. So the text is cut into
    pieces that overlap by one byte less than that, and numpy makes one step in all pieces at once.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """`words` must be distinct and not empty."""
        import numpy as np

        encoded = [_encode(word) for word in words]
        self.lengths = np.array([len(word) for word in encoded], dtype=np.int64)
        self.longest = int(self.lengths.max(initial=0))
        used = sorted(set().union(*encoded)) if encoded else []
        # Bytes that no word has share kind 0, which always leads back to the root: a smaller table.
        self.kinds = np.zeros(256, dtype=np.uint8 if len(used) < 256 else np.uint16)
        self.kinds[used] = np.arange(1, len(used) + 1)
        self._build(encoded, len(used) + 1)

    def _build(self, encoded: Sequence[bytes], width: int) -> None:
        import numpy as np

        children: list[dict[int, int]] = [{}]
        word_at: dict[int, int] = {}
        levels: list[list[tuple[int, int, int]]] = []
        kinds = self.kinds.tolist()
        for index, word in enumerate(encoded):
            state = 0
            for depth, byte in enumerate(word):
                kind = kinds[byte]
                following = children[state].get(kind)
                if following is None:
                    following = len(children)
                    children.append({})
                    children[state][kind] = following
                    if depth == len(levels):
                        levels.append([])
                    levels[depth].append((state, kind, following))
                state = following
            word_at[state] = index
        self.table = np.zeros((len(children), width), dtype=np.int32)
        fail = np.zeros(len(children), dtype=np.int32)
        own = np.full(len(children), -1, dtype=np.int64)
        own[list(word_at)] = list(word_at.values())
        # Of each state the nearest state at which a word ends: itself, or along its failure links.
        self.ends = np.where(own >= 0, np.arange(len(children)), 0)
        for depth, level in enumerate(levels):
            parents, steps, states = np.array(level, dtype=np.int64).T
            if depth > 0:
                fail[states] = self.table[fail[parents], steps]
            self.ends[states] = np.where(own[states] >= 0, states, self.ends[fail[states]])
            # A state's row begins as that of its failure; its own children then take over. The
            # rows of one depth need only rows of lesser depth, which are complete.
            self.table[parents, steps] = states
            self.table[states] = self.table[fail[states]]
        self.fail, self.own = fail, own

    def find(
        self, texts: Sequence[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """All occurrences as three arrays of shape (hits,), sorted by place.

        The number of the text, the number of the word, and the byte of the text's UTF-8 at which
        the occurrence begins.
        """
        import numpy as np

        encoded = [_encode(text) for text in texts]
        starts = np.cumsum([0] + [len(text) + 1 for text in encoded[:-1]], dtype=np.int64)
        data = np.frombuffer(_SEPARATOR.join(encoded), dtype=np.uint8)
        last_bytes, words = self._occurrences(data)
        begins = last_bytes - self.lengths[words] + 1
        order = np.lexsort((words, begins))
        begins, words = begins[order], words[order]
        owners = np.searchsorted(starts, begins, side="right") - 1
        return owners, words, begins - starts[owners]

    def _occurrences(self, data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(byte at which it ends, word) of all occurrences."""
        import numpy as np

        if len(data) == 0 or self.longest == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        # At least four times the longest word, or most of the work would go into the overlaps.
        piece = max(-(-len(data) // _LANES), 4 * self.longest)
        lanes = -(-len(data) // piece)
        overlap = self.longest - 1
        padded = np.zeros(overlap + lanes * piece, dtype=self.kinds.dtype)
        padded[overlap : overlap + len(data)] = self.kinds[data]
        windows = np.lib.stride_tricks.sliding_window_view(padded, overlap + piece)[::piece]
        steps = np.ascontiguousarray(windows.T)
        base = np.arange(lanes, dtype=np.int64) * piece - overlap
        table, width = self.table.ravel(), self.table.shape[1]
        ending = self.ends > 0
        state = np.zeros(lanes, dtype=np.int32)
        positions, states = [], []
        for step, kinds in enumerate(steps):
            state = table[state * width + kinds]
            # Hits within the overlap belong to the piece before, which reports them.
            if step >= overlap:
                hits = np.flatnonzero(ending[state])
                if len(hits):
                    positions.append(base[hits] + step)
                    states.append(self.ends[state[hits]])
        return self._with_suffixes(positions, states)

    def _with_suffixes(
        self, positions: list[NDArray[np.int64]], states: list[NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where a word ends, every word that is its suffix ends too: follow the failure links."""
        import numpy as np

        if not positions:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        where, state = np.concatenate(positions), np.concatenate(states)
        all_where, all_words = [], []
        while len(state):
            all_where.append(where)
            all_words.append(self.own[state])
            state = self.ends[self.fail[state]]
            where, state = where[state > 0], state[state > 0]
        return np.concatenate(all_where), np.concatenate(all_words)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")
