"""The plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.suite_builders import suite_yaml, write_jsonl
from tests.tiny import save_tiny_llama

TESTS = """
import pytest

def test_the_same_model_passes(ratchet):
    assert ratchet.gate({good!r}, against={good!r}, suite={suite!r})

def test_another_model_fails(ratchet):
    assert ratchet.gate({bad!r}, against={good!r}, suite={suite!r})

def test_a_stored_run_brings_its_suite(ratchet):
    run = ratchet.score({good!r}, {suite!r}).run
    verdict = ratchet.gate({bad!r}, against="run:" + run.id)
    assert verdict.failed and not verdict and verdict.outcome == "fail"
"""


@pytest.mark.timeout(280)
def test_a_gate_is_an_assertion_that_says_why(tmp_path: Path) -> None:
    good = save_tiny_llama(tmp_path / "good")
    bad = save_tiny_llama(tmp_path / "bad", initializer_range=0.9)
    rows = [
        {"id": f"{n}", "text": f"The capital of France is Paris, number {n}."} for n in range(24)
    ]
    write_jsonl(tmp_path / "texts.jsonl", rows)
    task = {"data": "texts.jsonl", "text": "{{ text }}", "metrics": ["perplexity"]}
    suite = suite_yaml(tmp_path, tasks={"read": task})
    test = tmp_path / "test_models.py"
    test.write_text(TESTS.format(good=str(good), bad=str(bad), suite=str(suite)))
    options = ["--ratchet-home", str(tmp_path / "home"), "--ratchet-device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert "1 failed, 2 passed" in done.stdout, done.stdout[-3000:]
    assert "assert FAIL" in done.stdout
    assert "read/perplexity" in done.stdout
