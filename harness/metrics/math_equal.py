"""Whether an answer's result equals the reference's as mathematics: 1/2 is 0.5, and 50%."""

from __future__ import annotations

import importlib.util
import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each, with_references_that_speak
from harness.metrics.support.silence import silent_as

_SECONDS = 5
_TAIL = 4000
"""Characters at the end of an answer in which its result is looked for."""

_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(?:[eE][-+]?\d+)?%?")
_MARKED = re.compile(r"\$|\\boxed|\\\(|\\\[|\\begin")
_FUNCTIONS = "sin|cos|tan|log|ln|exp|sqrt|pi|infty|mod"
_PROSE = re.compile(rf"(?<![\\A-Za-z])(?!(?:{_FUNCTIONS})\b)[A-Za-z]{{2,}}")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_BESIDE_HAN = re.compile(
    rf"(?<=[{_HAN}])(?=[\w$\\(\[{{+-])(?![{_HAN}])|(?<=[\w$)}}\]])(?=[{_HAN}])"
)
_WIDE: dict[int, int | str | None] = {
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
    **{ord("\u3002"): ".", ord("\u3001"): ",", ord("\u3000"): " ", ord("\u2212"): "-"},
    **{ord("\u03c0"): r"\pi ", ord("\u221e"): r"\infty ", ord("\u222a"): r"\cup "},
}
_ROOT = re.compile(r"\u221a\s*(?:\(([^()]*)\)|([0-9]+|[A-Za-z]))")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}")


def math_equal(answer: str, references: Sequence[str]) -> float:
    r"""1.0 where the result that `answer` gives equals that of one of `references`, else 0.0.

    Both are read and compared as math-verify does (as lm-eval and lighteval use it): the last
    `\boxed{…}`, formula or number of a text. What is one bare expression (`2x+3`) is read whole.
    Full-width forms, the signs of Chinese texts (also where no space stands between them and a
    number) and π, √, ∞ and ∪ are read as their usual ones. A reference that is no mathematics
    (`east`) is compared as text. A comparison that takes over 5 seconds is 0.0.
    """
    return float(any(_equal(answer, reference) for reference in references))


def _equal(answer: str, reference: str) -> bool:
    gold = _read(reference)
    if not gold:
        return _words(answer) == _words(reference)
    return _verified(gold, _read(answer))


def _words(text: str) -> str:
    return _TEXT.sub(r"\1", text).strip().strip("$.").strip().casefold()


def _usual(text: str) -> str:
    """The text with spaces between Han and what is written beside it, signs as LaTeX has them, and
    no full-width forms.
    """
    plain = _ROOT.sub(r"\\sqrt{\1\2}", text.translate(_WIDE))
    return plain if text.isascii() else _BESIDE_HAN.sub(" ", plain.replace(":", ": "))


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[Any, ...]:
    """What math-verify reads of a text; empty where it finds no mathematics."""
    from math_verify import parse

    plain = _usual(text[-_TAIL:]).strip().strip("*")
    stripped = plain.rstrip(".").strip()
    bare = not _MARKED.search(plain) and not _PROSE.search(plain) and plain.isascii()
    with _Quiet():
        if bare and stripped and "\n" not in stripped and not _NUMBER.fullmatch(stripped):
            escaped = re.sub(r"(?<!\\)%", r"\\%", stripped)
            found = parse(f"${escaped}$", parsing_timeout=_timeout())
            if found:
                return tuple(found)
        return tuple(parse(plain, parsing_timeout=_timeout()))


def _verified(gold: Sequence[Any], answer: Sequence[Any]) -> bool:
    from math_verify import verify

    if not answer:
        return False
    with _Quiet():
        return bool(verify(list(gold), list(answer), timeout_seconds=_timeout()))


def _timeout() -> int | None:
    """math-verify's clock is a signal, which only the main thread hears."""
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


class _Quiet:
    """What math-verify can't read it also logs; here that is a 0."""

    def __enter__(self) -> None:
        logging.disable(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.disable(logging.NOTSET)


@dataclass(frozen=True, slots=True)
class MathEqual:
    """Share of responses whose result equals a reference's as mathematics; see `math_equal`.

    An answer that says nothing, or nothing that can be read, is wrong.
    """

    def __post_init__(self) -> None:
        if importlib.util.find_spec("math_verify") is None:
            raise UserError("math-verify is not installed", hint="pip install 'ratchet-eval[math]'")

    @property
    def spec(self) -> MetricSpec:
        return MetricSpec("math_equal", "higher")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(with_references_that_speak(items), _value, silent=silent_as(0.0))


def _value(sample: Sample, response: Response) -> Outcome:
    if not sample.references:
        return Evidence.unscored(None, "the sample has no reference")
    return math_equal(response.text, sample.references)
