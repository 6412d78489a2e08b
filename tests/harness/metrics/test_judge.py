"""A model as judge: both orders, verdicts that can't be read, and what people say of it."""

from __future__ import annotations

import pytest

from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from harness.core.types import ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.judge import agreement, judge, parse_verdict
from tests.harness.metrics.item_builders import item
from tests.openai_server import serving

pytestmark = pytest.mark.usefixtures("no_workspace")


def says(rule):
    """A judge that applies `rule(first answer, second answer)` to what stands in the prompt."""

    def answer(prompt, _):
        if "Answer A:" not in prompt:
            return "hello"  # to whoever asks first whether anybody is there
        case = prompt[prompt.rindex("Answer A:") :]
        first, second = case.removeprefix("Answer A:").split("Answer B:")
        return rule(first.strip().split("\n")[0], second.strip().split("\n")[0])

    return ScriptedBackend(answer)


def test_a_judge_is_asked_in_both_orders():
    longer = says(lambda a, b: "so [[A]]" if len(a) > len(b) else "[[B]]")
    found = judge(["q", "q"], ["a longer one", "x"], ["short", "the long"], backend=longer)
    assert [one.choice for one in found] == ["left", "right"]
    assert all(one.consistent and one.tokens > 0 for one in found)
    assert longer.calls == 4


def test_a_judge_that_prefers_a_place_gives_ties():
    (found,) = judge(["q"], ["a"], ["b"], backend=says(lambda a, b: "[[A]]"))
    assert (found.choice, found.consistent) == ("tie", False)


@pytest.mark.parametrize(
    "reply", ["", "A", "[[A]] and [[B]]", "[[A]] is better", "[[a]]", "[[C]]", "[[A]][[A]]"]
)
def test_a_verdict_that_cannot_be_read_is_none(reply):
    assert parse_verdict(reply) is None
    (found,) = judge(["q"], ["a"], ["b"], backend=says(lambda a, b: reply))
    assert found.choice is None
    assert "no verdict" in found.problem


def test_verdicts_by_side():
    assert parse_verdict("Because.\n[[A]]\n") == "left"
    assert parse_verdict("Final verdict: **[[A]]**.\n") == "left"
    assert parse_verdict("`[[B]]`") == "right"
    assert parse_verdict("[[A]]", swapped=True) == "right"
    assert parse_verdict("[[TIE]]", swapped=True) == "tie"


PAIR = '{"question": "q", "left": "a longer one", "right": "b", "choice": "left"}'


def judged_by(monkeypatch, backend, **options):
    """The metric with this backend in the place of the folder's model."""
    from harness.metrics import judge as module

    monkeypatch.setattr(module, "open_judge", lambda model: backend)
    return get_metric("judge", {"model": "some/judge", **options})


def test_a_judges_cost_is_kept_also_where_it_said_nothing(monkeypatch):
    silent = judged_by(monkeypatch, says(lambda a, b: "no idea"), price=2.0)
    (evidence,) = silent.score([item("x", references=["y"])])[0]
    assert evidence.outcome is ScoreOutcome.ERROR
    tokens, consistent, cost = evidence.stats
    assert (tokens > 0, consistent) == (True, 0.0)
    assert cost == pytest.approx(tokens * 2e-6)


def test_a_judge_is_compared_with_people(monkeypatch, tmp_path):
    file = tmp_path / "people.jsonl"
    other = PAIR.replace('"left"}', '"right"}').replace("a longer one", "a long answer")
    file.write_text("\n".join([PAIR, other, PAIR.replace('"q"', '"r"')]))
    longer = says(lambda a, b: "so [[A]]" if len(a) > len(b) else "[[B]]")
    metric = judged_by(monkeypatch, longer, humans=str(file))
    assert "|humans:" in metric.spec.signature
    (evidence,) = metric.score([item("long enough", references=["short"])])[0]
    assert evidence.value == 1.0
    pairs, share, chance = evidence.stats[3:]
    assert (pairs, share, chance) == (3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert metric.agreement().kappa == pytest.approx(0.0)


def test_a_judge_may_sit_behind_a_server(tmp_path, monkeypatch):
    """`openai:URL#MODEL`, as a user names it, says what the same model says here."""
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path))
    longer = says(lambda a, b: "so [[A]]" if len(a) > len(b) else "[[B]]")
    items = [item("a longer one", references=["short"]), item("x", references=["the longer"])]
    with serving(longer, context=8192) as server:
        served = get_metric("judge", {"model": f"openai:{server.url}#tiny", "price": 2.0})
        there = [evidence for (evidence,) in served.score(items)]
    here = [e for (e,) in judged_by(monkeypatch, longer, price=2.0).score(items)]
    assert [evidence.value for evidence in there] == [1.0, 0.0]
    assert [evidence.value for evidence in there] == [evidence.value for evidence in here]
    assert all(evidence.stats[2] > 0 for evidence in there)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (PAIR.replace("left", "links"), "no 'left'"),
        (PAIR.replace('"left"}', '"best"}'), "is not a choice"),
        (None, "no such file"),
    ],
)
def test_a_file_of_human_verdicts_is_checked_first(tmp_path, row, message):
    file = tmp_path / "people.jsonl"
    if row is not None:
        file.write_text(row)
    with pytest.raises(UserError, match=message):
        get_metric("judge", {"model": "some/judge", "humans": str(file)})


def test_agreement_with_humans():
    from sklearn.metrics import cohen_kappa_score

    judged = ["left", "right", "tie", "left", None, "right", "left"]
    human = ["left", "left", "tie", "left", "left", "right", None]
    found = agreement(judged, human)
    assert (found.pairs, found.share) == (5, pytest.approx(0.8))
    pairs = [(j, h) for j, h in zip(judged, human, strict=True) if j and h]
    assert found.kappa == pytest.approx(cohen_kappa_score(*zip(*pairs, strict=True)))
    assert agreement(["tie"], ["tie"]).kappa is None
    with pytest.raises(UserError, match="in common"):
        agreement([None], ["tie"])
