"""What a training says in 80 columns: a line for each checkpoint, a table where one fails."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.trainers.recipe_builders import write_world
from trainers.cli.console import ConsoleReporter


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> tuple[str, Path]:
    """The output of a training whose third segment is rubbish, and its home."""
    folder = tmp_path_factory.mktemp("said")
    path = write_world(folder, tiny_llama)
    out = folder / "out.txt"
    with pytest.MonkeyPatch.context() as patch, out.open("w") as file:
        patch.setenv("COLUMNS", "80")
        patch.setattr("sys.stdout", file)
        assert main(["train", str(path), "--home", str(folder / "home")]) == 0
    return out.read_text(), folder / "home"


def test_a_line_a_checkpoint(said: tuple[str, Path]) -> None:
    lines = [line for line in said[0].splitlines() if re.match(r"step +\d+ +\S", line)]
    words = [line.split()[:3] for line in lines if "against the" not in line]
    assert [int(step) for _, step, _ in words] == [0, 3, 6, 9, 9, 12]
    assert [word for _, _, word in words[:4]] == ["anchor", "▲", "▲", "FAIL"]
    # What is learned after the rollback is better, or at least no worse.
    assert {word for _, _, word in words[4:]} <= {"▲", "pass"}
    failed = next(line for line in lines if "FAIL" in line)
    assert re.search(r"texts/perplexity [\d.,]+ ↑ [\d.,]+; .*\d+ scored, \d+ s", failed)
    better = next(line for line in lines if "▲" in line)
    assert re.search(r"texts/perplexity [\d.,]+ ↓ [\d.,]+", better)


def test_the_table_is_for_what_decides(said: tuple[str, Path]) -> None:
    assert said[0].count("step 9 against the best checkpoint") == 1
    assert said[0].count("candidate") == 1
    assert said[0].count("why it got worse: ratchet explain ") == 1
    assert "rolling back from step 9 to step 6" in said[0]


def test_no_name_is_broken_and_no_line_too_long(said: tuple[str, Path]) -> None:
    for line in said[0].splitlines():
        for name in ("perplexity", "self_bleu"):
            broken = (name[:end] for end in range(3, len(name)))
            assert not any(line.rstrip().endswith(f"/{part}") for part in broken), line
        if re.match(r"step +\d+ ", line):
            assert len(line.rstrip()) <= 80


def test_the_events_tell_the_same(said: tuple[str, Path]) -> None:
    with Store(Workspace.at(said[1])) as store:
        [row] = store.query(
            "SELECT detail FROM training_events WHERE event = 'verdict' AND step = 9 "
            "AND detail->>'outcome' = 'fail'"
        )
    [metric] = row["detail"]["decided_by"]
    assert metric["metric"] == "texts/perplexity"
    assert metric["candidate"] > metric["anchor"]
    assert row["detail"]["scored"] > 0
    assert row["detail"]["seconds"] > 0


@pytest.mark.parametrize(("terminal", "lines"), [(False, 3), (True, 0)])
def test_where_no_bar_moves_a_line_says_how_far_it_is(terminal: bool, lines: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=terminal)
    reporter = ConsoleReporter(console, quiet_s=0.0)
    reporter.progress("generate intents", 64, 182)
    reporter.progress("generate intents", 182, 182)
    reporter.train_step(3, 10, 0.51234)
    reporter.progress("read general", 8, 40)
    said = out.getvalue().splitlines()
    assert len(said) == lines
    if lines:
        assert [line.split() for line in said] == [
            ["generate", "intents", "64", "of", "182"],
            ["train", "3", "of", "10", "loss", "0.512"],
            ["read", "general", "8", "of", "40"],
        ]
    assert said == [] or all(len(line) <= 80 for line in said)


def test_what_takes_long_begins_with_a_line(said: tuple[str, Path]) -> None:
    first = next(line for line in said[0].splitlines() if line.strip())
    assert first.startswith("Preparing ")
