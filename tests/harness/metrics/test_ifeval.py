"""Instructions that a program can check, with the results of the published checker."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import UserError
from harness.core.types import Response, Sample, ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.ifeval import INSTRUCTIONS, follows, ifeval, variants

ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "keywords:existence": [{"keywords": ["tea", "cup"]}, {"keywords": ["北京"]}],
    "keywords:frequency": [
        {"keyword": "tea", "frequency": 2, "relation": "at least"},
        {"keyword": "tea", "frequency": 2, "relation": "less than"},
    ],
    "keywords:forbidden_words": [{"forbidden_words": ["tea", "milk"]}],
    "keywords:letter_frequency": [
        {"letter": "e", "let_frequency": 4, "let_relation": "at least"},
        {"letter": "e", "let_frequency": 4, "let_relation": "less than"},
    ],
    "length_constraints:number_paragraphs": [{"num_paragraphs": 2}, {"num_paragraphs": 1}],
    "length_constraints:number_words": [
        {"num_words": 5, "relation": "at least"},
        {"num_words": 5, "relation": "less than"},
    ],
    "length_constraints:nth_paragraph_first_word": [
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        {"num_paragraphs": 1, "nth_paragraph": 1, "first_word": "tea"},
    ],
    "detectable_content:number_placeholders": [{"num_placeholders": 2}],
    "detectable_content:postscript": [
        {"postscript_marker": "P.S."},
        {"postscript_marker": "P.P.S"},
    ],
    "detectable_format:number_bullet_lists": [{"num_bullets": 2}],
    "detectable_format:constrained_response": [{}],
    "detectable_format:number_highlighted_sections": [{"num_highlights": 2}],
    "detectable_format:multiple_sections": [{"section_spliter": "Section", "num_sections": 2}],
    "detectable_format:json_format": [{}],
    "detectable_format:title": [{}],
    "combination:two_responses": [{}],
    "combination:repeat_prompt": [{"prompt_to_repeat": "Tea or milk?"}],
    "startend:end_checker": [{"end_phrase": "That is all."}],
    "punctuation:no_comma": [{}],
    "startend:quotation": [{}],
}
TEXTS = [
    "Tea, please.",
    "tea and Tea and a cup of TEA for everyone",
    "A cup of steam; teatime",
    "First.\n\nThen, more.",
    "First.\n\n\n\n'Then' more.",
    "Tea.\n\n",
    "one *** two",
    "*** one *** two ***",
    "one *** *** two",
    "[name] and [place]",
    "[one",
    "All.\nP.S. more\n",
    "all. p. p. s more",
    "* one\n* two",
    "- one\n  - two\n** bold",
    "My answer is yes.",
    "my answer is yes.",
    "*one* and **two**",
    "** ** and * *",
    "Section 1\nfoo\nSection 2\nbar",
    '```json\n{"a": 1}\n```',
    '{"a": }',
    "<<Tea>>\ntext",
    "<< >>",
    "one ****** two",
    "one ****** one",
    "****** one ****** two ******",
    "one ****** ****** two",
    "TEA OR MILK? Milk.",
    'So. "That is all."',
    "That is all",
    '"quoted"',
    '"',
    "北京的茶，很好。",
    "e" * 10,
]


def published(instruction: str, given: dict[str, Any], text: str) -> bool:
    from lm_eval.tasks.ifeval import instructions_registry

    checker = instructions_registry.INSTRUCTION_DICT[instruction](instruction)
    checker.build_description(**given)
    return bool(text.strip() and checker.check_following(text))


@pytest.fixture
def as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's copy of the checker, which asks the network for NLTK's files as it is imported."""
    nltk = pytest.importorskip("nltk")
    pytest.importorskip("langdetect")
    pytest.importorskip("immutabledict")
    monkeypatch.setattr(nltk.data, "find", lambda name: name)
    pytest.importorskip("lm_eval.tasks.ifeval.instructions_registry")


@pytest.mark.usefixtures("as_published")
@pytest.mark.parametrize("instruction", ARGUMENTS)
def test_the_published_results(instruction: str) -> None:
    for given in ARGUMENTS[instruction]:
        ours = [follows(text, instruction, given) for text in TEXTS]
        theirs = [published(instruction, given, text) for text in TEXTS]
        assert ours == theirs, [t for t, a, b in zip(TEXTS, ours, theirs, strict=True) if a != b]


