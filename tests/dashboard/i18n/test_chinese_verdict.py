"""A verdict in Chinese says what the English one says: the same names, the same numbers."""

from __future__ import annotations

import re

import pytest

from dashboard.queries import history
from harness.gate import explain
from harness.gate.verdict import Arm
from harness.report import zh_verdict
from harness.store.store import Store


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d[\d.,]*\d|\d", text))


def test_every_verdict_of_the_history(demo: Store) -> None:
    outcomes = set()
    for row in history.verdicts(demo):
        shown = history.verdict(demo, row["verdict_id"])
        assert shown is not None
        verdict = shown.verdict
        outcomes.add(verdict.outcome.value)
        for english, chinese in [
            (verdict.headline, zh_verdict.headline(verdict)),
            (verdict.settle, zh_verdict.settle(verdict)),
            *((explain.why(line), zh_verdict.why(line)) for line in verdict.rows),
            *((explain.evidence_of(line), zh_verdict.evidence(line)) for line in verdict.rows),
        ]:
            assert _numbers(english) == _numbers(chinese), (english, chinese)
            assert bool(english) == bool(chinese)
            bare = re.sub(r"\S*/\S*|\bp\b", "", chinese)
            assert not re.search(r"[a-z]{3}", bare), chinese
    assert {"pass", "fail"} <= outcomes


ARMS: tuple[Arm, ...] = ("waived", "strict", "point", "earlier", "lost")


@pytest.mark.parametrize("arm", ARMS)
def test_rarer_rows(demo: Store, arm: Arm) -> None:
    from dataclasses import replace

    shown = history.verdict(demo, history.verdicts(demo)[0]["verdict_id"])
    assert shown is not None
    first = shown.verdict.rows[0]
    row = replace(first, decided=replace(first.decided, arm=arm, reason="ticket 12"))
    said = zh_verdict.why(row)
    assert row.name in said
    assert _numbers(said) == _numbers(explain.why(row))


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("significantly better than checkpoint-0 on a/b", "a/b 显著优于 checkpoint-0"),
        (
            "significantly better than the best so far, step 30, on a/b, confirmed on the reserve",
            "a/b 显著优于此前最佳的第 30 步，已在预留样本上证实",
        ),
        (
            "significantly better than checkpoint-0 on a/b and c/d, the reserve counted in",
            "a/b 和 c/d 显著优于 checkpoint-0（含预留样本）",
        ),
        (  # as it was written before the word changed
            "significantly better than the crest of step 30 on a/b, confirmed on the reserve",
            "a/b 显著优于此前最佳的第 30 步，已在预留样本上证实",
        ),
        ("the loss is not finite", "the loss is not finite"),
    ],
)
def test_why_a_checkpoint_is_the_best(english: str, chinese: str) -> None:
    assert zh_verdict.best_checkpoint(english) == chinese
