"""What was found: a ranking of passages against those that are relevant."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import silent_as

Grades = Mapping[str, float]
"""How relevant each passage is, by its id: 0 is not at all."""

_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\d{1,3}[.)、]\s*)?")
_AROUND = " \t\r\n\"'`\u201c\u201d\u2018\u2019[]()<>\u3010\u3011,;\uff0c\uff1b\u3002"


def hit_at_k(ranking: Sequence[str], relevant: Grades, k: int = 10) -> float:
    """1.0 where one of the first `k` is relevant, else 0.0 (trec_eval's `success`)."""
    return float(any(relevant.get(one, 0) > 0 for one in ranking[:k]))


def mrr(ranking: Sequence[str], relevant: Grades, k: int | None = None) -> float:
    """One over the place of the first that is relevant, among the first `k`; 0.0 where none is
    (trec_eval's `recip_rank`).
    """
    places = (place for place, one in enumerate(ranking[:k], 1) if relevant.get(one, 0) > 0)
    first = next(places, None)
    return 0.0 if first is None else 1.0 / first


def ndcg(ranking: Sequence[str], relevant: Grades, k: int | None = 10) -> float:
    """The gain of the first `k`, each by its grade over log2(place + 1), as a share of the best
    there could be: 0 to 1 (trec_eval's `ndcg_cut`, and `ndcg` without `k`).
    """
    best = _gain(sorted((grade for grade in relevant.values() if grade > 0), reverse=True)[:k])
    found = _gain([max(0.0, relevant.get(one, 0.0)) for one in ranking[:k]])
    return found / best if best > 0 else 0.0


def _gain(grades: Sequence[float]) -> float:
    return math.fsum(grade / math.log2(place + 1) for place, grade in enumerate(grades, 1))


def ranking_in(answer: str) -> list[str]:
    """The ids of an answer in their order, each once: of a JSON list (or an object's only list),
    else one a line (bullets and numbers before it left out), else of one line between commas.
    """
    text = answer.strip()
    fence = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?```", text, re.DOTALL)
    listed = _json_list(fence[1] if fence else text)
    if listed is None:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) == 1:
            lines = re.split(r"[,;\uff0c\uff1b\u3001]", lines[0])
        listed = [_BULLET.sub("", line, count=1) for line in lines]
    ids = (str(one).strip(_AROUND) for one in listed)
    return list(dict.fromkeys(one for one in ids if one))


def _json_list(text: str) -> list[Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict):
        lists = [one for one in value.values() if isinstance(one, list)]
        value = lists[0] if len(lists) == 1 else None
    if not isinstance(value, list):
        return None
    return [one.get("id", "") if isinstance(one, dict) else one for one in value]


def _listed(value: Any) -> list[str] | None:
    """The ids of a row's field: a list of them, or of objects with an `id`."""
    if not isinstance(value, list | tuple):
        return None
    ids = [one.get("id") if isinstance(one, Mapping) else one for one in value]
    known = all(isinstance(one, str | int) for one in ids)
    return list(dict.fromkeys(map(str, ids))) if known else None


def grades_of(value: Any) -> dict[str, float] | None:
    """What a row says is relevant: a list of ids, one id, or ids with their grades. None for what
    is neither.
    """
    if isinstance(value, Mapping):
        # A row of Parquet has every id that any row has, with null for what isn't its own.
        known = {str(key): grade for key, grade in value.items() if grade is not None}
        whole = all(isinstance(grade, int | float) for grade in known.values())
        return {key: float(grade) for key, grade in known.items()} if whole else None
    if isinstance(value, str | int):
        return {str(value): 1.0}
    if isinstance(value, list | tuple) and all(isinstance(one, str | int) for one in value):
        return dict.fromkeys(map(str, value), 1.0)
    return None


def relevant_to(sample: Sample, field: str) -> Grades | Evidence:
    """What is relevant to a sample, or why that isn't known."""
    if field not in sample.fields:
        return Evidence.unscored(None, f"the row has no field {field!r}")
    grades = grades_of(sample.fields[field])
    if grades is None:
        return Evidence.unscored(None, f"the field {field!r} holds no ids")
    if not any(grade > 0 for grade in grades.values()):
        return Evidence.unscored(None, "nothing is relevant to this sample")
    return grades


@dataclass(frozen=True, slots=True)
class _Ranked:
    """What the three share: the row's field with the relevant ids, how many places count, and the
    field with the ranking where it isn't the answer that ranks (what `retrieve` found: `contexts`).
    """

    k: int | None = 10
    field: str = "relevant"
    ranking: str | None = None

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise UserError(f"k is at least 1, not {self.k}", field="k")

    def _spec(self, name: str) -> MetricSpec:
        options = (("k", str(self.k or "all")), ("field", self.field))
        if self.ranking is None:
            return MetricSpec(name, "higher", options=options, reads=(self.field,))
        ranked = (*options, ("ranking", self.ranking))
        return MetricSpec(name, "higher", options=ranked, reads=(self.field, self.ranking))

    def _score(
        self, items: Sequence[MetricItem], value: Callable[[Sequence[str], Grades], float]
    ) -> list[list[Evidence]]:
        def of(sample: Sample, response: Response) -> Outcome:
            grades = relevant_to(sample, self.field)
            if isinstance(grades, Evidence):
                return grades
            if self.ranking is None:
                ranking = ranking_in(response.text)
                return value(ranking, grades) if response.text else silent_as(0.0)
            ids = _listed(sample.fields.get(self.ranking))
            if ids is None:
                reason = f"the row has no ranking in the field {self.ranking!r}"
                return Evidence.unscored(None, reason)
            return value(ids, grades)

        return score_each(items, of)


class HitAtK(_Ranked):
    """Share of answers with a relevant passage among their first `k`; see `hit_at_k`."""

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("hit_at_k")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return self._score(items, lambda found, grades: hit_at_k(found, grades, self.k or 10**9))


class Mrr(_Ranked):
    """Mean reciprocal rank of the first relevant passage; see `mrr`."""

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("mrr")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return self._score(items, lambda found, grades: mrr(found, grades, self.k))


class Ndcg(_Ranked):
    """Mean normalised discounted cumulative gain of the first `k`; see `ndcg`."""

    __slots__ = ()

    @property
    def spec(self) -> MetricSpec:
        return self._spec("ndcg")

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return self._score(items, lambda found, grades: ndcg(found, grades, self.k))
