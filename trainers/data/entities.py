"""The step that adds rows about other people and things, in question and answer alike."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

from pydantic import Field, field_validator

from trainers.data.rows import Done, Placed, each_said, said
from trainers.data.step import Context, Step

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[0-9A-Z]{4}){2,7}(?: ?[0-9A-Z]{1,3})?\b")
_TRIES = 200
_DIGITS = re.compile(r"(?<![\w-])\d(?:[ -]?\d){12,18}[Xx]?(?![\w-])")


class Entities(Step):
    """Adds `times` rows to each that names something of a list or holds a number: what is named is
    another of its list in every text of the row, question and answer alike, or the label would
    lie. `lists` are names that may stand for one another, at least two of a kind; with `numbers`
    e-mail addresses, cards, IBANs and Chinese identity numbers become others, with right check
    digits and nobody's own (addresses end in example.com).
    """

    VERSION: ClassVar[int] = 1
    LIBRARIES: ClassVar[tuple[str, ...]] = ("python-stdnum",)
    lists: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    numbers: bool = True
    times: int = Field(default=1, ge=1, le=20)

    @field_validator("lists")
    @classmethod
    def _two_of_a_kind(cls, lists: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        for kind, names in lists.items():
            if len({name for name in names if name.strip()}) < 2:
                raise ValueError(f"{kind!r} has fewer than two different names")
        return lists

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        kinds = {word: names for names in self.lists.values() for word in names}
        # Longest first: New York is no York.
        words = sorted(kinds, key=len, reverse=True)
        pattern = re.compile("|".join(map(_whole, words))) if words else None
        kept: list[Placed] = []
        for place, placed in enumerate(rows, start=1):
            kept.append(placed)
            for number in range(self.times):
                chance = random.Random(f"{context.seed}|{name}|{placed.id}|{number}")
                instead = self._instead("\n".join(said(placed.row)), pattern, kinds, chance)
                if instead:
                    row = each_said(placed.row, partial(_replaced, instead=instead))
                    kept.append(placed.child(row, name, number))
            if place % 200 == 0:
                context.progress(place, len(rows))
        return kept, []

    def _instead(
        self,
        text: str,
        pattern: re.Pattern[str] | None,
        kinds: Mapping[str, Sequence[str]],
        chance: random.Random,
    ) -> dict[str, str]:
        """What stands in the row -> what is to stand there: two are never made one."""
        found = list(dict.fromkeys(pattern.findall(text))) if pattern else []
        instead: dict[str, str] = {}
        for word in found:
            free = [n for n in kinds[word] if n not in found and n not in instead.values()]
            if free:
                instead[word] = chance.choice(free)
        if self.numbers:
            for value in dict.fromkeys(_EMAIL.findall(text)):
                instead[value] = f"user{chance.randrange(10**6):06d}@example.com"
            for value in dict.fromkeys([*_IBAN.findall(text), *_DIGITS.findall(text)]):
                if other := another_number(value, chance):
                    instead[value] = other
        return instead


def _whole(word: str) -> str:
    """A pattern of a name that is no part of a longer Latin word."""
    start = r"(?<![A-Za-z0-9])" if word[0].isascii() else ""
    return start + re.escape(word) + (r"(?![A-Za-z0-9])" if word[-1].isascii() else "")


def _replaced(text: str, instead: Mapping[str, str]) -> str:
    """All at once, so that what was put in is not replaced again."""
    longest = sorted(instead, key=len, reverse=True)
    return re.sub("|".join(map(_whole, longest)), lambda found: instead[found[0]], text)


def another_number(value: str, chance: random.Random) -> str | None:
    """Another card, IBAN or Chinese identity number, as valid and written as this one; None for a
    number that is none of them.
    """
    from stdnum import iban, luhn
    from stdnum.cn import ric

    plain = re.sub(r"[ -]", "", value).upper()
    card = plain.isdigit() and 13 <= len(plain) <= 19 and luhn.is_valid(plain)
    for kind, made in ((iban, _iban), (ric, _resident), (luhn if card else None, _card)):
        if kind is None or not kind.is_valid(plain):
            continue
        # Some have rules of their own: an account's check digits, the years of a county.
        for _ in range(_TRIES):
            other = made(plain, chance)
            if kind.is_valid(other) and other != plain:
                return _written_as(value, other)
    return None


def _iban(plain: str, chance: random.Random) -> str:
    from stdnum import iban

    # Letters stay: which ones an account may have is each bank's affair.
    body = "".join(c if c.isalpha() else str(chance.randrange(10)) for c in plain[4:])
    return str(plain[:2] + iban.calc_check_digits(f"{plain[:2]}00{body}") + body)


def _resident(plain: str, chance: random.Random) -> str:
    """Of the same place and century, born on a day that every month has."""
    from stdnum.cn import ric

    born = f"{plain[6:8]}{chance.randrange(100):02d}{chance.randrange(1, 13):02d}"
    body = f"{plain[:6]}{born}{chance.randrange(1, 29):02d}{chance.randrange(1, 1000):03d}"
    return str(body + ric.calc_check_digit(body))


def _card(plain: str, chance: random.Random) -> str:
    from stdnum import luhn

    body = plain[:6] + "".join(str(chance.randrange(10)) for _ in plain[6:-1])
    return str(body + luhn.calc_check_digit(body))


def _written_as(value: str, plain: str) -> str:
    """The new characters with the old one's spaces and dashes."""
    signs = iter(plain)
    return "".join(c if c in " -" else next(signs) for c in value)