ENGLISH = "The quick brown fox jumps over the lazy dog, and the dog does not mind."


@pytest.mark.parametrize(
    ("instruction", "given", "text", "right"),
    [
        ("language:response_language", {"language": "zh"}, "今天天气很好。", True),
        ("language:response_language", {"language": "zh"}, ENGLISH, False),
        ("language:response_language", {"language": "hi"}, "आज मौसम बहुत अच्छा है।", True),
        ("change_case:english_capital", {}, ENGLISH.upper(), True),
        ("change_case:english_capital", {}, ENGLISH, False),
        ("change_case:english_lowercase", {}, ENGLISH.lower(), True),
        ("change_case:english_lowercase", {}, "今天天气很好。", False),
        (
            "change_case:capital_word_frequency",
            {"capital_frequency": 2, "capital_relation": "at least"},
            "NASA and ESA went up.",
            True,
        ),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 3, "relation": "less than"},
            "Dr. Li came. It was 3.5 degrees, e.g. cold.",
            True,
        ),
        (
            "length_constraints:number_sentences",
            {"num_sentences": 3, "relation": "at least"},
            "One. Two! Three?",
            True,
        ),
    ],
)
def test_what_needs_a_language(instruction: str, given: Any, text: str, right: bool) -> None:
    assert follows(text, instruction, given) is right


def test_every_instruction_is_tried() -> None:
    tried = {*ARGUMENTS, "language:response_language", "length_constraints:number_sentences"}
    cases = {f"change_case:{name}" for name in _CASES}
    assert tried | cases == set(INSTRUCTIONS)


_CASES = ("capital_word_frequency", "english_capital", "english_lowercase")


def test_loose_reading_forgives_a_first_and_a_last_line() -> None:
    text = "Sure, here it is:\nno comma here\nHope it helps, bye"
    assert ifeval(text, ["punctuation:no_comma"], [{}]) == [False]
    assert ifeval(text, ["punctuation:no_comma"], [{}], loose=True) == [True]
    assert "no comma here" in variants(text)


ROW = {
    "prompt": "Say it without a comma. End with: bye",
    "instruction_id_list": ["punctuation:no_comma", "startend:end_checker"],
    "kwargs": [{"end_phrase": None}, {"end_phrase": "bye", "num_words": None}],
}


@pytest.mark.parametrize(
    ("text", "whole", "share"), [("So bye", 1.0, 1.0), ("So, bye", 0.0, 0.5), ("", 0.0, 0.0)]
)
def test_both_levels(text: str, whole: float, share: float) -> None:
    sample = Sample("s", "t", fields=ROW)
    item = MetricItem(sample, (Response("k", "s", "t", "generation", 0, 0, text),))
    for level, value in (("prompt", whole), ("instruction", share)):
        metric = get_metric("ifeval", {"level": level}).among([sample])  # type: ignore[attr-defined]
        assert metric.score([item])[0][0].value == value


@pytest.mark.parametrize(
    ("names", "kwargs", "says"),
    [
        (["punctuation:no_colon"], [{}], "no instruction 'punctuation:no_colon'"),
        (["startend:end_checker"], [{}], "lacks or misnames an argument"),
        (["keywords:existence"], [{"keywords": ["("]}], "lacks or misnames an argument"),
    ],
)
def test_a_wrong_row_is_said_as_the_suite_loads(names: Any, kwargs: Any, says: str) -> None:
    sample = Sample("s7", "t", fields={"instruction_id_list": names, "kwargs": kwargs})
    with pytest.raises(UserError, match="sample 's7'") as caught:
        get_metric("ifeval").among([sample])  # type: ignore[attr-defined]
    assert says in caught.value.what


def test_a_row_without_instructions_is_unscored() -> None:
    item = MetricItem(Sample("s", "t"), (Response("k", "s", "t", "generation", 0, 0, "x"),))
    assert get_metric("ifeval").score([item])[0][0].outcome is ScoreOutcome.UNSCORED
