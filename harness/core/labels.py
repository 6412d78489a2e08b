"""Whether an answer is a label, without losing what tells two labels apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from harness.core.language import CJK

_DASHES = re.compile("[\u2010-\u2015\u2212\ufe58\ufe63\uff0d]")
_INVISIBLE = re.compile(
    "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufe0e\ufe0f\ufeff]"
)
_SINGLE_QUOTES = re.compile("[\u2018\u2019\u201a\u201b]")
_DOUBLE_QUOTES = re.compile("[\u201c\u201d\u201e\u201f]")
# NFKC would make 102 of 10\u00b2, 11/2 of 1\u00bd and 102 of the binary 10\u2082.
_RAISED = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207e]+")
_LOWERED_AFTER_DIGIT = re.compile("(?<=[0-9])[\u2080-\u208e]+")
_FRACTION_AFTER_DIGIT = re.compile("(?<=[0-9])(?=[\u00bc-\u00be\u2150-\u215e])")
_THOUSANDS = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,]|\.\d*,)")
_BRACKETS = re.compile(r"[\[({]")
_ACRONYM = re.compile(r"(?<!\w)(?:[^\W\d_]\.){2,}")
_COMMA_AFTER_WORD = re.compile(r"(?<=[^\W\d_])[,;] (?=\w)")
_SIGN_APART = re.compile(r"^([+-]) (?=[\d.])")
_OPENING = "\"'\u00ab\u2039\u300c\u300e\u300a\u3008\u3010"
_CLOSING = "\"'\u00bb\u203a\u300d\u300f\u300b\u3009\u3011"
_PAIRS = dict(zip(_OPENING, _CLOSING, strict=True))
_EMPHASIS = ("***", "**", "*", "`")
_IN_BRACKETS = re.compile(r"\( ?([^\W\d_]+) ?\)|\[ ?([^\W\d_]+) ?\]")
_IN_MATH = re.compile(r"\$ ?([^$]*[^$ \\]) ?\$|\\\( ?(.*[^ \\]) ?\\\)")
_ENDS_LIST_ITEM = re.compile(r"^([^\W_]+)\)$")
_STOPS = (
    ".\u3002\uff61,\u060c\u3001;\u061b:\u0964\u0965\u104a\u104b\u17d4\u17d5\u06d4\u1362\u0f0d\u0589"
)
# `n!` and `p?` say something; after a letter that is a word by itself it only exclaims.
_EXCLAIMS = re.compile(f"(?:(?<=[^\\W\\d_]{{2}})|(?<=[{CJK}]))[!?\u061f\u203c\u2047-\u2049]+$")
_OPENS_SENTENCE = re.compile("^[\u00bf\u00a1]+(?=\\w)")
_ARTICLE = re.compile(r"^(?:the|an|a) (?=\w{2})", re.IGNORECASE)


def label_form(text: str, *, case: bool = False, articles: bool = True) -> str:
    """`text` as it is compared with a label: what it is written with goes, what it says stays.

    One way of writing: usual width (NFKC), one space between words, one kind of dash and quotes,
    no separator of thousands (`1,000`, where there are no brackets: `[1,000]` is a list), no points
    in `U.S.`; small letters unless `case`.

    What stands around a label goes: quotes, `**emphasis**`, backticks, brackets around letters,
    `$` of a formula, the stop that ends a sentence, and with `articles=False` an English article in
    front.

    What distinguishes stays: signs, decimal points and commas, operators, units, currency, indices
    (`10\u00b2` is `10^2`), and all punctuation inside. A text of punctuation alone stays as it is.
    """
    if text.isascii() and text.isalnum():  # most labels: nothing below would change them
        return text if case else text.lower()
    text = _INVISIBLE.sub("", text)
    text = _RAISED.sub(lambda found: "^" + found.group(), text)
    text = _LOWERED_AFTER_DIGIT.sub(lambda found: "_" + found.group(), text)
    text = _FRACTION_AFTER_DIGIT.sub(" ", text)
    text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    text = _DOUBLE_QUOTES.sub('"', _SINGLE_QUOTES.sub("'", _DASHES.sub("-", text)))
    text = " ".join(text.split())
    text = text if case else text.lower()
    if not any(map(str.isalnum, text)):
        return text
    while (bare := _unwrapped(text)) != text:
        text = bare
    if not _BRACKETS.search(text):
        text = _THOUSANDS.sub(lambda found: found.group().replace(",", ""), text)
    text = _ACRONYM.sub(lambda found: found.group().replace(".", ""), text)
    text = _SIGN_APART.sub(r"\1", _COMMA_AFTER_WORD.sub(" ", text))
    return text if articles else _ARTICLE.sub("", text)


def _unwrapped(text: str) -> str:
    """Without the outermost thing that stands around the label, if there is one."""
    inner = text[1:-1]
    if len(text) > 2 and _PAIRS.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(inner):
        return _if_it_says(inner, text)
    for mark in _EMPHASIS:
        inner = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and mark[0] not in inner:
            return _if_it_says(inner, text)
    for around in (_IN_BRACKETS, _IN_MATH, _ENDS_LIST_ITEM):
        if found := around.fullmatch(text):
            return _if_it_says(str(found[found.lastindex or 0]), text)
    bare = _OPENS_SENTENCE.sub("", _EXCLAIMS.sub("", text))
    if _ACRONYM.fullmatch(bare):
        return bare
    return _if_it_says(bare.rstrip(_STOPS), text)


def _if_it_says(inner: str, text: str) -> str:
    return inner.strip() if any(map(str.isalnum, inner)) else text


def _written(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


_Form = tuple[bool, bool]
_FORMS: tuple[_Form, ...] = ((False, False), (False, True), (True, True))
"""(case, articles), from the form that forgives most to the one that forgives least."""


@dataclass(frozen=True)
class Labels:
    """The labels that answers of one task can be; `references` of each sample are among them.

    An answer that is exactly a label is that label, and no other. Any other answer is brought to
    the form that forgives most: no articles, small letters. Where two labels of the task have one
    form, these two are told apart by the next form (articles count), and then by case; where that
    doesn't tell them apart either, only the exact text is one of them. So no normalization can make
    two labels of a task equal, and labels that nobody could mix up are read as kindly as ever.
    """

    known: Collection[str] = ()
    articles: bool = False
    _forms: tuple[_Form, ...] = field(init=False)

    def __post_init__(self) -> None:
        forms = tuple(form for form in _FORMS if form[1] or not self.articles)
        object.__setattr__(self, "_forms", forms)

    def is_one_of(self, answer: str, references: Iterable[str]) -> bool:
        """Whether `answer` is one of the `references` of its sample."""
        right = {_written(reference) for reference in references}
        given = _written(answer)
        if given in right:
            return True
        if given in self._exact:
            return False
        for form in self._forms:
            found = self._with_form(form, answer) | {
                label for label in right if _formed(label, form) == _formed(answer, form)
            }
            if found <= right or found.isdisjoint(right):
                return bool(found) and found <= right
        return False

    def told_apart(self) -> list[tuple[str, ...]]:
        """The labels that only case, an article or their exact text tells apart, by groups."""
        groups = self._grouped(self._forms[0])
        return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)

    def _with_form(self, form: _Form, answer: str) -> frozenset[str]:
        return self._grouped(form).get(_formed(answer, form), frozenset())

    @cached_property
    def _exact(self) -> frozenset[str]:
        return frozenset(map(_written, self.known))

    def _grouped(self, form: _Form) -> dict[str, frozenset[str]]:
        """The labels by that form, made when it is asked for: nearly always the first decides."""
        if form not in self._groups:
            found: dict[str, set[str]] = {}
            for label in self._exact:
                found.setdefault(_formed(label, form), set()).add(label)
            self._groups[form] = {key: frozenset(group) for key, group in found.items()}
        return self._groups[form]

    @cached_property
    def _groups(self) -> dict[_Form, dict[str, frozenset[str]]]:
        return {}


@lru_cache(maxsize=8192)
def _formed(text: str, form: _Form) -> str:
    case, articles = form
    return label_form(text, case=case, articles=articles)
