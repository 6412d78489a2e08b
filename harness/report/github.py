"""A verdict for GitHub workflows: step summary, annotations and outputs."""

from __future__ import annotations

from harness.core.types import VerdictOutcome
from harness.gate.explain import why
from harness.gate.verdict import Verdict
from harness.report.markdown import to_markdown

SUMMARY_BYTES = 1_000_000
"""A step summary is cut at 1 MiB."""

_LEVELS = {
    VerdictOutcome.FAIL: "error",
    VerdictOutcome.INCOMPARABLE: "error",
    VerdictOutcome.INCONCLUSIVE: "warning",
}


def step_summary(verdict: Verdict, *, title: str = "Ratchet") -> str:
    """Markdown for the file that GITHUB_STEP_SUMMARY names."""
    return to_markdown(verdict, title=title, limit=SUMMARY_BYTES)


def annotate(verdict: Verdict) -> list[str]:
    """Workflow commands, one for each deciding row that didn't pass; print them line by line."""
    lines = []
    for row in verdict.rows:
        level = _LEVELS.get(row.outcome)
        if level is None or row.role == "advisory" or row.waived:
            continue
        if level == "warning" and not row.required:
            continue
        lines.append(f"::{level} title={_property(row.name)}::{_message(why(row))}")
    return lines


def outputs(verdict: Verdict) -> str:
    """`name=value` lines for the file that GITHUB_OUTPUT names."""
    headline = " ".join(verdict.headline.split())
    return f"outcome={verdict.outcome.value}\nexit-code={verdict.exit_code}\nheadline={headline}\n"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
