"""A conversation is played turn by turn: each answer is in the next question, and is judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backends.base import Candidate
from harness.backends.openers import Hardware
from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.evaluation.conversations import longest_requests
from harness.evaluation.open_model import open_model
from harness.evaluation.plan import Scoring
from harness.evaluation.runner import RunReport, missing_answers, score
from harness.metrics.support.turns import apart
from harness.metrics.turns import turn_is_right
from harness.store import runs
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import write_jsonl
from tests.tiny import save_tiny_llama

TOOL = {"name": "seats", "parameters": {"properties": {"train": {"type": "string"}}}}
NAMES = [{"user": "I am Ana.", "expect": {"contains": "Ana"}}, {"user": "Who am I?"}]
ASKED = {"user": "Seats?", "expect": {"calls": [{"name": "seats", "arguments": {"train": "7"}}]}}
ROWS: list[dict[str, Any]] = [
    {"id": "name", "turns": [NAMES[0], {**NAMES[1], "expect": {"contains": "Ana", "lacks": "?"}}]},
    {"id": "seats", "turns": [ASKED, {"tool": "12 left", "expect": {"contains": "12"}}]},
    {"id": "short", "turns": [{"user": "Only this.", "expect": {"regex": "(?i)^fine"}}]},
]
CALL = '<tool_call>{"name": "seats", "arguments": {"train": "7"}}</tool_call>'


def suite_of(folder: Path, rows: Any = ROWS, prompt: Any = None, **task: Any) -> Suite:
    asked = prompt or {"system": "Be brief.", "turns": "{{ turns }}", "tools": "{{ tools }}"}
    rows = [{"tools": [TOOL], **row} for row in rows]
    write_jsonl(folder / "rows.jsonl", rows)
    whole = {"data": "rows.jsonl", "prompt": asked, "metrics": ["turns_right"], **task}
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "tasks": {"t": whole}}, allow_unicode=True))
    return load_suite(path)


def said(prompt: str, _: int = 0) -> str:
    """A model that reads all of the conversation."""
    if "tool: 12 left" in prompt:
        return "There are 12 left."
    if "Seats?" in prompt:
        return CALL
    if "Who am I?" in prompt:
        return "You are Ana." if "assistant: Hello Ana.\n" in prompt else "Who knows."
    return "Hello Ana." if "I am Ana." in prompt else "<think>Hm.</think>Fine."


def scored(
    suite: Suite, store: Store, answers: Callable[[str, int], str] = said, **settings: Any
) -> tuple[RunReport, ScriptedBackend]:
    backend = ScriptedBackend(answers, **settings)
    candidate = Candidate("m", "digest", backend.subject, lambda: backend)
    return score(candidate, suite, store), backend


def found(store: Store, report: RunReport) -> dict[str, Any]:
    scores = runs.load_scores(store, report.run.id)
    return {one.sample_id: (one.value, one.reason) for one in scores}


def test_each_answer_is_part_of_the_next_question_and_is_judged(
    tmp_path: Path, store: Store
) -> None:
    report, backend = scored(suite_of(tmp_path), store)
    assert found(store, report) == dict.fromkeys(("name", "seats", "short"), (1.0, None))
    assert backend.calls == 5
    answers = {one.sample_id: one.text for one in runs.run_responses(store, report.run.id)}
    assert apart(answers["name"]) == ["Hello Ana.", "You are Ana."]
    assert apart(answers["seats"]) == [CALL, "There are 12 left."]


def test_what_was_played_is_not_played_again_unless_a_turn_is_another(
    tmp_path: Path, store: Store
) -> None:
    scored(suite_of(tmp_path), store)
    again, backend = scored(suite_of(tmp_path), store)
    assert (again.fresh, again.reused, backend.calls) == (0, 3, 0)
    other = [{**ROWS[0], "turns": [NAMES[0], {"user": "Who am I now?"}]}, *ROWS[1:]]
    changed, backend = scored(suite_of(tmp_path, other), store)
    assert (changed.generated, backend.calls) == (1, 2)
    assert changed.run.id != again.run.id


def test_a_wrong_turn_is_named_and_each_may_count(tmp_path: Path, store: Store) -> None:
    def forgetful(prompt: str, _: int) -> str:
        return "Who knows?" if "Who am I?" in prompt else said(prompt)

    report, _ = scored(suite_of(tmp_path), store, forgetful)
    assert found(store, report)["name"] == (0.0, "note: turn 2 is wrong")
    each = suite_of(tmp_path, metrics=[{"turns_right": {"count": "each"}}])
    report, _ = scored(each, store, forgetful)
    assert found(store, report)["name"] == (0.5, "note: turn 2 is wrong")


def test_thoughts_are_not_said_again(tmp_path: Path, store: Store) -> None:
    asked: list[str] = []

    def thinks(prompt: str, _: int) -> str:
        asked.append(prompt)
        return "<think>Ana, then.</think>Hello Ana."

    scored(suite_of(tmp_path, ROWS[:1]), store, thinks)
    assert "Ana, then" not in asked[1]
    assert "assistant: Hello Ana.\nuser: Who am I?\nassistant: " in asked[1]


def test_a_turn_that_fails_ends_its_conversation_as_an_error(tmp_path: Path, store: Store) -> None:
    def breaks(prompt: str, _: int) -> str:
        if "Who am I?" in prompt:
            raise RuntimeError("the server is gone")
        return said(prompt)

    report, _ = scored(suite_of(tmp_path), store, breaks)
    assert report.failed == 1
    assert found(store, report)["name"] == (None, "turn 2: the server is gone")
    assert found(store, report)["seats"][0] == 1.0


def test_answers_are_drawn_apart(tmp_path: Path, store: Store) -> None:
    drawn = {"responses": 3, "temperature": 1.0}
    suite = suite_of(tmp_path, ROWS[:1], generate=drawn)
    report, _ = scored(suite, store, lambda prompt, seed: f"{seed} Ana.")
    texts = {one.text for one in runs.run_responses(store, report.run.id)}
    assert len(texts) == 3
    assert all(len(apart(text)) == 2 for text in texts)


def test_what_is_asked_at_most_is_counted_before(tmp_path: Path, store: Store) -> None:
    suite, asked = suite_of(tmp_path), list[int]()

    def notes(prompt: str, _: int) -> str:
        asked.append(len(prompt.encode()))
        return said(prompt)

    _, backend = scored(suite, store, notes)
    candidate = Candidate("m", "digest", backend.subject, lambda: backend)
    scoring = Scoring(candidate, suite)
    most = [len(one.prompt_ids) for one in longest_requests(backend, list(scoring.answers()))]
    assert len(most) == len(asked) == 5
    assert all(one >= other for one, other in zip(sorted(most), sorted(asked), strict=True))
    with Store(Workspace.at(tmp_path / "other").ensure()) as empty:
        ((_, _, tokens),) = missing_answers(scoring, empty).values()
    assert tokens == 5 * 128


def test_a_real_model_plays_too(tmp_path: Path, store: Store, workspace: Any) -> None:
    folder = save_tiny_llama(tmp_path / "model")
    rows = [{"id": str(n), "turns": [{"user": f"{n}?"}] * n} for n in (1, 2, 3)]
    suite = suite_of(
        tmp_path, rows, {"turns": "{{ turns }}"}, generate={"max_new_tokens": 4}, metrics=["length"]
    )
    model = open_model(str(folder), workspace, store, hardware=Hardware("cpu", "float32"))
    report = score(model, suite, store)
    assert (report.generated, report.failed) == (3, 0)
    texts = {one.sample_id: one.text for one in runs.run_responses(store, report.run.id)}
    assert [len(apart(texts[str(n)])) for n in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("answer", "expect", "right"),
    [
        ("It is 18.", {"contains": "18"}, True),
        ("It is 180.", {"contains": "18"}, False),
        ("It is eighteen.", {"contains": ["18", "eighteen"]}, True),
        ("No idea, 18?", {"contains": "18", "lacks": ["idea", "clue"]}, False),
        ("是十八。", {"contains": "十八", "regex": "。$"}, True),
        (CALL, {"calls": [{"name": "seats", "arguments": {"train": "7"}}]}, True),
        (CALL, {"calls": []}, False),
        ("None is needed.", {"calls": []}, True),
        ("", {"lacks": "x"}, False),
        ("<think>18</think>Hm.", {"contains": "18"}, False),
    ],
)
def test_the_rules_of_a_turn(answer: str, expect: dict[str, Any], right: bool) -> None:
    assert turn_is_right(answer, expect) is right


@pytest.mark.parametrize("expect", [{"has": "x"}, {"regex": "("}, {"calls": "seats"}, "x"])
def test_a_rule_that_cant_be_read_is_said(tmp_path: Path, store: Store, expect: Any) -> None:
    rows = [{"id": "1", "turns": [{"user": "Hi.", "expect": expect}]}]
    report, _ = scored(suite_of(tmp_path, rows), store)
    value, reason = found(store, report)["1"]
    assert (value, "can't be read" in reason) == (None, True)


@pytest.mark.parametrize(
    ("rows", "task", "what"),
    [
        ([{"id": "1", "turns": []}], {}, "there are no turns"),
        ([{"id": "1", "turns": [{"say": "x"}]}], {}, "turn 1 says nothing"),
        ([{"id": "1"}], {}, "turns"),
        (ROWS, {"prompt": {"user": "x", "turns": "{{ turns }}"}}, "either a `user` text"),
        (ROWS, {"prompt": {"turns": "{{ turns }}", "prefill": "x"}}, "without `shots`"),
        (ROWS, {"answer": {"boxed": True}}, "`turns` have several"),
        (ROWS, {"reference": "x", "metrics": ["reference_nll"]}, "`turns` have several"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(
    tmp_path: Path, rows: Any, task: dict[str, Any], what: str
) -> None:
    with pytest.raises(UserError, match=what):
        suite_of(tmp_path, rows, **task)
