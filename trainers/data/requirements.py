"""What a pipeline requires of its rows: each a figure, a bound, and whether it refuses or warns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from harness.core.strict_model import FiniteModel
from harness.core.types import Row
from harness.data.sources import read_source
from harness.watch.intake.masking import mask_json
from trainers.data.language import language_of
from trainers.data.length import words_of
from trainers.data.rows import Placed, said

Otherwise = Literal["refuse", "warn"]
_DATE = re.compile(r"(\d{4})(?:-?(\d{2}))?(?:-?(\d{2}))?(?!\d{2})")
_FEW = 5_000
"""Rows of either side that are asked for their words."""


class Balance(FiniteModel):
    """The commonest value of the column `field` occurs at most `at_most` times as often as the
    rarest.
    """

    field: str
    at_most: float = Field(default=3, ge=1)
    otherwise: Otherwise = "refuse"


class Recent(FiniteModel):
    """At least the share `at_least` of the rows that have a date in the column `field` is of the
    last `years` before `as_of`, or before the newest of them: the day it is built on says nothing.
    """

    field: str
    years: int = Field(default=3, ge=1)
    at_least: float = Field(default=0.6, ge=0, le=1)
    as_of: date | None = None
    otherwise: Otherwise = "refuse"


class Overlap(FiniteModel):
    """The share of the rows' words (Chinese: characters in pairs) that rows of `base`, such as what
    the base model learned from, use too, is under `under`.
    """

    base: str
    under: float = Field(default=0.3, gt=0, le=1)
    otherwise: Otherwise = "refuse"


class NoPersonal(FiniteModel):
    """At most the share `at_most` of the rows holds personal data."""

    at_most: float = Field(default=0, ge=0, le=1)
    otherwise: Otherwise = "refuse"


class Languages(FiniteModel):
    """At most the share `others` of the rows is surely in a language beside `only`."""

    only: tuple[str, ...] = Field(min_length=1)
    others: float = Field(default=0, ge=0, le=1)
    otherwise: Otherwise = "refuse"


class RequirementsModel(FiniteModel):
    """What is required of the rows that are left; what isn't named isn't required."""

    balance: Balance | None = None
    recent: Recent | None = None
    overlap: Overlap | None = None
    personal: NoPersonal | None = None
    languages: Languages | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One requirement's outcome: its figure, its bound, `holds`, `warned` or `refused`, and both in
    words. `figure` is None where no row can say.
    """

    requirement: str
    figure: float | None
    bound: float
    outcome: str
    says: str

    def written(self) -> dict[str, Any]:
        return asdict(self)


def figures(model: RequirementsModel, rows: Sequence[Placed], folder: Path) -> list[Figure]:
    """A figure for each requirement. Raises UserError for a base that isn't there."""
    found = []
    for name in RequirementsModel.model_fields:
        asked = getattr(model, name)
        if asked is not None:
            figure, bound, holds, says = _MEASURES[name](asked, rows, folder)
            outcome = "holds" if holds else {"refuse": "refused", "warn": "warned"}[asked.otherwise]
            rounded = None if figure is None else round(figure, 6)
            found.append(Figure(name, rounded, bound, outcome, says))
    return found


_Measured = tuple[float | None, float, bool, str]


def _balance(asked: Balance, rows: Sequence[Placed], folder: Path) -> _Measured:
    counts = Counter(str(p.row[asked.field]) for p in rows if p.row.get(asked.field) is not None)
    if not counts:
        return None, asked.at_most, False, f"no row has the column {asked.field!r}"
    (most, high), (least, low) = counts.most_common()[0], counts.most_common()[-1]
    missing = len(rows) - counts.total()
    says = (
        f"{asked.field} {most!r} {high} to {least!r} {low}: {high / low:.2f}:1 "
        f"(at most {asked.at_most:g}:1)" + (f"; {missing} rows have none" if missing else "")
    )
    return high / low, asked.at_most, high <= asked.at_most * low, says


def _recent(asked: Recent, rows: Sequence[Placed], folder: Path) -> _Measured:
    dates = [day for p in rows if (day := date_of(p.row.get(asked.field))) is not None]
    if not dates:
        return None, asked.at_least, False, f"no row has a date in the column {asked.field!r}"
    end = asked.as_of or max(dates)
    begin = _years_before(end, asked.years)
    share = sum(begin < day <= end for day in dates) / len(dates)
    says = (
        f"{share:.0%} of {len(dates)} dated rows are of the {asked.years} years before {end} "
        f"(at least {asked.at_least:.0%})"
    )
    return share, asked.at_least, share >= asked.at_least, says


def _years_before(day: date, years: int) -> date:
    last = 28 if (day.month, day.day) == (2, 29) else day.day
    return day.replace(year=day.year - years, day=last)


def date_of(value: Any) -> date | None:
    """The day that a value begins with: 2026-12-01, 20261201, 2026-12 or 2026; None for others."""
    match = _DATE.match(str(value).strip()) if isinstance(value, str | int) else None
    if match is None:
        return None
    try:
        return date(*(int(part or 1) for part in match.groups()))
    except ValueError:
        return None


def _overlap(asked: Overlap, rows: Sequence[Placed], folder: Path) -> _Measured:
    theirs = {word for row in _some(_base(asked, folder)) for word in _words(row)}
    mine = Counter(word for row in _some([p.row for p in rows]) for word in _words(row))
    share = sum(n for word, n in mine.items() if word in theirs) / max(1, mine.total())
    says = f"{share:.0%} of the words are in {asked.base} (under {asked.under:.0%})"
    return share, asked.under, share < asked.under, says


def _base(asked: Overlap, folder: Path) -> list[Row]:
    return [dict(found.row) for found in read_source(asked.base, folder, split="train")]


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    """As many rows, evenly apart, as say which words there are to a fraction of a percent."""
    return rows[:: -(-len(rows) // _FEW) or 1]


def _words(row: Row) -> Iterator[str]:
    for text in said(row):
        yield from words_of(text)


def _personal(asked: NoPersonal, rows: Sequence[Placed], folder: Path) -> _Measured:
    count = sum(mask_json(placed.row)[1] > 0 for placed in rows)
    share = count / len(rows)
    says = f"{count} of {len(rows)} rows hold personal data (at most {asked.at_most:.1%})"
    return share, asked.at_most, share <= asked.at_most, says


def _languages(asked: Languages, rows: Sequence[Placed], folder: Path) -> _Measured:
    told = Counter(language_of(placed.row) for placed in rows)
    others = {c: n for c, n in told.items() if c not in (None, "zxx", *asked.only)}
    share = sum(others.values()) / len(rows)
    named = ", ".join(f"{code} {n}" for code, n in sorted(others.items(), key=lambda e: -e[1])[:5])
    says = (
        f"{sum(others.values())} of {len(rows)} rows are in another language than "
        f"{', '.join(asked.only)} (at most {asked.others:.1%})" + (f": {named}" if named else "")
    )
    return share, asked.others, share <= asked.others, says


_MEASURES: Mapping[str, Any] = {
    "balance": _balance,
    "recent": _recent,
    "overlap": _overlap,
    "personal": _personal,
    "languages": _languages,
}
