"""A verdict's sentences in the reader's language."""

from __future__ import annotations

from dashboard.app.page import cached
from dashboard.i18n.reader import language
from dashboard.queries import history
from harness.core.format import in_todays_words
from harness.gate import explain
from harness.gate.verdict import MetricVerdict, Verdict
from harness.report import zh_verdict


def sentences(verdict: Verdict) -> list[str]:
    """The headline first, then what else must be known, then what would settle it."""
    chinese = language() == "zh"
    return zh_verdict.sentences(verdict) if chinese else explain.sentences(verdict)


def stored(verdict_id: str, english: str) -> list[str]:
    """The same of a verdict of which a list holds no more than its `english` headline."""
    if language() == "en":
        return [english]
    shown = cached(history.verdict, verdict_id)
    return sentences(shown.verdict) if shown else [english]


def happened(detail: str) -> str:
    """Why something happened in a training, as the trainer wrote it down."""
    return zh_verdict.best_checkpoint(detail) if language() == "zh" else in_todays_words(detail)


def why(row: MetricVerdict) -> str:
    """One sentence: what decided this row."""
    return zh_verdict.why(row) if language() == "zh" else explain.why(row)


def evidence(row: MetricVerdict) -> str:
    """What a row rests on: `60 samples`."""
    if language() == "zh":
        return zh_verdict.evidence(row)
    return explain.evidence_of(row)
