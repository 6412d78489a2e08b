"""The suite of drawn pictures: drawn again pixel by pixel, and asked end to end."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.cli.app import main
from harness.comparison.evidence import metric_scores, summarize
from harness.core.types import VerdictOutcome
from harness.core.workspace import Workspace
from harness.evaluation.open_model import open_model
from harness.evaluation.runner import score
from harness.gate.decision import decide
from harness.store.runs import run_responses
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite.picture_drawing import SUITES, drawn
from tests.tiny_pictures import save_tiny_llava

FILE = SUITES / "pictures.yaml"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(Workspace.at(tmp_path / "home").ensure()) as store:
        yield store


def test_the_pictures_and_questions_are_those_that_the_program_draws() -> None:
    pictures, rows = drawn()
    written = (SUITES / "data" / "pictures.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in written] == rows
    assert {f"pictures/{path.name}" for path in (SUITES / "data/pictures").iterdir()} == set(
        pictures
    )
    for name, image in pictures.items():
        assert Image.open(SUITES / "data" / name).tobytes() == image.tobytes(), name


def test_each_kind_has_its_answers_spread_and_each_language_its_half() -> None:
    _, rows = drawn()
    assert Counter(row["language"] for row in rows) == {"en": 24, "zh": 24}
    for kind in ("color", "shape", "count", "side"):
        answers = Counter(
            row["answer"] for row in rows if row["about"] == kind and row["language"] == "en"
        )
        assert max(answers.values()) <= 3
    readme = (SUITES / "README.md").read_text(encoding="utf-8")
    assert "| `pictures` | `shapes` 48, about 24 drawn pictures | en 24, zh 24 |" in readme


def test_a_model_that_sees_passes_beside_itself(store: Store) -> None:
    suite = load_suite(FILE)
    right = {sample.question or "": sample.references[0] for sample in suite.tasks[0].samples}
    backend = ScriptedBackend(right)
    seeing = Candidate(
        "sees", "1" * 16, backend.subject, lambda: backend, see=lambda: lambda: backend
    )
    run = score(seeing, suite, store).run
    (line,) = summarize(store, run)
    assert (line.counts.scored, line.counts.errors) == (48, 0)
    scores = metric_scores(store, run, policy=suite.policy)
    assert decide(scores, scores, suite.policy).outcome is VerdictOutcome.PASS


def test_a_tiny_model_of_images_and_text_is_asked(tmp_path: Path, store: Store) -> None:
    folder = save_tiny_llava(tmp_path / "llava")
    run = score(open_model(str(folder), store.workspace, store), load_suite(FILE), store, limit=3)
    assert run.failed == 0
    assert len(run_responses(store, run.run.id)) == 3


def test_suites_check_shows_which_picture(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    assert main(["suites", "check", str(FILE)]) == 0
    assert "picture:" in out.getvalue()
    assert "color-1.png" in out.getvalue().replace("\n", "")
