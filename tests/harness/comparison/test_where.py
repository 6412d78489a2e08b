"""Where a metric fell: slices over fields, language, length and words of the questions."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

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
    stories = sum(bool(named(np.random.default_rng(n).normal(0, 1, 120))) for n in range(60))
    # Of 60 worlds at 5%, 9 or more come in 1 of 100 trials.
    assert stories < 9


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
