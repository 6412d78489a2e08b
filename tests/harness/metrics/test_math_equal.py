"""Results are compared as mathematics, as math-verify compares them, in English and in Chinese."""

from __future__ import annotations

import pytest

from harness.core.types import ScoreOutcome
from harness.metrics import get_metric
from harness.metrics.math_equal import math_equal
from tests.harness.metrics.item_builders import item

pytest.importorskip("math_verify")


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("1/2", "the answer is 0.5"),
        (r"$\frac{1}{2}$", r"So \boxed{\frac12}"),
        ("18", "#### 18"),
        ("18", "It costs $18."),
        ("18", "**18**"),
        ("1234", "1,234"),
        ("5", "$x = 5$"),
        (r"\{1,2\}", r"$\{2,1\}$"),
        ("[1,2)", "$[1,2)$"),
        ("50%", "0.5"),
        ("2x+3", "$3+2x$"),
        ("2x+3", "2x + 3"),
        (r"\sqrt{8}", r"$2\sqrt{2}$"),
        ("x^2-1", "(x-1)(x+1)"),
        ("east", r"\text{east}"),
        ("10", "I think 9 or 10"),
        ("18", "答案是18。"),
        ("18", "一共18元"),
        ("１８", "18"),
        ("答案：3/4", "0.75"),
        ("3/4", r"所以 $\boxed{\frac{3}{4}}$。"),
        ("-7", "结果是－７"),
        (r"14\pi", "14π"),
        (r"4\sqrt{3}", "4√3"),
        (r"2\sqrt{x+1}", "2√(x+1)"),
        (r"[2, \infty)", "[2, ∞)"),
    ],
)
def test_the_same_result(reference: str, answer: str) -> None:
    assert math_equal(answer, [reference]) == 1.0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("2", "2x+3"),
        ("[1,2)", "$[1,2]$"),
        ("(1,2)", "(2,1)"),
        ("3", "-3"),
        ("0.333", "1/3"),
        ("18", "一共有 19 个"),
        ("17", "no number"),
        ("east", "West"),
        ("18", "180"),
    ],
)
def test_another_result(reference: str, answer: str) -> None:
    assert math_equal(answer, [reference]) == 0.0


def test_one_of_several_references_is_enough() -> None:
    assert math_equal("0.5", ["2", "1/2"]) == 1.0
    assert math_equal("0.5", []) == 0.0


def test_in_a_thread_as_well() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(math_equal, "It is 12/16", ["3/4"]).result() == 1.0


def test_silence_is_wrong_and_no_reference_is_unscored() -> None:
    metric = get_metric("math_equal")
    ((silent,),) = metric.score([item("", references=["1"])])
    ((bare,),) = metric.score([item("1")])
    assert (silent.value, bare.outcome) == (0.0, ScoreOutcome.UNSCORED)


def test_what_lm_eval_finds() -> None:
    """As its task minerva_math calls math-verify on the last words of a solution."""
    from math_verify import parse, verify

    for gold, answer in (("$\\frac{3}{4}$", "\\boxed{0.75}"), ("$7$", "so 8"), ("$x+1$", "$1+x$")):
        theirs = float(verify(gold=parse(gold), target=parse(answer)))
        assert math_equal(answer, [gold]) == theirs
