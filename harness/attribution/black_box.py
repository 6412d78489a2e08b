"""SHAP and LIME: what each word adds to a score, by those of texts without some words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.attribution.occlusion import words_of
from harness.attribution.picture import picture
from harness.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

Score = Callable[[Sequence[str]], Sequence[float]]
"""Texts to one number each."""

ORDERS = 25
"""Orders in which words are put back one after the other, for Shapley's values."""
TEXTS = 300
"""Texts with words left out at random, to which LIME fits a line."""
AT_ONCE = 16
MOST_WORDS = 100


@dataclass(frozen=True, slots=True)
class WordScores:
    """What each of `words` adds to the score `whole` of a text, which is `empty` without any:
    Shapley's values, which sum up to whole − empty, and LIME's slopes; in the score's unit.
    """

    words: tuple[str, ...]
    whole: float
    empty: float
    shapley: tuple[float, ...]
    lime: tuple[float, ...]

    def pictures(self, about: str, unit: str) -> dict[str, str]:
        """File name -> SVG, one for each method."""
        moved = f"{self.empty:+.2f} without its words, {self.whole:+.2f} with them"
        return {
            "shap.svg": picture(
                f"SHAP · {about}",
                list(zip(self.words, self.shapley, strict=True)),
                [f"The score is {moved}; what the words add sums up to the difference."],
                unit=unit,
            ),
            "lime.svg": picture(
                f"LIME · {about}",
                list(zip(self.words, self.lime, strict=True)),
                [f"The score is {moved}; a line was fitted to {TEXTS} texts with words left out."],
                unit=unit,
            ),
        }


def word_scores(score: Score, text: str, *, seed: int = 0) -> WordScores:
    """By captum's ShapleyValueSampling and Lime, over the first `MOST_WORDS` words of the text; the
    random state is left as it was.

    Raises UserError where captum isn't installed, or the text has no word.
    """
    import torch

    sampling, lime, linear = _captum()
    spans = words_of(text)[:MOST_WORDS]
    if not spans:
        raise UserError("the text has no word to leave out", hint="explain another sample")
    known: dict[str, float] = {}

    def values(present: Tensor) -> Tensor:
        texts = [_with(text, spans, row) for row in present.bool().tolist()]
        new = [one for one in dict.fromkeys(texts) if one not in known]
        known.update(zip(new, map(float, score(new)), strict=True) if new else ())
        return torch.tensor([known[one] for one in texts], dtype=torch.float64)

    every = torch.ones(1, len(spans), dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        by_order = sampling(values).attribute(
            every, n_samples=ORDERS, perturbations_per_eval=AT_ONCE
        )
        slopes = lime(values, interpretable_model=linear()).attribute(
            every, n_samples=TEXTS, perturbations_per_eval=AT_ONCE
        )
    whole, empty = values(torch.cat([every, 0 * every])).tolist()
    words = tuple(text[begin:end] for begin, end in spans)
    return WordScores(
        words, whole, empty, *(tuple(each[0].tolist()) for each in (by_order, slopes))
    )


def _with(text: str, spans: Sequence[tuple[int, int]], present: Sequence[bool]) -> str:
    """The text without the words that are not present, and without the blanks that they leave."""
    found, at = [], 0
    for (begin, end), here in zip(spans, present, strict=True):
        found.append(text[at : end if here else begin])
        at = end
    rest = "".join([*found, text[at:]])
    return rest if all(present) else " ".join(rest.split())


def _captum() -> tuple[Any, Any, Any]:
    try:
        from captum._utils.models.linear_model import SkLearnLinearRegression
        from captum.attr import Lime, ShapleyValueSampling
    except ImportError as error:
        raise UserError(
            "SHAP and LIME need captum, which is not installed",
            hint="pip install 'ratchet-eval[explain]'",
        ) from error
    return ShapleyValueSampling, Lime, SkLearnLinearRegression
