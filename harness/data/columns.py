"""What the columns of a file of rows hold: their kinds, lengths, languages and values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from harness.core.told_language import NO_WORDS, tell_language
from harness.core.types import Row
from harness.data.messages import MessagesError, read_messages

Kind = Literal[
    "text", "number", "yes or no", "JSON", "conversation", "texts", "object", "list", "empty",
    "mixed",
]  # fmt: skip
_LOOKED_AT = 200
"""How many values of a column its kind and languages are told from, evenly over the file."""
_MOST_LABELS = 20


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `filled` is the share of rows with a value, `distinct` how many values differ,
    `length` the median in characters (of a conversation: of its last turn), `values` the values
    where they are at most 20, `languages` ISO 639's codes; of both the commonest first.
    """

    name: str
    kind: Kind
    filled: float
    distinct: int
    length: float
    values: tuple[Any, ...]
    languages: tuple[str, ...]

    @property
    def says(self) -> bool:
        """Whether it can be a question or an answer."""
        return self.kind in ("text", "number", "yes or no", "JSON")


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns of all rows, in the order of the first row that has each."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [_column(name, rows) for name in names]


def _column(name: str, rows: Sequence[Row]) -> Column:
    given = [row[name] for row in rows if row.get(name) not in (None, "", [], {})]
    looked_at = given[:: max(1, len(given) // _LOOKED_AT)]
    kind = _kind(looked_at)
    texts = [last_turn(value) if kind == "conversation" else _text(value) for value in given]
    counts = Counter(texts)
    by_text = dict(zip(texts, given, strict=True))
    few = len(counts) <= _MOST_LABELS and kind not in ("conversation", "object")
    return Column(
        name=name,
        kind=kind,
        filled=len(given) / len(rows),
        distinct=len(counts),
        length=median([len(text) for text in texts]) if texts else 0,
        values=tuple(by_text[text] for text, _ in counts.most_common()) if few else (),
        languages=_languages(texts) if kind in ("text", "conversation") else (),
    )


def _languages(texts: Sequence[str]) -> tuple[str, ...]:
    """Those of at least a tenth of the texts: a few short ones tell nothing."""
    looked_at = texts[:: max(1, len(texts) // _LOOKED_AT)]
    told = Counter(code for text in looked_at if (code := tell_language(text)) is not None)
    return tuple(
        code
        for code, count in told.most_common()
        if code != NO_WORDS and count * 10 >= len(looked_at)
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def last_turn(value: Any) -> str:
    """The text of a conversation's last turn; "" where it has none."""
    try:
        return str(read_messages(value)[-1].get("content") or "")
    except MessagesError:
        return ""


def _kind(values: Sequence[Any]) -> Kind:
    if not values:
        return "empty"
    kinds: tuple[tuple[Kind, Any], ...] = (
        ("yes or no", lambda value: isinstance(value, bool)),
        ("number", _is_number),
        ("conversation", _is_conversation),
        ("texts", lambda v: isinstance(v, list) and all(isinstance(one, str) for one in v)),
        ("JSON", _is_json),
        ("text", lambda value: isinstance(value, str)),
        ("object", lambda value: isinstance(value, Mapping)),
        ("list", lambda value: isinstance(value, list)),
    )
    return next((kind for kind, fits in kinds if _all(fits, values)), "mixed")


def _all(fits: Any, values: Iterable[Any]) -> bool:
    return all(fits(value) for value in values)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        try:
            float(value.replace(",", "").strip().rstrip("%"))
        except ValueError:
            return False
        return True
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_conversation(value: Any) -> bool:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return False
    try:
        return any(turn["role"] == "user" for turn in read_messages(value))
    except MessagesError:
        return False


def _is_json(value: Any) -> bool:
    """Whether it is the text of a JSON object."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False
