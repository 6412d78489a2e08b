"""Finds numbers that identify a person: telephone, identity, bank card, account.

A run of digits is cut into its blocks, and every few neighbouring blocks are compared with each
kind: so "13812345678 6222..." is a telephone and a card, whatever stands between them. What has
a check digit must have the right one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import phonenumbers
from stdnum import iban, luhn
from stdnum.br import cpf
from stdnum.cn import ric
from stdnum.es import dni
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.us import ssn

Found = tuple[int, int, str]

_MOST_BLOCKS = 7  # +44 (0)20 79 46 09 58
_MANY = re.compile(r"[0-9](?:[ ().\-/+]{0,3}[0-9]){6}")
_RUN = re.compile(r"[+(]{0,2}[0-9]+(?:[ ().\-/+]{1,3}[0-9]+)*[Xx]?")
_BLOCK = re.compile(r"[0-9]+")
_BIRTH = re.compile(
    r"[1-9][0-9]{5}(?:18|19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx]"
)
_OLD_BIRTH = re.compile(
    r"[1-9][0-9]{7}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}"
)  # fmt: skip
_ISSUER = re.compile(
    r"4(?:.{12}|.{15}|.{18})|5[0-8].{10,17}|2[2-7].{14}|3[47].{13}|35.{14}|3[0689].{12}"
    r"|6[0-9].{11,17}|9[0-9].{14,17}"
)
_MOBILE = re.compile(r"(?:(?:00)?86)?1[3-9][0-9]{9}")
_LANDLINE = re.compile(r"(?:010|02[0-9])[2-9][0-9]{6,7}|0[3-9][0-9]{2}[2-9][0-9]{6,7}")
_NEAR = 24
_CALL = re.compile(
    r"(?:phone|tel|call|dial|mobile|cell|fax|whatsapp|电话|手机|座机|致电|拨打|联系|传真|微信)",
    re.IGNORECASE,
)
_IDENTITY = re.compile(r"身份证|证件|identity|\bID\b|\bid card", re.IGNORECASE)
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]){11,30}")
_LETTERED = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?P<nino>(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
    r" ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D])"
    r"|(?P<dni>[0-9]{8}-?[A-Z])"
    r"|(?P<codice>[A-Z]{6}[0-9]{2}[A-Z][0-9]{2}[A-Z][0-9]{3}[A-Z])"
    r"|(?P<taiwan>[A-Z][1289][0-9]{8})"
    r"|(?P<hongkong>[A-Z]{1,2}[0-9]{6} ?\([0-9A]\))"
    r")(?![A-Za-z0-9])"
)
_PASSPORT = re.compile(
    r"(?:passport|护照|通行证)(?:\W|no|number|is|号|码|是|为){0,10}?"
    r"(?<![A-Za-z0-9])([A-Z]{0,2}[0-9]{6,9})(?![A-Za-z0-9])",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some neighbouring blocks of a run: its digits, the blocks' lengths, and where it stands."""

    text: str
    start: int
    end: int
    digits: str
    lengths: tuple[int, ...]

    @property
    def shown(self) -> str:
        return self.text[self.start : self.end]

    def after(self, words: re.Pattern[str]) -> bool:
        return words.search(self.text, max(0, self.start - _NEAR), self.start) is not None


def numbers(text: str) -> Iterator[Found]:
    """Telephones, cards and identity numbers that are written in digits: (start, end, kind)."""
    if not _MANY.search(text):
        return
    for run in _RUN.finditer(text):
        if run.end() - run.start() >= 7:
            yield from _in_run(text, run.start(), run.end())


def ibans(text: str) -> Iterator[Found]:
    """International bank account numbers with the right check digits."""
    for match in _IBAN.finditer(text):
        # What follows an account may look like more of it.
        for end in range(match.end(), match.start() + 14, -1):
            if text[end : end + 1].isascii() and text[end : end + 1].isalnum():
                continue
            if iban.is_valid(text[match.start() : end]):
                yield match.start(), end, "IBAN"
                break


def lettered(text: str) -> Iterator[Found]:
    """Identity numbers with letters in them: British, Spanish, Italian, Taiwan, Hong Kong."""
    if not _MANY_LETTERED.search(text):
        return
    for match in _LETTERED.finditer(text):
        check = _CHECKS.get(match.lastgroup or "")
        if check is None or check(match[0]):
            yield match.start(), match.end(), "ID"
    for match in _PASSPORT.finditer(text):
        yield match.start(1), match.end(1), "ID"


def _in_run(text: str, start: int, end: int) -> Iterator[Found]:
    blocks = [match.span() for match in _BLOCK.finditer(text, start, end)]
    place = 0
    while place < len(blocks):
        # The longest first: a card in blocks of four must not be taken for a shorter number in it.
        for count in range(min(_MOST_BLOCKS, len(blocks) - place), 0, -1):
            found = _piece(text, start, blocks[place : place + count])
            if found is not None and (kind := _kind(found)):
                yield found.start, found.end, kind
                place += count
                break
        else:
            place += 1


