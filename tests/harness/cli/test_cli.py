"""The command as its user meets it: exit codes, one clear message, no traceback."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from harness.cli.app import VERBS, main
from harness.cli.verb_help import help_of
from tests.harness.suite_builders import suite_yaml

HEAVY = ("torch", "transformers", "trl", "peft", "streamlit", "pandas", "duckdb", "scipy", "numpy")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def tiny_suite(folder: Path) -> Path:
    """Small enough for the tiny model, whose window has 256 tokens."""
    return suite_yaml(folder, gate={"metrics": {"read/perplexity": {"required": True}}})


def loaded_by(*calls: list[str]) -> tuple[str, set[str]]:
    """What `ratchet` prints when it is called so, one call after another, and what it imports."""
    code = (
        "import sys; from harness.cli.app import main; "
        f"codes = [main(words) for words in {list(calls)!r}]; assert codes == [0] * len(codes); "
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.split())


def test_help_lists_the_verbs_and_imports_none() -> None:
    said, loaded = loaded_by(["--help"])
    assert loaded.isdisjoint(HEAVY)
    assert {point.module for point in VERBS.added}.isdisjoint(loaded)
    for verb in ("score", "gate", "rescore", "runs", "suites", "train", "promote", "rollback"):
        assert f"  {verb} " in said


@pytest.mark.parametrize("point", VERBS.added, ids=lambda point: point.name)
def test_the_line_of_help_is_what_the_verb_says_itself(point: EntryPoint) -> None:
    verb = point.load()
    told = verb.info.help if isinstance(verb, typer.Typer) else inspect.getdoc(verb)
    assert help_of(point) == told


def test_the_help_of_no_verb_loads_anything_heavy() -> None:
    said, loaded = loaded_by(["--version"], *([name, "--help"] for name in VERBS.names()))
    assert said.startswith("ratchet ")
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    "words",
    [
        ["score"],
        ["nonsense"],
        ["score", "x", "--suite"],
        ["score", "x", "--suite", "s.yaml", "--limit", "many"],
        ["score", "x", "--suite", "s.yaml", "--limit", "0"],
        ["gate", "x"],
        ["--frobnicate"],
    ],
)
def test_wrong_usage_is_3_and_never_a_verdict(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_bad_input_is_one_message_with_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    path = tiny_suite(tmp_path)
    text = path.read_text(encoding="utf-8").replace("temperature: 1.0", "temperature: warm")
    path.write_text(text, encoding="utf-8")
    assert main(["score", "whatever", "--suite", str(path)]) == 3
    said = capsys.readouterr().err
    assert "tasks.talk.generate.temperature" in said
    assert f"{path}:" in said
    assert "Traceback" not in said
    assert not home.exists()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("./no-such-folder", "there is no model"),
        ("line:nothing", "no promoted checkpoint"),
        ("empty", "no config.json"),
        ("weightless", "no weights"),
    ],
)
def test_a_model_that_is_not_there(
    tmp_path: Path, model: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "weightless").mkdir()
    (tmp_path / "weightless" / "config.json").write_text("{}", encoding="utf-8")
    assert main(["score", model, "--suite", str(tiny_suite(tmp_path))]) == 3
    assert says in capsys.readouterr().err


def test_score_gate_rescore_runs(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = str(tiny_suite(tmp_path))
    assert main(["score", str(tiny_llama), "--suite", suite]) == 0
    first = capsys.readouterr().out
    assert "20 answers generated, 10 texts read" in first
    assert "5 of 5" in first
    assert main(["score", str(tiny_llama), "--suite", suite]) == 0
    again = capsys.readouterr().out
    assert "Nothing was generated" in again
    run = next(word for word in again.split() if word.startswith("run:"))
    assert main(["rescore", run]) == 0
    assert run in capsys.readouterr().out
    assert main(["runs", "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line)["run_id"] == run.removeprefix("run:")
    report = tmp_path / "verdict.json"
    code = main(["gate", str(tiny_llama), "--against", run, "--json", str(report)])
    verdict = json.loads(report.read_text(encoding="utf-8"))
    assert (code, verdict["outcome"]) == (0, "pass")
    assert "PASS" in capsys.readouterr().out


def test_another_protocol_is_incomparable_and_the_field_is_named(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tiny_suite(tmp_path)
    assert main(["score", str(tiny_llama), "--suite", str(suite)]) == 0
    run = next(w for w in capsys.readouterr().out.split() if w.startswith("run:"))
    text = suite.read_text(encoding="utf-8").replace("temperature: 1.0", "temperature: 0.9")
    suite.write_text(text, encoding="utf-8")
    code = main(["gate", str(tiny_llama), "--against", run, "--suite", str(suite)])
    assert code == 3
    assert "talk.generate.temperature" in " ".join(capsys.readouterr().out.split())


def test_a_worse_model_fails(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anchor and candidate change places: whichever is better, one of the two must not pass."""
    from tests.tiny import save_tiny_llama

    other = save_tiny_llama(tmp_path / "other", seed=11, initializer_range=0.6)
    words = ["--suite", str(tiny_suite(tmp_path))]
    codes = {
        main(["gate", str(other), "--against", str(tiny_llama), *words]),
        main(["gate", str(tiny_llama), "--against", str(other), *words]),
    }
    assert codes == {0, 1}
    said = " ".join(capsys.readouterr().out.split())
    assert "FAIL" in said, said
    assert "read/perplexity" in said, said


def test_a_crash_exits_with_4_and_leaves_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    def broken(path: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("harness.suite.load.load_suite", broken)
    assert main(["score", "x", "--suite", "s.yaml"]) == 4
    said = capsys.readouterr().err
    assert "Traceback" not in said
    [log] = (home / "logs").iterdir()
    assert "ZeroDivisionError: oh" in log.read_text(encoding="utf-8")
    assert str(log) in said.replace("\n", "")


def test_a_full_disk_is_said_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: object) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr("harness.suite.load.load_suite", full)
    assert main(["score", "x", "--suite", "s.yaml"]) == 3
    said = capsys.readouterr().err
    assert "no space left" in said
    assert "/some/file" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_said_plainly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    words = ["score", "x", "--suite", str(tiny_suite(tmp_path)), "--home", "closed/home"]
    assert main(words) == 3
    assert "can't be written" in capsys.readouterr().err


def test_a_workspace_that_is_a_file_is_said_plainly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    suite = str(tiny_suite(tmp_path))
    assert main(["score", "x", "--suite", suite, "--home", "file"]) == 3
    assert "can't be written" in capsys.readouterr().err


def test_home_and_debug_may_stand_anywhere(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["score", str(tiny_llama), "--home", str(tmp_path / "elsewhere"), "--suite"]
    assert main([*words, str(tiny_suite(tmp_path)), "--limit", "1"]) == 0
    assert (tmp_path / "elsewhere" / "ratchet.duckdb").exists()


def test_suites_check_shows_a_prompt(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suites", "check", str(tiny_suite(tmp_path)), "--model", str(tiny_llama)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "user: Capital of France?" in said
    assert "tokens with the chat template" in said
    assert "required: read/perplexity" in said


def test_an_interruption_says_that_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.suite.load.load_suite", interrupted)
    assert main(["score", "x", "--suite", "s.yaml"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
