"""The doctor says what is there, what is not, and what to type."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from harness.cli import machine as doctor
from harness.cli.app import main
from harness.core.workspace import Workspace


def test_it_runs_and_every_missing_thing_has_a_hint_or_is_said_to_be_optional(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--home", str(tmp_path / "home"), "doctor", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"machine", "workspace", "libraries", "extras", "models", "sandbox", "keys"} <= {
        finding["group"] for finding in found
    }
    for finding in found:
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
        return "1.0" if name == "transformers" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    found = list(doctor._libraries())
    broken = {finding.name for finding in found if finding.state == "broken"}
    assert broken == {"duckdb is not installed", "transformers 1.0 is not >=5.0"}


def test_a_folder_that_cannot_be_written_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    (finding,) = doctor._workspace(Workspace.at("/nowhere/at/all"))
    assert finding.state == "broken"
    assert "--home" in finding.hint


def test_a_key_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RATCHET_API_KEY", "sk-secret")
    monkeypatch.setattr(doctor, "_sandbox", lambda: iter(()))
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
