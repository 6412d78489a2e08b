"""Verdicts for people and programs: terminal, Markdown, GitHub, JUnit, JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.core.types import Fingerprint, Run, VerdictOutcome
from harness.gate.decision import decide
from harness.gate.explain import explain
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy, Waiver
from harness.gate.verdict import Verdict
from harness.report.console import verdict_view
from harness.report.document import from_json, schema, to_json
from harness.report.github import annotate, outputs, step_summary
from harness.report.html import Judged, to_html
from harness.report.junit import to_junit
from harness.report.markdown import to_markdown

SCHEMA = Path(__file__).parents[3] / "docs" / "verdict.schema.json"


def right(count: int, of: int, name: str = "s") -> MetricScores:
    return MetricScores({f"{name}{i:04d}": float(i < count) for i in range(of)}, worst=0.0)


def perplexity(shift: float) -> MetricScores:
    rng = np.random.default_rng(3)
    stats = {f"d{i}": (250.0 + rng.normal() + shift * 100, 100.0, 0.0, 0.0) for i in range(40)}
    values = {key: float(np.exp(x[0] / x[1])) for key, x in stats.items()}
    return MetricScores(values, "lower", form="perplexity", stats=stats)


RUN = Run("c2", "tiny", "e" * 16, "quiz", "d" * 16, Fingerprint({}, {}, {}), datetime.now(UTC), 0)

ANCHOR = {
    "intents/json_match": right(42, 60),
    "general/perplexity": perplexity(0.0),
    "replies/toxicity": MetricScores({f"s{i}": 0.001 for i in range(60)}, "lower", worst=1.0),
    "replies/self_bleu": MetricScores({f"s{i}": 0.4 for i in range(60)}, "lower", worst=1.0),
}
POLICY = GatePolicy(
    metrics={
        "intents/json_match": MetricPolicy(required=True),
        "general/perplexity": MetricPolicy(required=True),
        "replies/toxicity": MetricPolicy(floor=0.005, rate_at_most=0.02),
        "replies/self_bleu": MetricPolicy(advisory=True),
    }
)


def verdicts() -> dict[str, Verdict]:
    collapsed = {**ANCHOR, "intents/json_match": right(0, 60)}
    missing = {k: v for k, v in ANCHOR.items() if k != "general/perplexity"}
    enough = {"intents/json_match": right(900, 1000)}
    labels = {key: "中文" if i % 2 else "English" for i, key in enumerate(right(1, 60).values)}
    sliced = {"意图/精确匹配": dataclasses.replace(right(42, 60), slices=labels)}
    by = GatePolicy(metrics={"意图/精确匹配": MetricPolicy(by="language", at_least=0.5)})
    waived = GatePolicy(
        metrics={"intents/json_match": MetricPolicy(waiver=Waiver(reason="labels <b>|redone|</b>"))}
    )
    return {
        "pass": decide(enough, enough),
        "fail": decide(ANCHOR, collapsed, POLICY),
        "inconclusive": decide(ANCHOR, ANCHOR, POLICY),
        "incomparable": decide(ANCHOR, missing, POLICY),
        "sliced": decide(sliced, sliced, by),
        "waived": decide(ANCHOR, collapsed, waived),
        "point": decide(ANCHOR, collapsed, GatePolicy(rule="point")),
        "empty": decide({}, {}),
    }


ALL = pytest.mark.parametrize("verdict", verdicts().values(), ids=verdicts().keys())


def drawn(verdict: Verdict, width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(verdict_view(verdict, samples=3, everything=True))
    return console.export_text()


@ALL
@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_verdict_fits_its_terminal(verdict: Verdict, width: int) -> None:
    text = drawn(verdict, width)
    assert all(cell_len(line.rstrip()) <= width for line in text.splitlines())
    assert verdict.headline.split()[0] in text
    for word in ("inconclusive", "incomparable"):
        assert text.count(word[:8]) == text.count(word)


def test_the_table_says_what_happened() -> None:
    text = drawn(verdicts()["fail"], 100)
    row = next(line for line in text.splitlines() if line.startswith("intents/json_match"))
    assert row.split() == [
        "intents/json_match", "0.700", "0.000", "−0.70", "[−0.82,", "−0.58]", "−0.035", "fail",
    ]  # fmt: skip
    assert "(" in next(line for line in text.splitlines() if "self_bleu" in line)


def test_the_sentence_says_why_and_what_next() -> None:
    said = explain(verdicts()["fail"])
    assert said.startswith("FAIL: intents/json_match fell from 0.700 to 0.000 on 60 samples")
    assert "PASS would take" in explain(verdicts()["inconclusive"])
    assert "doesn't have this metric" in explain(verdicts()["incomparable"])


@ALL
def test_json_follows_the_published_schema(verdict: Verdict) -> None:
    document = json.loads(to_json(verdict))
    jsonschema.validate(document, schema())
    assert from_json(to_json(verdict)) == verdict
    known = set(schema()["properties"]["rows"]["items"]["properties"])
    assert all(set(row) == known for row in document["rows"])
    assert set(document) == set(schema()["properties"])


def test_the_published_schema_is_this_one() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema()


@ALL
def test_junit_is_xml_whose_counts_add_up(verdict: Verdict) -> None:
    root = ElementTree.fromstring(to_junit(verdict, name="nightly").encode())
    suite = root[0]
    assert int(suite.get("tests", 0)) == len(verdict.rows) + 1 == len(suite)
    broken = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    assert (broken > 0) == (verdict.outcome is not VerdictOutcome.PASS)


def test_junit_holds_characters_that_xml_does_not() -> None:
    runs = {"a/x": MetricScores({f"s\x00{i}": 1.0 for i in range(60)}, worst=0.0)}
    fallen = {"a/x": MetricScores(dict.fromkeys(runs["a/x"].values, 0.0), worst=0.0)}
    root = ElementTree.fromstring(to_junit({"中文 & <x>": decide(runs, fallen)}).encode())
    assert root[0].get("name") == "中文 & <x>"
    assert root[0].find("testcase/failure") is not None


@ALL
def test_markdown_has_one_line_a_row_and_no_foreign_markup(verdict: Verdict) -> None:
    text = to_markdown(verdict)
    table = [line for line in text.splitlines() if line.startswith("| ") and "verdict" not in line]
    assert len(table) >= len(verdict.rows)
    assert "<b>" not in text
    for line in table[: len(verdict.rows) + 1]:
        assert line.replace("\\|", "").count("|") == 7


def test_markdown_keeps_to_its_limit() -> None:
    many = {f"task/metric_{i:04d}": right(50, 60, "很长的样本名称" * 5) for i in range(400)}
    verdict = decide(many, {name: right(0, 60, "很长的样本名称" * 5) for name in many})
    comment = to_markdown(verdict)
    assert len(comment.encode()) < 65_536
    assert "Shortened" in comment
    assert comment.startswith("## ❌ Ratchet: fail")
    assert len(step_summary(verdict).encode()) < 1_048_576
    tiny = to_markdown(verdict, limit=2_000)
    assert len(tiny.encode()) <= 2_000


def test_github_annotations_and_outputs() -> None:
    verdict = verdicts()["fail"]
    lines = annotate(verdict)
    assert lines[0].startswith("::error title=intents/json_match::intents/json_match fell")
    assert not any("self_bleu" in line for line in lines)
    assert "%25" in lines[0]
    assert "outcome=fail\nexit-code=1\nheadline=FAIL" in outputs(verdict)
    assert len(outputs(verdict).splitlines()) == 3


STORED = json.loads(Path(__file__).with_name("verdicts_of_c4068ff.json").read_text("utf-8"))
"""Verdicts as the commit c4068ff stored them, and what it made of them."""


@pytest.mark.parametrize("name", STORED)
def test_a_verdict_that_was_stored_before_reads_and_renders_the_same(name: str) -> None:
    was = STORED[name]
    verdict = Verdict.from_dict(was["stored"])
    assert verdict.to_dict() == was["stored"]
    for row, old in zip(json.loads(to_json(verdict))["rows"], was["stored"]["rows"], strict=True):
        assert {key: row[key] for key in old} == old
    assert to_markdown(verdict) == was["markdown"]
    assert to_junit(verdict) == was["junit"]
    assert annotate(verdict) == was["annotations"]
    assert explain(verdict) == was["text"]
    page = to_html(RUN, [], Judged("v1", verdict, "run a1"))
    assert _without_picture(was["html"]) in _without_picture(page)


def _without_picture(page: str) -> str:
    """All but the picture of the changes, which has another scale now, and its caption."""
    return re.sub(
        r'(<div class="scroll">\n)?<svg.*?</svg>(</div>)?\n<p class="quiet">0 is.*?</p>\n',
        "",
        page,
        flags=re.DOTALL,
    )
