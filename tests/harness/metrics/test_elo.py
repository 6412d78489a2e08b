"""The judges of the metric elo: both orders alike, silence, languages, bad options."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.types import Sample
from harness.metrics import get_metric
from harness.metrics.elo import AnswerPair, Elo

MIRRORED = {"left": "right", "right": "left", "tie": "tie", None: None}
QUESTION = ({"role": "user", "content": "Where is the station?"},)


def sample(reference: str = "The station is behind the old church.") -> Sample:
    return Sample("1", "t", prompt=QUESTION, references=(reference,))


@settings(max_examples=40, deadline=None)
@given(left=st.text(max_size=40), right=st.text(max_size=40))
def test_the_other_order_gives_the_mirrored_choice(left: str, right: str) -> None:
    elo = Elo("reference_overlap")
    there, back = elo.prefer([AnswerPair(sample(), left, right), AnswerPair(sample(), right, left)])
    assert there.choice == MIRRORED[back.choice]
    assert elo.prefer([AnswerPair(sample(), left, left)])[0].choice == "tie"


def test_what_is_nearer_to_the_reference_wins() -> None:
    near, far = "The station is behind the church.", "I like green apples and long walks."
    for judge in ("reference_similarity", "reference_overlap"):
        pairs = [AnswerPair(sample(), near, far), AnswerPair(sample(), far, near)]
        assert [one.choice for one in Elo(judge).prefer(pairs)] == ["left", "right"]


def test_silence_has_lost_and_two_silences_are_a_tie() -> None:
    pairs = [AnswerPair(sample(), "", "x y"), AnswerPair(sample(), " ", "\n")]
    assert [one.choice for one in Elo("reference_overlap").prefer(pairs)] == ["right", "tie"]


def test_another_language_than_the_references_is_no_way_out() -> None:
    chinese = sample("车站在老教堂的后面，走路只要五分钟。")
    (unread,) = Elo().prefer([AnswerPair(chinese, "车站", "教堂后面")])
    assert (unread.choice, unread.passed) == (None, True)
    assert (
        Elo("reference_overlap").prefer([AnswerPair(chinese, "苹果", "车站在教堂的后面")])[0].choice
        == "right"
    )
    escape = AnswerPair(sample(), "The station is behind the church.", "车站在老教堂的后面。")
    assert Elo().prefer([escape])[0].choice == "left"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge": "./nowhere"}, "no model folder"),
        ({"reward": "./nowhere"}, "no model folder"),
        ({"judge": "reference_overlap", "reward": "x/y"}, "one judge"),
        ({"earlier": -1}, "below 0"),
        ({"opponent": "x"}, "no option"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        get_metric("elo", options)


def test_the_signature_names_the_judge_and_not_whom_else_one_meets() -> None:
    assert Elo().spec.signature == "elo|v:1|judge:reference_similarity"
    assert Elo(earlier=0).spec.signature == Elo().spec.signature
    assert Elo("a/b").spec.signature != Elo("a/b", rubric="be brief").spec.signature
