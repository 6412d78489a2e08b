"""A verdict as JUnit XML, which every CI system reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

from harness.core.types import VerdictOutcome
from harness.gate.explain import explain, why
from harness.gate.verdict import MetricVerdict, Verdict

_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(verdicts: Verdict | Mapping[str, Verdict], *, name: str = "ratchet") -> str:
    """One test suite per verdict, one test case per row, and one for the verdict as a whole.

    FAIL is a failure, INCOMPARABLE an error. An inconclusive row is skipped, but the case of an
    inconclusive verdict is a failure: a CI job that asked for a PASS has not got one. Advisory
    and waived rows never fail.
    """
    named = {name: verdicts} if isinstance(verdicts, Verdict) else dict(verdicts)
    root = ElementTree.Element("testsuites", name=_clean(name))
    for label, verdict in named.items():
        suite = ElementTree.SubElement(root, "testsuite", name=_clean(label))
        _whole(suite, label, verdict)
        for row in verdict.rows:
            _case(suite, label, row)
        for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            suite.set(kind, str(sum(case.find(tag) is not None for case in suite)))
        suite.set("tests", str(len(suite)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _whole(suite: ElementTree.Element, label: str, verdict: Verdict) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(label), name="verdict")
    if verdict.outcome is not VerdictOutcome.PASS:
        incomparable = verdict.outcome is VerdictOutcome.INCOMPARABLE
        found = ElementTree.SubElement(case, "error" if incomparable else "failure")
        found.set("type", verdict.outcome.value)
        found.set("message", _clean(verdict.headline))
        found.text = _clean(explain(verdict))


def _case(suite: ElementTree.Element, label: str, row: MetricVerdict) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_clean(label), name=_clean(row.name))
    sentence = _clean(why(row))
    if row.outcome is VerdictOutcome.PASS:
        ElementTree.SubElement(case, "system-out").text = sentence
        return
    tag = "skipped"
    if row.binding and row.outcome is VerdictOutcome.FAIL:
        tag = "failure"
    elif row.binding and row.outcome is VerdictOutcome.INCOMPARABLE:
        tag = "error"
    found = ElementTree.SubElement(case, tag, message=sentence)
    if tag != "skipped":
        found.set("type", row.decided.arm if tag == "failure" else row.outcome.value)
        found.text = "\n".join(
            _clean(f"{m.id}: {m.anchor} -> {m.candidate}") for m in row.measured.moved
        )


def _clean(text: str) -> str:
    """Without the characters that XML 1.0 can't hold."""
    return _ILLEGAL.sub("\ufffd", text)
