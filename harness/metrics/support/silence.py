"""An answer that says nothing, and what it counts for: nothing said is nothing won.

Each metric has its rule. Where its range has a worst end, an answer that says nothing stands there:
the pairs of the gate stay whole, and no model gains by falling silent, neither where it would have
been wrong nor where it would have been rude. Where there is no worst end (a length that should be
short, a time, a reward), it is unscored. `docs/metrics.md` has the rule of each.
"""

from __future__ import annotations

import re
import unicodedata

from harness.core.types import NOTE
from harness.metrics.base import Evidence

NOTHING_SAID = "the answer says nothing"
COUNTED_AS_WORST = f"{NOTE}nothing is said, which counts as the worst value"

# What tokenizers put at the ends, as it looks where a server leaves it in the text.
_END_MARKS = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|</?s>|<(?:pad|eos|bos|unk|end_of_turn|start_of_turn)>|\[(?:PAD|EOS|UNK|CLS|SEP|MASK)\]"
)
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Zs", "Zl", "Zp"))
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufffd\ufffc")


def says_nothing(text: str) -> bool:
    """Whether nothing of `text` can be seen: it is empty, or all spaces, control characters, marks
    of direction or width, broken surrogates, blank letters, or end marks of a tokenizer.
    """
    if not text or text.isspace():
        return True
    if text[0].isalnum() and text[0] not in _BLANK:
        return False
    return all(map(_shows_nothing, _END_MARKS.sub("", text)))


def says_no_word(text: str) -> bool:
    """Whether an answer is punctuation alone, or nothing: "...", "\u2014", an empty fence.

    As a label such a text may be right, but it is no words that could be rude, refuse or differ.
    Letters, digits and pictures (emoji) say something.
    """
    if text[:1].isascii() and text[:1].isalnum():
        return False
    return not any(map(_is_of_words, _END_MARKS.sub("", text)))


def _is_of_words(character: str) -> bool:
    shows = character.isalnum() or unicodedata.category(character) == "So"
    return shows and character not in _BLANK


def _shows_nothing(character: str) -> bool:
    return character in _BLANK or unicodedata.category(character) in _UNSEEN


def silent_as(value: float, stats: tuple[float, ...] = ()) -> Evidence:
    """What an answer that says nothing counts for where the range has a worst end."""
    return Evidence(None, value, reason=COUNTED_AS_WORST, stats=stats)


def silent_unscored() -> Evidence:
    """What it counts for where the range has none."""
    return Evidence.unscored(None, NOTHING_SAID)
