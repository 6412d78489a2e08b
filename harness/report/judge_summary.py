"""What a judge model cost and how reliable it was: one sentence per judged metric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.core.protocol import metrics_of
from harness.core.types import Run
from harness.metrics.judge import STATS, Agreement
from harness.metrics.rubric import STATS as RUBRIC_STATS
from harness.store.store import Store


def judge_sentences(store: Store, run: Run) -> Iterator[str]:
    """Tokens, money, how often both orders agreed, and the agreement with people where asked."""
    for name, declared in metrics_of(run.fingerprint.protocol):
        graded = tuple(declared["stats"][: len(RUBRIC_STATS)]) == RUBRIC_STATS
        if not graded and tuple(declared["stats"][: len(STATS)]) != STATS:
            continue
        rows = store.query(
            "SELECT stats, outcome FROM current_scores "
            "WHERE run_id = ? AND task = ? AND metric = ? AND len(stats) > 0",
            [run.id, name.task, name.metric],
        )
        if rows:
            yield f"{name}: {_graded(rows) if graded else _sentence(rows)}"


def _graded(rows: list[dict[str, Any]]) -> str:
    stats = [row["stats"] for row in rows]
    tokens, cost = (sum(one[i] for one in stats) for i in (0, 1))
    money = f", cost {cost:.4g}" if cost else ""
    said = f"{len(rows)} answers graded with {tokens:,.0f} tokens{money}"
    if len(stats[0]) == len(RUBRIC_STATS):
        return f"{said}; its agreement with people is unknown (`humans: FILE` measures it)"
    answers, share, distance = stats[-1][len(RUBRIC_STATS) :]
    if not answers:
        return f"{said}; it gave no readable points to what people had graded"
    return (
        f"{said}; it gives people's points to {share:.0%} of {answers:.0f} answers, and is "
        f"{distance:.2g} points off on average"
    )


def _sentence(rows: list[dict[str, Any]]) -> str:
    stats = [row["stats"] for row in rows]
    tokens, cost = (sum(one[i] for one in stats) for i in (0, 2))
    read = [row["stats"] for row in rows if row["outcome"] == "scored"]
    money = f", cost {cost:.4g}" if cost else ""
    said = f"{len(rows)} pairs judged twice with {tokens:,.0f} tokens{money}; "
    if not read:
        return said + "no verdict could be read"
    said += f"both orders agreed in {sum(one[1] for one in read) / len(read):.0%}"
    if len(stats[0]) == len(STATS):
        return f"{said}; its agreement with people is unknown (`humans: FILE` measures it)"
    pairs, share, chance = stats[-1][len(STATS) :]
    if not pairs:
        return f"{said}; it gave no readable verdict on what people had decided"
    kappa = Agreement(int(pairs), share, chance).kappa
    by_chance = "" if kappa is None else f" (κ {kappa:.2f})"
    return f"{said}; it agrees with people on {share:.0%} of {pairs:.0f} pairs{by_chance}"
