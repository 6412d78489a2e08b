"""docs/tutorial.md, typed from top to bottom; the Chinese one types the same."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.cli.app import main

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("tutorial.md", "tutorial.zh.md")
)
BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def steps(page: str) -> Iterator[tuple[str, str]]:
    """(file name or "", text) of each block, in order: a file to be saved, or lines to be typed."""
    for language, text in BLOCK.findall(page):
        name = "" if language == "sh" else text.split("\n", 1)[0].removeprefix("# ")
        yield name, text


def bare(text: str) -> str:
    """Without its comments, which are in the page's own language."""
    return re.sub(r"\s+# .*", "", text)


def test_both_languages_type_the_same() -> None:
    assert [(n, bare(t)) for n, t in steps(CHINESE)] == [(n, bare(t)) for n, t in steps(ENGLISH)]


@pytest.mark.long
def test_every_line_does_what_the_page_says(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A reader")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "reader@example.org")
    monkeypatch.delenv("RATCHET_HOME", raising=False)
    (tmp_path / "ratchet").symlink_to(ROOT)
    runs: dict[str, str] = {}
    for name, text in steps(ENGLISH):
        if name:
            # A model that any test can afford takes the place of the one that is installed.
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text.replace("smollm2-135m-instruct", str(tiny_llama)))
            continue
        for line in text.splitlines():
            command, _, exits = line.partition("    # exit ")
            code, said = typed(named(command, runs), capsys)
            assert code == int(exits or 0), f"{line}\n{said}"
            remember(command, said, runs)
    assert yaml.safe_load(Path("suites/support.yaml").read_text())["name"] == "support"
    assert Path("verdict.xml").exists()


def typed(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """One line at the prompt: its exit code and what it printed."""
    words = shlex.split(line)
    if words[0] == "ratchet":
        code = main(words[1:])
    elif words[0] == "python":
        runpy.run_path(words[1], run_name="__main__")
        code = 0
    elif words[0] == "cd":
        os.chdir(words[1])
        code = 0
    else:
        code = subprocess.run(["bash", "-ec", line], check=False).returncode
    said = capsys.readouterr()
    return code, said.out + said.err


def named(line: str, runs: dict[str, str]) -> str:
    """With the run's own name where the page has `run:OLD`, as a reader would put it in."""
    return re.sub(r"run:([A-Z0-9]+)\b", lambda found: f"run:{runs[found[1]]}", line)


def remember(line: str, said: str, runs: dict[str, str]) -> None:
    """What was imported or scored is called after its file or folder from here on."""
    words = shlex.split(line)
    if words[:2] in (["ratchet", "import"], ["ratchet", "score"]):
        of = Path(words[3] if words[1] == "import" else words[2]).stem.upper()
        runs[of] = re.findall(r"\brun[: ]([0-9a-f]{16})\b", said)[-1]
