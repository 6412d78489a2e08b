"""`ratchet sandbox check`, and the page that describes the sandbox."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli.sandbox import sandbox
from harness.sandbox import worker as worker_module
from harness.sandbox.outcome import LABELS
from tests.harness.sandbox.sandbox_builders import guard, missing

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")
HELD = not missing("A") or not missing("B")


def test_check_says_what_this_machine_gives() -> None:
    result = CliRunner().invoke(sandbox, ["check"])
    assert result.exit_code == (0 if HELD else 1)
    best = "A" if not missing("A") else "B"
    if HELD:
        assert f"tier {best}, with the split verdict" in result.output


def test_check_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object) -> bytes:
        raise RuntimeError("no libseccomp")

    monkeypatch.setattr(worker_module, "compiled", unavailable)
    monkeypatch.setenv("COLUMNS", "300")
    result = CliRunner().invoke(sandbox, ["check"])
    assert result.exit_code == 1
    assert "libseccomp2" in result.output
    assert "neither tier A nor tier B" in result.output


@pytest.mark.skipif(not HELD, reason="nothing holds untrusted programs here")
def test_the_pages_example_runs() -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    done = subprocess.run(
        [*guard(), sys.executable, "-c", example], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout.startswith("pass split "), done.stderr


def test_the_page_names_every_label() -> None:
    assert set(re.findall(r"^\| `([a-z:-]+)` \|", PAGE, flags=re.MULTILINE)) == set(LABELS)
