"""Where a metric fell: slices over fields, language, length and words of the questions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.comparison.topics import topics
from harness.comparison.where import Slice, where, worst_slices
from harness.core.types import Sample
from harness.gate.pairing import Paired
from harness.store.store import Store
from tests.harness.suite_builders import verdict_between

KINDS = ("refund", "address", "opening")


def sample(n: int) -> Sample:
    kind = KINDS[n % 3]
    text = (
        f"请问{kind}怎么办？" if n % 2 else f"Please tell me about the {kind} " + "now " * (n % 7)
    )
    return Sample(
        f"s{n:03d}",
        "t",
        fields={"kind": kind, "note": f"note {n}", "hard": n % 4 == 0},
        prompt=({"role": "user", "content": text},),
        language="zh" if n % 2 else "en",
    )


SAMPLES = {f"s{n:03d}": sample(n) for n in range(120)}


def paired(harm: Any) -> Paired:
    ids = tuple(SAMPLES)
    zero = np.zeros(len(ids))
    harm = np.asarray(harm, dtype=float)
    return Paired(ids, zero, -harm, harm, zero, 0.0, 0.0, (zero, -harm))


def named(harm: Any) -> list[str]:
    return [each.name for each in worst_slices(paired(harm), SAMPLES)]


def test_a_bad_field_language_pair_or_word_is_named_by_what_it_is() -> None:
    rows = list(SAMPLES.values())
    chance = np.random.default_rng(0)
    noise = chance.normal(0, 0.2, len(rows))
    assert named(noise + [row.fields["kind"] == "refund" for row in rows])[0] == "kind refund"
    assert named(noise + [row.language == "zh" for row in rows])[0] == "language zh"
    both = [row.language == "zh" and row.fields["kind"] == "opening" for row in rows]
    assert named(noise + both)[0] == "kind opening and language zh"
    for row in rows[:9]:
        SAMPLES[row.id] = Sample(
            row.id, "t", fields=row.fields, prompt=({"role": "user", "content": "the parcel"},)
        )
    assert named(noise + 2 * np.array([n < 9 for n in range(120)]))[0] in (
        "word 'parcel'",
        "length up to 15 characters",
    )


def test_noise_is_not_told_as_a_story() -> None:
    stories = sum(bool(named(np.random.default_rng(n).normal(0, 1, 120))) for n in range(200))
    # Of 200 worlds at 5%, 18 or more come in 1 of 100 trials.
    assert stories < 18


ABOUT = {
    "travel": "flight hotel ticket airport luggage train passport visa station seat",
    "food": "pizza noodles rice soup chicken recipe oven salt spicy dinner",
    "trip": "航班 酒店 机票 机场 行李 火车 护照 签证 车站 座位",
    "money": "发票 退款 付款 银行 价格 税费 贷款 信用 费用 账单",
}
"""What questions are about, in words of which each question has three."""


def asks_about(seed: int) -> tuple[dict[str, Sample], list[str]]:
    """200 questions by what they are about; no word is in all of one kind."""
    chance = np.random.default_rng(seed)
    kinds = [list(ABOUT)[n % 4] for n in range(200)]
    asked = {}
    for n, kind in enumerate(kinds):
        said = chance.choice(ABOUT[kind].split(), 3, replace=False)
        chinese = kind in ("trip", "money")
        text = (
            f"请问：{'，'.join(said)}，怎么办？"
            if chinese
            else f"Please tell me: {' '.join(said)}?"
        )
        prompt = ({"role": "user", "content": text},)
        asked[f"s{n:03d}"] = Sample(f"s{n:03d}", "t", prompt=prompt)
    return asked, kinds


@pytest.mark.parametrize("bad", list(ABOUT))
def test_a_bad_topic_is_named_by_its_words(bad: str) -> None:
    right = 0
    for seed in range(10):
        samples, kinds = asks_about(seed)
        chance = np.random.default_rng(seed)
        harm = chance.normal(0, 0.5, 200) + [kind == bad for kind in kinds]
        zero = np.zeros(200)
        there = Paired(tuple(samples), zero, -harm, harm, zero, 0.0, 0.0, (zero, -harm))
        [first, *_] = worst_slices(there, samples)
        [(field, label), *_] = first.conditions
        right += field == "topic" and set(label.split(", ")) <= set(ABOUT[bad].split())
    assert right >= 9


def test_the_order_of_questions_moves_no_topic() -> None:
    samples, _ = asks_about(0)
    texts = [sample.prompt[0]["content"] for sample in samples.values()]
    found = topics(texts)
    assert len({name for name in found if name}) == 4
    assert topics(texts[::-1]) == found[::-1]
    assert topics([*texts, "42", None])[-2:] == [None, None]
    assert topics(texts[:40]) == topics([""] * 40) == [None] * 40


@pytest.mark.parametrize("tests", [1, 10])
def test_more_metrics_ask_for_clearer_evidence(tests: int) -> None:
    chance = np.random.default_rng(3)
    harm = chance.normal(0, 1, 120) + 0.9 * np.array(
        [row.fields["kind"] == "refund" for row in SAMPLES.values()]
    )
    found = worst_slices(paired(harm), SAMPLES, tests)
    assert all(isinstance(each, Slice) and each.p <= 0.05 for each in found)
    if tests == 1:
        assert found[0].inside > found[0].outside


def test_a_verdict_of_the_store_says_where(tmp_path: Path, store: Store) -> None:
    """Two models that differ in one kind of question: the kind is named; a run without its models
    is asked all the same.
    """
    rows: list[Mapping[str, Any]] = [
        {"id": n, "q": f"{KINDS[n % 3]} {n}", "a": "yes", "kind": KINDS[n % 3]} for n in range(90)
    ]
    right = dict.fromkeys(KINDS, "yes")
    verdict = verdict_between(tmp_path, store, rows, right, {**right, "refund": "no"})
    heard = io.StringIO()
    where(store, None, verdict, Console(file=heard, width=100))
    said = heard.getvalue()
    assert "t/exact_match: 0.333 lost on average over 90 samples." in " ".join(said.split())
    assert "kind refund: 1.000 lost on 30, 0.000 gained on the others" in said
