"""Short texts whose personal data is marked, and how much of it somebody finds.

`tests/data/personal.jsonl` marks a datum as ⟦KIND|what stands there⟧. Half of the texts hold none,
and many were made to mislead.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, str]

TABLE: list[Row] = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data" / "personal.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]
MARKED = re.compile(r"⟦([A-Z]+)\|(.*?)⟧", re.DOTALL)


def plain(row: Row) -> str:
    """The text as somebody would send it."""
    return MARKED.sub(lambda match: match[2], row["text"])


def masked(row: Row) -> str:
    """The text as it should be kept."""
    return MARKED.sub(lambda match: f"[{match[1]}]", row["text"])


def precision_and_recall(rows: Sequence[Row], found: Sequence[Counter[str]]) -> tuple[float, float]:
    """Of what was found (how many of each kind, a row), and of what is there; both 0 to 1."""
    right = missed = wrong = 0
    for row, got in zip(rows, found, strict=True):
        wanted = Counter(match[1] for match in MARKED.finditer(row["text"]))
        right += (got & wanted).total()
        missed += (wanted - got).total()
        wrong += (got - wanted).total()
    return right / (right + wrong), right / (right + missed)
