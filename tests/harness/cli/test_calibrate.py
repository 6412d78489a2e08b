"""`ratchet calibrate`: stored, cited by the next verdict, and its margins frozen for `auto`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.comparison.calibrations import calibrated, newest
from harness.core.workspace import Workspace
from harness.gate.policy import GatePolicy
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import Ratchet, suite_yaml, write_jsonl


def test_a_calibration_is_printed_stored_and_cited(
    tmp_path: Path, tiny_llama: Path, home: Workspace, ratchet: Ratchet
) -> None:
    gate = {"margin": "auto", "metrics": {"read/perplexity": {"required": True}}}
    suite = suite_yaml(tmp_path, gate=gate)
    out = tmp_path / "calibration.json"
    code, said = ratchet(
        "calibrate", tiny_llama, "--suite", suite, "--trials", "100", "--json", out
    )
    assert code == 0, said
    # The greedy and the text task give the same answers, and only the sampled one is asked again.
    assert "first scoring: 20 answers generated, 10 texts read, 0 reused" in said
    assert "second scoring, fresh draws: 15 answers generated, 15 reused" in said
    assert "no randomness in ask, read" in said
    assert "in trainings of 100" in said.replace("of trainings", "in trainings")
    for drop in ("−5%", "−6%", "−8%", "−10%"):
        assert drop in said
    found = json.loads(out.read_text(encoding="utf-8"))
    with Store(home) as store:
        digest = load_suite(suite).digest
        stored = newest(store, digest)
        assert stored is not None
        assert stored.detail["metrics"] == found["metrics"]
        [row] = store.query("SELECT runs, suite, policy, false_rollback FROM calibrations")
        assert (len(row["runs"]), row["suite"], row["policy"]["margin"]) == (2, "capitals", "auto")
        draws = store.query("SELECT draw FROM runs ORDER BY draw")
        assert [one["draw"] for one in draws] == [0, 1]
    report = tmp_path / "verdict.json"
    code, said = ratchet(
        "gate", tiny_llama, "--against", tiny_llama, "--suite", suite, "--json", report
    )
    verdict = json.loads(report.read_text(encoding="utf-8"))
    assert stored.id in verdict["notes"]["calibration"]
    assert "an unchanged model fails in" in said
    assert "spent: 0 answers generated, look 1 of 1" in said
    frozen = {row["metric"]: row["pass_margin"] for row in verdict["rows"]}
    for name, margin in stored.frozen.items():
        assert frozen[name] == pytest.approx(margin)
    with Store(home) as store:
        [row] = store.query("SELECT detail FROM verdicts ORDER BY seq DESC LIMIT 1")
    assert stored.id in row["detail"]["notes"]["calibration"]
    said = ratchet("suites", "check", suite, "--model", "none")[1]
    assert f"measured by calibration {stored.id}" in said
    assert "read/perplexity: `ratchet calibrate`" not in said


def test_rounding_is_part_of_the_noise_where_it_is_asked_for(
    tmp_path: Path, tiny_llama: Path, home: Workspace, ratchet: Ratchet
) -> None:
    gate = {"margin": "auto", "metrics": {"read/perplexity": {"required": True}}}
    words = ("--suite", suite_yaml(tmp_path, gate=gate), "--trials", "100", "--device", "cpu")
    code, said = ratchet("calibrate", tiny_llama, *words)
    assert code == 0, said
    with Store(home) as store:
        (plain,) = (row["detail"] for row in store.query("SELECT detail FROM calibrations"))
    code, said = ratchet("calibrate", tiny_llama, *words, "--rounding")
    assert code == 0, said
    assert "first scoring in float32" in said
    assert "second scoring, fresh draws in bfloat16" in said
    assert "no randomness in" not in said
    with Store(home) as store:
        rows = store.query("SELECT detail FROM calibrations ORDER BY seq")
        dtypes = store.query("SELECT DISTINCT subject->>'dtype' AS dtype FROM runs ORDER BY 1")
    assert [row["dtype"] for row in dtypes] == ["bfloat16", "float32"]
    level = {each["metric"]: each["visible"] for each in rows[-1]["detail"]["metrics"]}
    before = {each["metric"]: each["visible"] for each in plain["metrics"]}
    # The same texts read twice alike show any loss; read in two dtypes they don't.
    assert level["read/perplexity"] > before["read/perplexity"]


def test_the_newest_calibration_of_the_protocol_counts_and_the_suites_own_word_more(
    store: Store,
) -> None:
    def keep(name: str, digest: str, margin: float) -> None:
        detail = {"frozen": {"qa/em": margin}, "false_rollback_run": 0.1, "run_length": 100}
        row = {"calibration_id": name, "suite": "s", "suite_digest": digest, "detail": detail}
        store.append("calibrations", [{**row, "false_rollback": 0.01}])

    keep("old", "d", 0.2)
    keep("new", "d", 0.12)
    keep("another", "e", 0.3)
    policy, notes = calibrated(store, "d", GatePolicy(margin="auto"))
    assert policy.pass_margin_of("qa/em") == 0.12
    assert policy.margin_of("qa/em") == 0.05
    assert notes["calibration"].startswith("new ")
    own = GatePolicy(margin="auto").with_frozen({"qa/em": 0.07})
    assert calibrated(store, "d", own)[0].pass_margin_of("qa/em") == 0.07
    assert calibrated(store, "nothing", own) == (own, {})


def test_a_suite_says_what_it_can_see_before_anything_is_scored(
    tmp_path: Path, home: Workspace, ratchet: Ratchet
) -> None:
    suite = suite_yaml(tmp_path, gate={"metrics": {"talk/self_bleu": {"advisory": True}}})
    code, said = ratchet("suites", "check", suite, "--model", "none")
    assert code == 0
    assert "ask/exact_match no drop at all 5 × 1 5.0% above it" in said
    assert "`ratchet calibrate` measures: ask/reference_nll, read/perplexity" in said
    assert "talk/self_bleu:" not in said


def test_a_suite_says_which_labels_only_their_writing_tells_apart(
    tmp_path: Path, home: Workspace, ratchet: Ratchet
) -> None:
    def said(*labels: str) -> str:
        rows = [{"id": str(n), "q": f"q{n}", "a": label} for n, label in enumerate(labels)]
        write_jsonl(tmp_path / "rows.jsonl", rows)
        task = {
            "data": "rows.jsonl",
            "prompt": {"user": "{{ q }}"},
            "reference": "{{ a }}",
            "metrics": ["accuracy"],
        }
        suite = suite_yaml(tmp_path, tasks={"t": task})
        code, words = ratchet("suites", "check", suite, "--model", "none")
        assert code == 0, words
        return " ".join(words.split())

    line = "case, articles or the exact text tell labels apart:"
    assert f"{line} 'C' and 'c'" in said("C", "c", "Java")
    assert line not in said("C", "C++", "Java")
    several = said("C", "c", "Go", "go", "Java", "java", "Rust", "rust", "D")
    assert "(and 1 more groups)" in several