def _piece(text: str, run: int, blocks: list[tuple[int, int]]) -> _Piece | None:
    """These blocks, if together they can be one number and no part of a longer word."""
    start, end = blocks[0][0], blocks[-1][1]
    lengths = tuple(last - first for first, last in blocks)
    if not 7 <= sum(lengths) <= 20:
        return None
    digits = "".join(text[first:last] for first, last in blocks)
    if len(digits) == 17 and text[end : end + 1] in ("X", "x"):
        digits, end = digits + "X", end + 1
    while start > run and text[start - 1] in "+(":
        start -= 1
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if _in_word(before) or _in_word(after):
        return None
    fraction = before == "." and text[start - 2 : start - 1].isdigit() and start > 1
    if fraction or (after == "." and text[end + 1 : end + 2].isdigit()):
        return None
    return _Piece(text, start, end, digits, lengths)


def _in_word(character: str) -> bool:
    return character.isascii() and (character.isalnum() or character == "_")


def _kind(piece: _Piece) -> str | None:
    if _is_identity(piece):
        return "ID"
    if _is_card(piece):
        return "CARD"
    return "PHONE" if _is_phone(piece) else None


def _is_identity(piece: _Piece) -> bool:
    digits, lengths, shown = piece.digits, piece.lengths, piece.shown
    match len(digits):
        case 18:
            body = digits.upper()
            return bool(_BIRTH.fullmatch(body)) and ric.calc_check_digit(body) == body[-1]
        case 15:
            return bool(_OLD_BIRTH.fullmatch(digits)) and piece.after(_IDENTITY)
        case 13:
            return lengths == (6, 7) and bool(rrn.is_valid(digits))
        case 12:
            spaced = lengths == (4, 4, 4) and digits[0] in "23456789"
            return spaced and bool(aadhaar.is_valid(digits))
        case 11:
            return lengths == (3, 3, 3, 2) and bool(cpf.is_valid(digits))
        case 9:
            return (
                lengths == (3, 2, 4)
                and "." not in shown
                and bool(ssn.is_valid(shown.replace(" ", "-")))
            )
    return False


def _is_card(piece: _Piece) -> bool:
    digits = piece.digits
    if not 13 <= len(digits) <= 19 or any(mark in piece.shown for mark in "+()./"):
        return False
    grouped = len(piece.lengths) == 1 or min(piece.lengths[:-1]) >= 4
    return grouped and bool(_ISSUER.fullmatch(digits)) and bool(luhn.is_valid(digits))


def _is_phone(piece: _Piece) -> bool:
    digits, lengths, shown = piece.digits, piece.lengths, piece.shown
    if "+" in shown[1:].lstrip("("):
        return False
    if shown.lstrip("(").startswith("+"):
        return _valid(shown, None)
    if _MOBILE.fullmatch(digits):
        return len(lengths) == 1 or (min(lengths) >= 2 and len(lengths) <= 4)
    if _LANDLINE.fullmatch(digits):
        return len(lengths) == 1 or 3 <= lengths[0] <= 4
    if digits.startswith("00"):
        return _valid("+" + digits[2:], None)
    if lengths == (3, 3, 4) or (lengths == (1, 3, 3, 4) and digits[0] == "1"):
        return _valid(digits, "US")
    called = len(digits) <= 13 and piece.after(_CALL)
    return called and not _like_a_date(lengths) and any(_valid(digits, r) for r in _REGIONS)


_REGIONS = ("US", "GB", "FR", "DE")


def _like_a_date(lengths: tuple[int, ...]) -> bool:
    return len(lengths) >= 3 and lengths[:3] == (4, 2, 2)


def _valid(shown: str, region: str | None) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(shown, region))
    except phonenumbers.NumberParseException:
        return False


_MANY_LETTERED = re.compile(
    r"[A-Z] ?[0-9]{2}[ 0-9]|[0-9]{8}-?[A-Z]|[Pp][Aa][Ss][Ss][Pp][Oo][Rr][Tt]|护照|通行证"
)
_TAIWAN = "ABCDEFGHJKLMNPQRSTUVXYWZIO"


def _taiwan(number: str) -> bool:
    """The check digit of Taiwan's identity numbers (letter, 1, 2, 8 or 9, eight digits)."""
    place = _TAIWAN.index(number[0]) + 10
    digits = [place // 10, place % 10, *map(int, number[1:])]
    weights = (1, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1)
    return sum(d * w for d, w in zip(digits, weights, strict=True)) % 10 == 0


def _hong_kong(number: str) -> bool:
    """The check digit of Hong Kong's: letters from A = 10, blank = 36, weights 9 to 1, mod 11."""
    body = re.sub(r"[ ()]", "", number).rjust(9)
    values = [36 if c == " " else int(c, 36) for c in body]
    return sum(v * w for v, w in zip(values, range(9, 0, -1), strict=True)) % 11 == 0


_CHECKS: dict[str, Any] = {
    "dni": lambda number: dni.is_valid(number),
    "codice": lambda number: codicefiscale.is_valid(number),
    "taiwan": _taiwan,
    "hongkong": _hong_kong,
}
