"""What a suite reads of an answer, and what becomes of one of which nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.errors import UserError
from harness.core.thoughts import ends_in_thought
from harness.core.types import NOTE, Score, ScoreOutcome
from harness.evaluation.runner import RunReport, score
from harness.store.runs import load_scores, run_responses
from harness.store.store import Store
from harness.suite.answers import CUT, AnswerModel
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import scripted, write_jsonl


@pytest.mark.parametrize(
    ("filters", "text", "read"),
    [
        ({"last_number": True}, "12 apples and 3 pears make 15.", "15"),
        ({"last_number": True}, "#### 1,234", "1234"),
        ({"last_number": True}, "between -3 and -0.5", "-0.5"),
        ({"last_number": True}, "5-3", "3"),
        ({"last_number": True}, "答案是３。", "3"),
        ({"last_number": True}, "答案是-5，不是7元里的-6", "-6"),
        ({"last_number": True}, "结果为-1,234.50元", "-1234.50"),
        ({"last_number": True}, "x=-3", "-3"),
        ({"last_number": True}, "f(2)-3", "3"),
        ({"last_number": True}, "It is 3/4", "3/4"),
        ({"last_number": True}, "about 2.5e-3 m", "2.5e-3"),
        ({"last_number": True}, "costs $18.00.", "18.00"),
        ({"last_number": True}, "is \u22127", "-7"),
        ({"last_number": True}, "1, 2, 3", "3"),
        ({"last_number": True}, "no number", None),
        ({"boxed": True}, r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        ({"boxed": True}, r"\boxed{1} no, \boxed{2}", "2"),
        ({"boxed": True}, r"\boxed{\{1,2\}}", r"\{1,2\}"),
        ({"boxed": True}, r"\boxed{1} and \boxed{2", "1"),
        ({"boxed": True}, "17", None),
        ({"regex": r"(?i)answer is \(?([A-D])"}, "The answer is (B).", "B"),
        ({"regex": r"[A-D]", "match": "last"}, "A or B? C.", "C"),
        ({"regex": r"(\w)(\d)", "group": 2}, "a1", "1"),
        ({"regex": r"(?P<x>\d)b", "group": "x"}, "7b", "7"),
        ({"regex": r"\d(x)?"}, "7", None),
        ({"code_fence": "json"}, 'Sure:\n```json\n{"a": 1}\n```\nDone.', '{"a": 1}'),
        ({"code_fence": "json"}, '```python\nx\n```\n```\n{"a": 2}\n```', '{"a": 2}'),
        ({"code_fence": "json"}, '{"a": 3}', '{"a": 3}'),
        ({"code_fence": "json"}, "```python\nx = 1\n```", None),
        ({"first_line": True}, "\n\n 北京 \nbecause", "北京"),
        ({"strip": True}, " x \n", "x"),
        ({"after": "####"}, "1 + 1 #### 2", " 2"),
        ({"after": "####", "strip": True}, "1 + 1 #### 2", "2"),
        ({"after": "####"}, "2", None),
        ({"after": "</think>"}, "<think>3</think>\n4", "\n4"),
        ({"after": "</think>"}, "nothing was thought: 4", "nothing was thought: 4"),
        ({"last_number": True}, "<think>7</think>8 <think>9</think>", "8"),
        ({"boxed": True, "last_number": True}, r"\boxed{x = 3} in 2024", "3"),
    ],
)
def test_filters(filters: dict[str, Any], text: str, read: str | None) -> None:
    found = AnswerModel(**filters).read(text)
    assert (found.text, found.problem is None) == (read or "", read is not None)
    assert found.problem != CUT


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("<think>and so", True),
        ("<think>a</think>b", False),
        ("<think>a</think>", False),
        ("b", False),
        ("", False),
        ("a</think>b<think>c", False),
        ("<think>a <think> b</think> c", False),
        ("<|channel|>analysis<|message|>we need", True),
        (
            "<|channel|>analysis<|message|>we<|end|><|start|>assistant<|channel|>final<|message|>1",
            0,
        ),
        ("analysisWe need to", True),
        ("the analysis says so", False),
        ("[THINK]hm", True),
        ("the tag `<think>` opens a thought", False),
    ],
)
def test_a_thought_that_never_ends_is_known(text: str, cut: bool) -> None:
    assert ends_in_thought(text) is bool(cut)


ROWS = [{"id": str(n), "q": f"{n}+{n}?", "a": str(2 * n)} for n in range(1, 5)]
SAYS = {
    "1+1": "<think>1 and 1</think>It makes \\boxed{2}",
    "2+2": "<think>2 and 2 and 2 and",
    "3+3": "<think>easy</think>Six",
    "4+4": "<think></think>\\boxed{9}",
}


def suite_of(folder: Path, answer: Any = None, **task: Any) -> Suite:
    write_jsonl(folder / "rows.jsonl", ROWS)
    whole = {
        **{"data": "rows.jsonl", "prompt": {"user": "{{ q }}"}, "reference": "{{ a }}"},
        **{"metrics": ["exact_match"], **({} if answer is None else {"answer": answer})},
    }
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "tasks": {"t": {**whole, **task}}}))
    return load_suite(path)


def scored(store: Store, suite: Suite, says: Any = SAYS) -> tuple[dict[str, Score], RunReport]:
    report = score(scripted(says)[0], suite, store)
    return {one.sample_id: one for one in load_scores(store, report.run.id)}, report


def test_a_reasoning_answer_is_read_and_kept_whole(tmp_path: Path, store: Store) -> None:
    scores, report = scored(store, suite_of(tmp_path, {"boxed": True}))
    assert [scores[id_].value for id_ in "1234"] == [1.0, 0.0, 0.0, 0.0]
    assert scores["2"].reason == f"{NOTE}{CUT}, which counts as the worst value"
    assert "`boxed` finds nothing" in str(scores["3"].reason)
    assert scores["4"].reason is None
    texts = {answer.sample_id: answer.text for answer in run_responses(store, report.run.id)}
    assert texts["1"] == SAYS["1+1"]


def test_a_cut_thought_is_said_without_any_filter(tmp_path: Path, store: Store) -> None:
    scores, _ = scored(store, suite_of(tmp_path, metrics=["exact_match"]))
    assert scores["2"].reason == f"{NOTE}{CUT}, which counts as the worst value"
    assert scores["2"].value == 0.0


def test_a_cut_thought_may_be_left_out(tmp_path: Path, store: Store) -> None:
    suite = suite_of(tmp_path, {"boxed": True, "cut": "unscored"})
    scores, _ = scored(store, suite)
    assert (scores["2"].outcome, scores["2"].reason) == (ScoreOutcome.UNSCORED, CUT)
    assert scores["3"].value == 0.0
    assert suite.task("t").protocol["answer"] == {"boxed": True, "cut": "unscored"}


def test_more_cut_thoughts_than_a_suite_allows_end_the_scoring(
    tmp_path: Path, store: Store
) -> None:
    with pytest.raises(UserError, match=r"1 of 4 answers \(25%\)") as caught:
        scored(store, suite_of(tmp_path, {"cut_at_most": 0.2}))
    assert caught.value.field == "tasks.t.answer.cut_at_most"
    assert "sample '2'" in caught.value.what
    assert "max_new_tokens (now 128)" in str(caught.value.hint)
    scores, _ = scored(store, suite_of(tmp_path, {"cut_at_most": 0.25}))
    assert len(scores) == 4


def test_the_length_of_thought_is_a_metric(tmp_path: Path, store: Store) -> None:
    thought = {"of": "thoughts", "unit": "characters"}
    scores, _ = scored(store, suite_of(tmp_path, {"boxed": True}, metrics=[{"length": thought}]))
    marks = len("<think></think>")
    assert [scores[id_].value for id_ in "13"] == [len("1 and 1") + marks, len("easy") + marks]
    assert scores["2"].value == len(SAYS["2+2"])


def test_a_filter_that_never_matches_is_said_with_the_share(tmp_path: Path, store: Store) -> None:
    suite = suite_of(tmp_path, {"regex": "#### (.*)"})
    _, report = scored(store, suite)
    (said,) = report.complaints
    assert said.startswith("task t: `regex` finds nothing in any of 3 answers (100%) (1 more")
    assert "sample 1 was answered" in said
    assert not scored(store, suite_of(tmp_path, {"boxed": True}))[1].complaints


def test_filters_are_part_of_the_protocol_and_of_no_answer(tmp_path: Path, store: Store) -> None:
    plain = suite_of(tmp_path)
    assert "answer" not in plain.task("t").protocol
    candidate, backend = scripted(SAYS)
    score(candidate, plain, store)
    filtered = suite_of(tmp_path, {"boxed": True})
    assert filtered.digest != plain.digest
    assert score(candidate, filtered, store).fresh == 0
    assert backend.calls == 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({"regexp": "x"}, "unknown key 'regexp'"),
        ({"regex": "("}, "regular expression is wrong"),
        ({"regex": "x", "group": 1}, "no group 1"),
        ({"group": 1}, "belong to a `regex`"),
        ({"cut_at_most": 2}, "less than"),
        ({"after": ""}, "at least 1"),
        ("boxed", "keys and values"),
    ],
)
def test_a_wrong_filter_is_said(tmp_path: Path, answer: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        suite_of(tmp_path, answer)
    assert says in caught.value.what
    assert caught.value.line


def test_a_given_text_has_no_answer(tmp_path: Path) -> None:
    task = {"prompt": None, "reference": None, "text": "{{ q }}", "metrics": ["perplexity"]}
    with pytest.raises(UserError, match="a `text` has none"):
        suite_of(tmp_path, {"strip": True}, **task)
