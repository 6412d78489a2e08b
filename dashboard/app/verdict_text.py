"""A verdict's sentences in the reader's language."""

from __future__ import annotations

from dashboard.app.page import cached
from dashboard.i18n import zh_verdict as chinese_verdict
from dashboard.i18n.reader import language
from dashboard.queries import history as queries
from harness.core.format import in_todays_words
from harness.gate import explain as wording
from harness.gate.verdict import MetricVerdict, Verdict


def sentences(verdict: Verdict) -> list[str]:
    """The headline first, then what else must be known, then what would settle it."""
    chinese = language() == "zh"
    return chinese_verdict.sentences(verdict) if chinese else wording.sentences(verdict)


def stored(verdict_id: str, english: str) -> list[str]:
    """The same of a verdict of which a list holds no more than its `english` headline."""
    if language() == "en":
        return [english]
    shown = cached(queries.verdict, verdict_id)
    return sentences(shown.verdict) if shown else [english]


def happened(detail: str) -> str:
    """Why something happened in a training, as the trainer wrote it down."""
    return (
        chinese_verdict.best_checkpoint(detail) if language() == "zh" else in_todays_words(detail)
    )


def why(row: MetricVerdict) -> str:
    """One sentence: what decided this row."""
    return chinese_verdict.why(row) if language() == "zh" else wording.why(row)


def evidence(row: MetricVerdict) -> str:
    """What a row rests on: `60 samples`."""
    if language() == "zh":
        return chinese_verdict.evidence(row)
    return wording.evidence_of(row)
