"""Which script and language a text is in, and how to split it for metrics."""

from __future__ import annotations

import re
import string
import unicodedata

from harness.core.types import Sample

# Han with its extensions, kana, bopomofo, and hangul: written without spaces, or (hangul) lost by
# tokenizers that keep only a-z, so each character counts as one token.
CJK = (
    "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3040-\u30ff\u3100-\u312f\u3130-\u318f\u31a0-\u31bf"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9d"
    "\U00020000-\U0003134f"
)
_HAN = re.compile("[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]")
_LATIN_LETTER = re.compile(
    "[A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff\uff21-\uff3a\uff41-\uff5a]"
)
_LETTER = re.compile(r"[^\W\d_]")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = frozenset(string.punctuation)


class _NoPunctuation(dict[int, int | None]):
    """None for each punctuation mark, as `str.translate` asks for it: each character is looked up
    once.
    """

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        mark = character in _ASCII_PUNCTUATION or unicodedata.category(character)[0] == "P"
        self[code] = None if mark else code
        return self[code]


_NO_PUNCTUATION = _NoPunctuation()

HAN_SHARE = 0.2
"""From this share of Han among a text's letters on, the text counts as Chinese: one Han character
says about as much as one English word of five letters."""


def detect_language(text: str) -> str | None:
    """`zh` or `en` by script alone: Han characters, else Latin letters; None for other scripts.

    A text without any letter is `en`, because every tokenizer reads it alike.
    """
    if text.isascii():
        return "en"
    letters = len(_LETTER.findall(text))
    if letters == 0:
        return "en"
    if len(_HAN.findall(text)) >= HAN_SHARE * letters:
        return "zh"
    return "en" if len(_LATIN_LETTER.findall(text)) * 2 >= letters else None


def language_of(sample: Sample, text: str) -> str | None:
    """The sample's language as its data names it, without region (`zh-Hans` is `zh`).

    Where the data names none, that of `text` as `detect_language` finds it; None if it finds none.
    """
    if sample.language:
        return re.split("[-_]", sample.language.lower(), maxsplit=1)[0]
    return detect_language(text)


def normalize_squad(text: str) -> str:
    """SQuAD's normalization of an answer (Rajpurkar et al. 2016), as its script has it: lower case,
    without ASCII punctuation, English articles and extra spaces.

    Signs, points and operators go with it: -1 is 1, and `A` leaves nothing.
    """
    text = text.lower()
    kept = "".join(character for character in text if character not in _ASCII_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", kept).split())


def normalize_label(text: str) -> str:
    """The words of a text and nothing else: lower case, without punctuation, single spaces;
    full-width forms become their usual ones. For likeness of texts, not for labels: see
    `core.labels`.

    ASCII punctuation goes with its symbols, as SQuAD has it, and so does all of Unicode's
    punctuation: `“北京。”` equals `北京`.
    """
    text = unicodedata.normalize("NFKC", text).lower()
    return " ".join(text.translate(_NO_PUNCTUATION).split())
