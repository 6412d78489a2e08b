"""Many texts at once as they are compared: arrays of characters, made by looking each up in a
table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]

END = 0x110000
"""Stands behind each text: no character has this number."""
_BEYOND = END + 1

_KNOWN, _APART, _DIGIT, _WIDE, _TIGHT, _SPACE, _JOINS, _GONE = (1 << bit for bit in range(8))
"""What is known of a character as it is read: looked up before; can't be looked up by itself; a
digit; an operator that may have spaces around it; one that may not; a space; whether what stands
for it needs no space beside it; nothing stands for it.
"""


_HANGUL_PART = re.compile("[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]")
_OPERATORS = "-+*/^=<>.:"
"""The last two may have no spaces around them."""


def codes_of(text: str) -> Codes:
    """The numbers of a text's characters."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def weight(letters: str) -> int:
    """A number of 32 bits that is the same for the same letters in another order."""
    mixed = codes_of(letters) * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    mixed *= mixed | np.uint32(1)
    return int(mixed.sum(dtype=np.uint32))


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts as they are compared, one behind the other, each with `END` behind it. Those that the
    tables can't tell are left out: `numbers` says which ones are here, `apart` which are not.
    """

    codes: Codes
    ends: npt.NDArray[np.intp]
    """Where each text's `END` stands."""
    numbers: npt.NDArray[np.intp]
    apart: list[int]

    @classmethod
    def of(cls, texts: Sequence[str], numbers: Sequence[int]) -> Batch:
        """Texts that are as they are compared."""
        codes = codes_of("".join(f"{text}\n" for text in texts)).copy()
        ends = np.cumsum([len(text) + 1 for text in texts]) - 1
        codes[ends] = END
        return cls(codes, ends, np.array(numbers), [])

    @property
    def starts(self) -> npt.NDArray[np.intp]:
        return np.concatenate(([0], self.ends[:-1] + 1)) if len(self.ends) else self.ends

    def text(self, place: int) -> str:
        """The text that is `place`-th here."""
        start = self.ends[place - 1] + 1 if place else 0
        return self.codes[start : self.ends[place]].tobytes().decode("utf-32-le", "surrogatepass")


