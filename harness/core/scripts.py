"""Splits texts of any script into words without losing a letter, a vowel sign or a diacritic."""

from __future__ import annotations

import re
import unicodedata

from harness.core.language import CJK, normalize_squad

_IS_CJK = re.compile(f"[{CJK}]")
_ASCII_WORD = re.compile("[a-z0-9]+")
# Written without spaces between words: Thai, Lao, Myanmar, Khmer, Tai Le, New Tai Lue, Tai Tham,
# Balinese, Javanese, Tai Viet and what extends them. Tibetan sets a point between its syllables.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f"
    "\ua980-\ua9ff\uaa60-\uaa7f\uaa80-\uaadf]"
)
_KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d]")
_TIBETAN = re.compile("[\u0f40-\u0fbc]")
_STACKERS = frozenset("\u1039\u17d2\u1a60\u1b44\ua9c0")
_APOSTROPHES = frozenset("\u2018\u2019\u05f3\u05f4")
_JOINERS = frozenset("\u200c\u200d")

# One letter for each character, in `_Kinds`: c CJK, u a letter of an unspaced script, v what stacks
# the next letter under the last, m any other mark, w other letters and digits, j joiners.
# A mark that stands on no letter (NFKC makes one of an acute accent by itself) is no word.
_WORD = re.compile(r"cm*|u(?:m|vu?|j(?=[um]))*|w(?:j*[wm])*")
_PIECE = re.compile(r"cm*|u(?:m|vu?|j(?=[um]))*|[^cu]+")


class _Kinds(dict[int, str]):
    """Code point -> its kind, worked out when it is first seen."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = _kind(chr(code))
        return kind


_KINDS = _Kinds()


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if character in _STACKERS:
        return "v"
    if character in _JOINERS:
        return "j"
    if category[0] == "M":
        return "m"
    if _IS_CJK.match(character):
        return "c"
    if not character.isalnum():
        return " "
    return "u" if category[0] == "L" and _UNSPACED.match(character) else "w"


def words(text: str) -> list[str]:
    """The words of `text` in small letters and usual width (NFKC), without punctuation.

    On ASCII exactly rouge-score's: runs of a-z and 0-9. Everywhere else a word is a run of letters
    and digits with all marks that stand on them. Scripts that set no spaces give one token for each
    character that a reader sees: Han, kana and hangul, and a Thai, Lao, Khmer or Myanmar letter
    with its vowel signs, tones and stacked letters; Tibetan gives its syllables.
    """
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    kinds = text.translate(_KINDS)
    return [text[found.start() : found.end()] for found in _WORD.finditer(kinds)]


def pieces(text: str) -> list[str]:
    """What stands between the spaces of `text`, unspaced scripts by what a reader sees as one
    character; nothing else is changed or left out.
    """
    if text.isascii():
        return text.split()
    return [
        piece[found.start() : found.end()]
        for piece in text.split()
        for found in _PIECE.finditer(piece.translate(_KINDS))
    ]


def sets_no_spaces(text: str) -> bool:
    """Whether a fifth or more of the letters are kana or of a script without spaces between words,
    Chinese aside: such a text has hardly a word that occurs twice.
    """
    if text.isascii():
        return False
    letters = sum(map(str.isalpha, text))
    found = sum(len(kind.findall(text)) for kind in (_UNSPACED, _KANA, _TIBETAN))
    return 0 < 0.2 * letters <= found


def answer_tokens(text: str) -> list[str]:
    """SQuAD's tokens of an answer, for every script.

    On ASCII exactly SQuAD's. Elsewhere in usual width, with punctuation of any script taken out:
    apostrophes join what they stand between, all others part it.
    """
    if text.isascii():
        return normalize_squad(text).split()
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    parted = "".join(
        (" " if character not in _APOSTROPHES else "")
        if not character.isascii() and unicodedata.category(character)[0] == "P"
        else character
        for character in text
    )
    return pieces(normalize_squad(parted))
