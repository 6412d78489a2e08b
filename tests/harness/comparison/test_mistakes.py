"""Kinds of mistakes: one rule each, and only what changed is told as a change."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from harness.comparison.mistakes import changes, kinds_of, mistakes
from harness.core.types import Response, Sample
from harness.store.store import Store
from tests.harness.suite_builders import verdict_between

ORDER = json.dumps({"intent": "refund", "slots": {"order": 7}})


def answer(text: str, name: str = "s", **more: Any) -> Response:
    made = Response(f"k{name}", name, "t", "generation", 0, 0, text)
    return replace(made, **more)


@pytest.mark.parametrize(
    ("text", "reference", "kinds"),
    [
        (ORDER, ORDER, set()),
        ("Sorry, I can't help with that.", ORDER, {"refuses", "no JSON object"}),
        ('{"intent": "refund"}', ORDER, {"field slots.order missing"}),
        ('{"intent": "book", "slots": {"order": 7}}', ORDER, {"field intent wrong"}),
        (ORDER[:-1] + ', "more": 1}', ORDER, {"field more not asked for"}),
        ("It is 1,042.", "The answer is 1042", set()),
        ("It is 43.", "The answer is 42", {"another number"}),
        ("抱歉，我无法回答。", "Sure.", {"refuses", "another language"}),
        (
            "我们的商店每天早上九点开门。",
            "The shop opens at nine every morning.",
            {"another language"},
        ),
        ("", "yes", {"nothing said"}),
        ("<think>Hm.</think>", "yes", {"nothing said"}),
        ("the same words again " * 10, "words", {"repeats itself"}),
        ("yes", "yes", set()),
    ],
)
def test_each_kind_is_found_by_its_rule(text: str, reference: str, kinds: set[str]) -> None:
    assert kinds_of(Sample("s", "t", references=(reference,)), answer(text)) == kinds


def test_an_error_and_a_cut_are_kinds_of_their_own() -> None:
    sample = Sample("s", "t", references=("yes",))
    assert kinds_of(sample, answer("", error="lost")) == {"no answer: an error"}
    assert kinds_of(sample, answer("yes", finish_reason="length")) == {"cut at the length limit"}


def sides(spoiled: float, seed: int, n: int = 60) -> tuple[Any, list[Response], list[Response]]:
    """A tenth of the answers of both are no JSON, of the candidate's a share `spoiled` more."""
    chance = np.random.default_rng(seed)
    names = [f"t\0s{i}" for i in range(n)]
    samples = {name: Sample(name[2:], "t", references=(ORDER,)) for name in names}
    made = [
        [answer("no" if chance.random() < share else ORDER, name[2:]) for name in names]
        for share in (0.1, 0.1 + spoiled)
    ]
    return samples, made[0], made[1]


def test_a_change_is_sure_where_there_is_one_and_seldom_where_there_is_none() -> None:
    def sure(spoiled: float, seed: int) -> bool:
        return any(each.p <= 0.05 for each in changes(*sides(spoiled, seed)))

    assert all(sure(0.5, seed) for seed in range(20))
    assert sum(sure(0.0, seed) for seed in range(100)) <= 8


def test_copies_in_one_cluster_count_once() -> None:
    samples, before, _ = sides(0.0, 0, n=10)
    one = {name: replace(sample, cluster="all") for name, sample in samples.items()}
    after = [replace(response, text="no") for response in before]
    [change] = [each for each in changes(one, before, after) if each.kind == "no JSON object"]
    assert (change.after, change.p) == (10.0, 1.0)
    assert min(each.p for each in changes(samples, before, after)) < 0.05


def test_a_verdict_of_the_store_says_what_kind(tmp_path: Path, store: Store) -> None:
    rows: list[Mapping[str, Any]] = [{"id": n, "q": f"refund {n}", "a": ORDER} for n in range(40)]
    refusal = "I am sorry, I can't help with [red]that[/red]."
    verdict = verdict_between(
        tmp_path, store, rows, {"refund": ORDER}, {"refund": refusal}, "json_valid"
    )
    heard = io.StringIO()
    mistakes(store, None, verdict, Console(file=heard, width=100))
    assert "t: no JSON object  0 → 40 of 40 samples (p < 0.0001)" in heard.getvalue()
    assert "t: refuses  0 → 40 of 40 samples" in heard.getvalue()
