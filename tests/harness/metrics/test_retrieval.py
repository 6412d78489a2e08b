"""Rankings and citations against what is relevant; the rankings equal to trec_eval's."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.base import Evidence, MetricItem
from harness.metrics.citations import citations_in
from harness.metrics.retrieval import grades_of, hit_at_k, mrr, ndcg, ranking_in
from tests.harness.metrics.item_builders import item


def test_equal_to_trec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    draw = random.Random(7)
    measures = {"success_3", "success_10", "recip_rank", "ndcg", "ndcg_cut_3", "ndcg_cut_10"}
    for _ in range(200):
        documents = [f"d{n}" for n in range(draw.randint(1, 30))]
        relevant = {d: draw.choice([0, 0, 1, 1, 2, 3]) for d in documents if draw.random() < 0.5}
        if not any(relevant.values()):
            continue
        ranking = draw.sample(documents, draw.randint(1, len(documents)))
        judged = pytrec_eval.RelevanceEvaluator({"q": relevant}, measures)
        scores = {one: float(len(ranking) - place) for place, one in enumerate(ranking)}
        theirs = judged.evaluate({"q": scores})["q"]
        grades = {one: float(grade) for one, grade in relevant.items()}
        assert hit_at_k(ranking, grades, 3) == theirs["success_3"]
        assert hit_at_k(ranking, grades) == theirs["success_10"]
        assert mrr(ranking, grades) == pytest.approx(theirs["recip_rank"], abs=1e-12)
        assert ndcg(ranking, grades, None) == pytest.approx(theirs["ndcg"], abs=1e-12)
        assert ndcg(ranking, grades, 3) == pytest.approx(theirs["ndcg_cut_3"], abs=1e-12)
        assert ndcg(ranking, grades) == pytest.approx(theirs["ndcg_cut_10"], abs=1e-12)


@pytest.mark.parametrize(
    "answer",
    [
        '["d2", "d1", "d2"]',
        '```json\n["d2", "d1"]\n```',
        '{"ids": ["d2", "d1"]}',
        '[{"id": "d2"}, {"id": "d1"}]',
        "1. d2\n2. d1",
        "- d2\n- d1\n",
        "d2, d1",
        "d2、d1。",
        "[d2]，[d1]",
    ],
)
def test_a_ranking_is_read_as_models_write_it(answer: str) -> None:
    assert ranking_in(answer) == ["d2", "d1"]


def test_ids_may_be_numbers_and_chinese() -> None:
    assert ranking_in("[3, 1]") == ["3", "1"]
    assert ranking_in("1. 退货政策\n2. 运费说明") == ["退货政策", "运费说明"]
    assert grades_of([3, 1]) == {"3": 1.0, "1": 1.0}
    assert grades_of({"a": 2, "b": None}) == {"a": 2.0}
    assert grades_of(7) == {"7": 1.0}
    assert grades_of([[1]]) is None


@pytest.mark.parametrize(
    ("answer", "cited"),
    [
        ("It rains [1]. It snows [2, 3].", ["1", "2", "3"]),
        ("See [2-4].", ["2", "3", "4"]),
        ("下雨【1】，下雪【2、3】。", ["1", "2", "3"]),
        ("So it is[^2][^2].", ["2"]),
        ("As [doc-7] says", ["doc-7"]),
        ("[so](http://example.com) and x[0]", ["0"]),
        ("no mark", []),
        ("[not an id]", []),
    ],
)
def test_citations(answer: str, cited: list[str]) -> None:
    assert citations_in(answer) == cited


def scored(name: str, text: str, relevant: Any, **options: Any) -> Evidence:
    sample = Sample("s", "t", fields={"relevant": relevant})
    response = Response("k", "s", "t", "generation", 0, 0, text)
    ((found,),) = get_metric(name, options).score([MetricItem(sample, (response,))])
    return found


@pytest.mark.parametrize(
    ("text", "relevant", "precision", "recall"),
    [
        ("a [1], b [2]", [1, 3], 0.5, 0.5),
        ("a [1][3]", {"1": 1, "3": 2, "4": 0}, 1.0, 1.0),
        ("甲【1】乙【2】", [2], 0.5, 1.0),
        ("no mark", [1], 0.0, 0.0),
        ("The passages don't say.", [], 1.0, None),
        ("It is so [2].", [], 0.0, None),
        ("", [], 0.0, None),
        ("", [1], 0.0, 0.0),
        ("<think>[1]</think> see [2]", [1], 0.0, 0.0),
    ],
)
def test_precision_and_recall_of_citations(
    text: str, relevant: Any, precision: float, recall: float | None
) -> None:
    assert scored("citation_precision", text, relevant).value == precision
    assert scored("citation_recall", text, relevant).value == recall


def test_rankings_are_scored() -> None:
    assert scored("hit_at_k", "d2\nd1", ["d1"], k=1).value == 0.0
    assert scored("hit_at_k", "d2\nd1", ["d1"]).value == 1.0
    assert scored("mrr", "d2\nd1", ["d1"]).value == 0.5
    assert scored("ndcg", '["d1"]', "d1").value == 1.0
    assert scored("mrr", "", ["d1"]).value == 0.0
    assert "nothing is said" in str(scored("mrr", "", ["d1"]).reason)
    assert scored("mrr", "", []).outcome is ScoreOutcome.UNSCORED


def test_what_isnt_known_is_unscored() -> None:
    assert scored("mrr", "d1", []).reason == "nothing is relevant to this sample"
    assert scored("mrr", "d1", [[1]]).reason == "the field 'relevant' holds no ids"
    missing = scored("ndcg", "d1", ["d1"], field="gold")
    assert (missing.outcome, missing.reason) == (
        ScoreOutcome.UNSCORED,
        "the row has no field 'gold'",
    )
    with pytest.raises(UserError, match="at least 1"):
        get_metric("mrr", {"k": 0})


def test_a_row_may_hold_the_ranking_itself() -> None:
    def found(contexts: Any, **options: Any) -> Any:
        metric = get_metric("hit_at_k", {"k": 1, "ranking": "contexts", **options})
        ((one,),) = metric.score([item("", relevant=["d1"], contexts=contexts)])
        return one

    assert found([{"id": "d1", "text": "…"}, {"id": "d2"}]).value == 1.0
    assert found(["d2", "d1"]).value == 0.0
    assert found(["d2", "d1"], k=2).value == 1.0
    assert found([]).value == 0.0
    assert found("d1").reason == "the row has no ranking in the field 'contexts'"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("I don't know.", 1.0),
        ("The passages do not explicitly mention the price [p1].", 1.0),
        ("Its weight isn’t stated anywhere.", 1.0),
        ("This cannot be determined from the text.", 1.0),
        ("There is not enough information to answer.", 1.0),
        ("文中没有提到票价。", 1.0),
        ("根据资料无法得知它的重量。", 1.0),
        ("不知道", 1.0),
        ("资料未说明设计者是谁。", 1.0),
        ("<think>I don't know.</think> It costs 5 euros.", 0.0),
        ("It costs 5 euros [p1].", 0.0),
        ("票价是五元。", 0.0),
        ("It was founded in 1950 by nobody known to be rich.", 0.0),
        ("", 0.0),
    ],
)
def test_abstentions_are_told_by_their_wording(text: str, value: float) -> None:
    assert scored("abstains", text, []).value == value
    assert scored("abstains", text, ["p1"]).outcome is ScoreOutcome.UNSCORED


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [
        ("It is 18 metres high.", "18", 1.0),
        ("It is 180 metres high.", "18", 0.0),
        ("It is 1.18 or 18.5.", "18", 0.0),
        ("8,700 buttons", "8700", 1.0),
        ("by EDITH  Callow", "Edith Callow", 1.0),
        ("一共有二十四座。", "二十四", 1.0),
        ("", "18", 0.0),
    ],
)
def test_what_an_answer_contains(answer: str, reference: str, value: float) -> None:
    ((one,),) = get_metric("contains").score([item(answer, references=["", reference])])
    assert one.value == value


def test_an_empty_reference_is_none() -> None:
    ((one,),) = get_metric("contains").score([item("so", references=["", ""])])
    assert (one.outcome, one.reason) == (ScoreOutcome.UNSCORED, "the sample has no reference")
