"""A model that grades: strict parsing, unscored nonsense, the scale, cost and agreement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.rubric import grade, parse_points
from tests.harness.metrics.item_builders import item
from tests.harness.suite_builders import write_jsonl
from tests.openai_server import serving

pytestmark = pytest.mark.usefixtures("no_workspace")


@pytest.mark.parametrize(
    ("reply", "points"),
    [
        ("Clear and right. [[5]]", 5.0),
        ("好的。[[4]]。", 4.0),
        ("**[[3.5]]**", 3.5),
        ("<think>[[1]] or [[2]]?</think>[[2]]", 2.0),
        ("[[ 4 ]]", 4.0),
        *((text, None) for text in ("", "5", "[[6]]", "[[0]]", "[[5/5]]", "[[five]]", "[[5]] so")),
        *((text, None) for text in ("[[3]] [[4]]", "[[nan]]", "[[1e0]]", "<think>[[5]]", "[5]")),
    ],
)
def test_points_are_read_strictly(reply: str, points: float | None) -> None:
    assert parse_points(reply, 1, 5) == points


def test_each_answer_is_graded_once_beside_its_reference() -> None:
    asked: list[str] = []

    def judge(prompt: str, _: int) -> str:
        asked.append(prompt)
        return "[[5]]" if "Answer:\n北京" in prompt else "no idea"

    backend = ScriptedBackend(judge)
    found = grade(["首都?", "q"], ["北京", "b"], backend=backend, references=["北京市", None])
    assert [(one.points, one.problem is None) for one in found] == [(5.0, True), (None, False)]
    assert "for comparison:\n北京市" in asked[0]
    assert "for comparison" not in asked[1]
    assert all(one.tokens > 0 for one in found)
    with pytest.raises(UserError, match="2 questions, 1 answers"):
        grade(["a", "b"], ["a"], backend=backend)


def served(rule: Any) -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, _: rule(prompt.rpartition("Answer:\n")[2]))


def test_a_served_judge_grades_and_says_what_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path))
    humans = write_jsonl(
        tmp_path / "humans.jsonl",
        [
            {"question": "q", "answer": "good", "points": 5},
            {"question": "q", "answer": "bad", "points": 2},
        ],
    )
    says = {"good": "[[5]]", "bad": "[[1]]"}
    judge = served(lambda said: says.get((said.split() or [""])[0], "hm"))
    with serving(judge, context=8192) as server:
        metric = get_metric(
            "rubric", {"model": f"openai:{server.url}#tiny", "price": 2.0, "humans": str(humans)}
        )
        rows = metric.score([item("good one", "bad one", "odd one", "")])
    good, bad, odd, silent = rows[0]
    assert [one.value for one in rows[0]] == [5.0, 1.0, None, 1.0]
    assert odd.outcome is ScoreOutcome.UNSCORED
    assert "no points" in str(odd.reason)
    assert good.stats[1] == pytest.approx(good.stats[0] * 2 / 1e6)
    assert good.stats[2:] == bad.stats[2:] == silent.stats[2:] == (2.0, 0.5, 0.5)
    assert (metric.spec.low, metric.spec.high, metric.spec.scale) == (1.0, 5.0, "interval")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"question": "q", "answer": "a"}, "points"),
        ({"question": "q", "answer": "a", "points": 9}, "points"),
        ({"question": "q", "answer": "a", "points": True}, "points"),
        ({"question": "q", "points": 1}, "answer"),
    ],
)
def test_a_wrong_file_of_people_is_said(tmp_path: Path, row: Any, field: str) -> None:
    path = write_jsonl(tmp_path / "humans.jsonl", [row])
    with pytest.raises(UserError) as caught:
        get_metric("rubric", {"model": "openai:http://127.0.0.1:9#m", "humans": str(path)})
    assert (caught.value.line, caught.value.field) == (1, field)


def test_a_scale_goes_up() -> None:
    with pytest.raises(UserError, match="from 5 to 5"):
        get_metric("rubric", {"model": "openai:http://127.0.0.1:9#m", "low": 5})
