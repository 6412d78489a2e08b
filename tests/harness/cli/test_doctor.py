"""The doctor says what is there, what is not, and what to type."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import metadata
from itertools import dropwhile, takewhile
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.cli.machine import Finding, examine
from harness.core.workspace import Workspace


def found(group: str) -> list[Finding]:
    """What is found of one group; those after it are not looked at."""
    rest = dropwhile(lambda finding: finding.group != group, examine(Workspace.at("/nowhere/else")))
    return list(takewhile(lambda finding: finding.group == group, rest))


def test_it_runs_and_every_missing_thing_has_a_hint_or_is_said_to_be_optional(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(tmp_path / "home"), "doctor", "--json"]) == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"machine", "workspace", "libraries", "extras", "models", "sandbox", "keys"} <= {
        finding["group"] for finding in findings
    }
    for finding in findings:
        assert finding["state"] in ("ok", "missing")
        if finding["group"] == "extras" and finding["state"] == "missing":
            assert finding["hint"] == f"pip install 'ratchet-eval[{finding['name']}]'"
    assert not (tmp_path / "home").exists()


def test_a_required_library_that_is_gone_or_old_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "duckdb":
            raise metadata.PackageNotFoundError(name)
        return "1.0" if name == "scipy" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    broken = {finding.name for finding in found("libraries") if finding.state == "broken"}
    assert broken == {"duckdb is not installed", "scipy 1.0 is not >=1.13"}


def test_a_folder_that_cannot_be_written_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    (finding,) = found("workspace")
    assert finding.state == "broken"
    assert "--home" in finding.hint


def test_a_key_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RATCHET_API_KEY", "sk-secret")
    assert main(["--home", str(tmp_path / "home"), "doctor"]) == 0
    said = capsys.readouterr().out
    assert "sk-secret" not in said
    assert "RATCHET_API_KEY  set" in said


def test_the_shell_completes_the_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess

    done = subprocess.run(
        [str(Path(sys.executable).with_name("ratchet"))],
        env={
            "_RATCHET_COMPLETE": "complete_bash",
            "COMP_WORDS": "ratchet pa",
            "COMP_CWORD": "1",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.split() == ["parity"]


def test_memory_for_answers_is_shown() -> None:
    (cpu, *_) = found("memory")
    assert (cpu.name, cpu.state) == ("cpu", "ok")
    assert re.fullmatch(
        r"[\d.]+ GiB free, [\d.]+ of it for keys and values, at most 64 answers, 16,384 tokens",
        cpu.said,
    )
