"""A package adds a metric, a backend, an importer and a verb, and `ratchet` uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fake_package import ratchet_with, write_package
from tests.harness.suite_builders import suite_yaml, write_jsonl

METRIC = '''
"""How loud an answer is."""

from dataclasses import dataclass

from harness.metrics.base import MetricSpec
from harness.metrics.support.items import score_each


@dataclass(frozen=True)
class Shouting:
    """Share of the answers with more than `limit` exclamation marks. In [0, 1]; lower is better."""

    limit: int = 0

    @property
    def spec(self):
        return MetricSpec("shouting", "lower", options=(("limit", str(self.limit)),))

    def score(self, items):
        return score_each(items, lambda sample, answer: float(answer.text.count("!") > self.limit))
'''

BACKEND = '''
"""`echo:WORD`: a model that says one word to everything, to try a suite on."""

from harness.backends.base import Candidate
from harness.backends.openers import Opening
from harness.backends.scripted import ScriptedBackend
from harness.core.digests import digest_of
from harness.core.errors import UserError


def open_echo(asked: Opening) -> Candidate:
    """The candidate of `echo:WORD`. Raises UserError where there is no word."""
    if not asked.rest:
        raise UserError("echo has nothing to say", field=asked.name, hint="write echo:WORD")
    backend = ScriptedBackend(lambda prompt, seed: asked.rest, name="echo")
    return Candidate(asked.name, digest_of(["echo", asked.rest]), backend.subject, lambda: backend)
'''

IMPORTER = '''
"""Runs as a table of JSON lines: one task, one metric, a sample a line."""

from datetime import UTC, datetime
from pathlib import Path

from harness.core.types import Sample
from harness.interop.importers.common import (
    Imported, ImportedTask, Point, Series, finite, read_json_lines
)


def read_lines(place: Path, *, name: str | None = None) -> Imported:
    """The run in a file of `{"id": ..., "right": 0 or 1}`, called `name`, by default as the file.

    Raises UserError naming file and line.
    """
    rows = [row for _, row in read_json_lines(place)]
    points = tuple(Point(str(row["id"]), finite(row["right"])) for row in rows)
    right = Series("right", "higher", points, measure="right|lines", low=0.0, high=1.0)
    samples = tuple(Sample(id=point.sample_id, task="lines") for point in points)
    return Imported(
        source="lines",
        model=name or place.stem,
        tasks=(ImportedTask("lines", {"data": {"source": "lines"}}, (right,), samples),),
        subject={"run": name or place.stem},
        provenance={},
        measured_at=datetime.fromtimestamp(place.stat().st_mtime, UTC),
        file=place,
    )
'''


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    return write_package(
        tmp_path / "site",
        "acme",
        {"acme_metric.py": METRIC, "acme_backend.py": BACKEND, "acme_importer.py": IMPORTER},
        {
            "ratchet.metrics": {"shouting": "acme_metric:Shouting"},
            "ratchet.backends": {"echo": "acme_backend:open_echo", "torn": "acme_gone:open"},
            "ratchet.importers": {"lines": "acme_importer:read_lines"},
        },
    )


def test_a_model_of_the_packages_backend_is_scored_by_its_metric(acme: Path) -> None:
    suite = suite_yaml(
        acme.parent,
        tasks={
            "ask": {
                "data": "capitals.jsonl",
                "prompt": {"user": "Capital of {{ country }}?"},
                "metrics": ["shouting"],
            }
        },
    )
    done = ratchet_with(acme, "score", "echo:Paris!", "--suite", str(suite))
    assert done.returncode == 0, done.stderr
    assert "ask/shouting" in done.stdout
    assert "echo:Paris!" in ratchet_with(acme, "runs").stdout


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("echo:", "echo has nothing to say"),
        ("ecko:Paris", "did you mean echo?"),
        ("mlx:Paris", "known are openai, vllm, echo, torn"),
        ("torn:Paris", "'torn' of the package acme can't be loaded"),
        ("run:1234", "names a run, but a model is needed here"),
    ],
)
def test_what_can_be_wrong_with_a_prefix_is_said(acme: Path, model: str, says: str) -> None:
    suite = suite_yaml(acme.parent)
    done = ratchet_with(acme, "score", model, "--suite", str(suite))
    assert (done.returncode, says in done.stderr) == (3, True), done.stderr


def test_a_run_comes_in_by_the_packages_importer(acme: Path) -> None:
    write_jsonl(acme.parent / "mine.jsonl", [{"id": n, "right": n % 2} for n in range(8)])
    done = ratchet_with(acme, "import", "lines", "mine.jsonl", "--run", "mine")
    assert done.returncode == 0, done.stderr
    assert "lines/right" in done.stdout
    assert "leave --lower out" in (
        ratchet_with(acme, "import", "lines", "mine.jsonl", "--lower", "right").stderr
    )
    (acme.parent / "torn.jsonl").write_text(json.dumps({"id": 1})[:-1], encoding="utf-8")
    assert ratchet_with(acme, "import", "lines", "torn.jsonl").returncode == 3


VERB = '''
"""A verb of a package."""

import nothing_that_is_there


def hello(who: str = "you") -> None:
    """Greet somebody."""
'''


def test_a_packages_verb_is_listed_unread_and_named_where_it_fails(tmp_path: Path) -> None:
    verbs = {"ratchet.verbs": {"hello": "acme_verb:hello", "wave": "acme_hands:wave"}}
    wave = 'def wave(times: int = 1) -> None:\n    """Wave a hand."""\n    print("o/" * times)\n'
    modules = {"acme_verb.py": VERB, "acme_hands.py": wave}
    acme = write_package(tmp_path / "site", "acme", modules, verbs)
    listed = ratchet_with(acme, "--help").stdout
    assert "Greet somebody." in listed
    assert "Wave a hand." in listed
    assert ratchet_with(acme, "wave", "--times", "2").stdout == "o/o/\n"
    torn = ratchet_with(acme, "hello")
    assert torn.returncode == 3
    assert "the verb 'hello' of the package acme can't be loaded" in torn.stderr


def test_no_package_takes_the_place_of_a_verb(tmp_path: Path) -> None:
    acme = write_package(tmp_path / "site", "acme", {}, {"ratchet.verbs": {"gate": "acme:gate"}})
    done = ratchet_with(acme, "gate", "run:1", "--against", "run:2")
    assert done.returncode == 3
    assert "the verb 'gate' is claimed by" in done.stderr