@dataclass(slots=True)
class Characters:
    """Tables of what stands for each character where a text is compared.

    `compared` is how a text is compared: asked for a text of one character it says what stands for
    it in any other, unless one character changes another there. `squeezed` says the same of a
    compared text without what is left out where its letters alone are looked at. `spaceless` are
    the characters beside which a space has no meaning; of the operators between two digits, each
    is kept as the private character so many behind `kept`.
    """

    compared: Callable[[str], str]
    squeezed: Callable[[str], str]
    spaceless: re.Pattern[str]
    kept: int
    _weights: Codes = field(default_factory=lambda: np.zeros(_BEYOND, np.uint32))
    _flags: npt.NDArray[np.uint8] = field(default_factory=lambda: np.zeros(_BEYOND, np.uint8))
    _stands: Codes = field(default_factory=lambda: np.zeros(_BEYOND, np.uint32))

    def __post_init__(self) -> None:
        self._stands[END] = END
        self._flags[END] = _KNOWN
        for sign in _OPERATORS:
            kept = self.kept + ord(sign)
            self._weights[kept] = weight(self.squeezed(chr(kept)))

    def read(self, texts: Sequence[str]) -> Batch:
        """What `compared` gives for each text, but for those that it must be asked for."""
        lengths = np.fromiter(map(len, texts), np.intp, len(texts))
        codes = codes_of("".join(f"{text}\n" for text in texts)).copy()
        ends = np.cumsum(lengths + 1) - 1
        codes[ends] = END
        flags = self._flags.take(codes)
        if not flags.all():
            self._learn(np.unique(codes[flags == 0]))
            flags = self._flags.take(codes)
        numbers, apart = np.arange(len(texts)), []
        if (flags & _APART).any():
            lost = np.logical_or.reduceat(flags & _APART != 0, np.concatenate(([0], ends[:-1] + 1)))
            apart = np.flatnonzero(lost).tolist()
            stays = np.repeat(~lost, lengths + 1)
            codes, flags, numbers = codes[stays], flags[stays], numbers[~lost]
        if not len(codes):
            return Batch(codes, numbers[:0], numbers, apart)
        stand = self._stands.take(codes)
        self._keep_operators(codes, flags, stand)
        codes = _spaced(stand, flags)
        return Batch(codes, np.flatnonzero(codes == END), numbers, apart)

    def weights(self, batch: Batch) -> Codes:
        """The `weight` of each text's letters alone."""
        if not len(batch.ends):
            return np.zeros(0, np.uint32)
        return np.add.reduceat(self._weights.take(batch.codes), batch.starts, dtype=np.uint32)

    def _learn(self, unknown: Codes) -> None:
        for code in unknown.tolist():
            character = chr(code)
            known = _KNOWN
            if re.match(r"\d", character):
                known |= _DIGIT
            if character.isspace():
                known |= _SPACE
            if character in _OPERATORS[:-2] or character in "−×÷":
                known |= _WIDE
            if character in _OPERATORS[-2:]:
                known |= _TIGHT
            stands = self.compared(character)
            if unicodedata.normalize("NFKC", character).isspace():
                known |= _GONE | _SPACE
            elif not _by_itself(character) or len(stands) > 1:
                known |= _APART
            elif not stands:
                known |= _GONE
            else:
                known |= _JOINS if self.spaceless.match(stands) else 0
                self._stands[code] = ord(stands)
                self._weights[ord(stands)] = weight(self.squeezed(stands))
            # Last: who finds it known takes the rest as it is.
            self._flags[code] = known

    def _keep_operators(self, codes: Codes, flags: npt.NDArray[np.uint8], stand: Codes) -> None:
        """Marks the operators between two digits as not gone, and the spaces around them as gone
        for good.
        """
        operators = np.flatnonzero(flags[1:-1] & (_WIDE | _TIGHT)) + 1
        if not len(operators):
            return
        before, behind = flags[operators - 1], flags[operators + 1]
        wide = flags[operators] & _WIDE != 0
        self._stand(operators[before & behind & _DIGIT != 0], codes, flags, stand)
        maybe = operators[wide & ((before | behind) & _SPACE != 0)]
        if not len(maybe):
            return
        solid = np.flatnonzero(flags & _SPACE == 0)
        place = np.searchsorted(solid, maybe)
        inside = (place > 0) & (place < len(solid) - 1)
        maybe, place = maybe[inside], place[inside]
        before, behind = solid[place - 1], solid[place + 1]
        between = flags[before] & flags[behind] & _DIGIT != 0
        self._stand(maybe[between], codes, flags, stand)
        for start, stop in zip(before[between].tolist(), behind[between].tolist(), strict=True):
            flags[start + 1 : stop] &= ~np.uint8(_SPACE)

    def _stand(
        self, places: npt.NDArray[np.intp], codes: Codes, flags: npt.NDArray[np.uint8], stand: Codes
    ) -> None:
        said = codes[places]
        for sign, usual in zip("−×÷", "-*/", strict=True):
            said[said == ord(sign)] = ord(usual)
        stand[places] = said + np.uint32(self.kept)
        flags[places] &= ~np.uint8(_GONE)


def _by_itself(character: str) -> bool:
    """Whether a character is compared alike whatever stands around it: it is seen, joins no other,
    and is no letter whose small form depends on its place.
    """
    plain = unicodedata.normalize("NFKC", character)
    code = ord(character)
    if character == "Σ" or not (code < 0x10000 or 0x1F000 <= code < 0x31350):
        return False
    kinds = {unicodedata.category(each) for each in character + plain}
    return not _HANGUL_PART.search(plain) and all(
        kind[0] in "LNPZS" or kind in ("Cc", "Co") for kind in kinds
    )


def _spaced(stand: Codes, flags: npt.NDArray[np.uint8]) -> Codes:
    """What stands for the characters, with single spaces where there were any and they mean
    something.
    """
    solid = np.flatnonzero(flags & _GONE == 0)
    spaces = np.cumsum(flags & _SPACE != 0, dtype=np.int32).take(solid)
    codes = stand.take(solid)
    ends = codes == END
    parted = spaces[1:] != spaces[:-1]
    bound = ends | (flags.take(solid) & _JOINS != 0)
    parted &= ~(bound[1:] | bound[:-1])
    places = np.arange(len(codes))
    places[1:] += np.cumsum(parted)
    spaced = np.full(places[-1] + 1, 32, np.uint32)
    spaced[places] = codes
    return spaced
