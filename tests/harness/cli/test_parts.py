"""Every verb where only `pip install ratchet-eval` was typed: it works, or says what to type."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.core.parts import missing_part, require_part
from tests.harness.suite_builders import suite_yaml
from tests.harness.watch.watch_builders import LINE, Line, verdict_on

ROOT = Path(__file__).parents[3]
HERE = "works"
RUNS = """
import contextlib, io, json, sys
from tests.plain_install import stand
stand()
from harness.cli.app import main
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
    print(json.dumps([code, err.getvalue(), out.getvalue()]), file=sys.__stdout__, flush=True)
"""

VERBS = {
    # What a plain install is for.
    "import": ("import csv a.csv --run a", HERE),
    "export": ("export a bundle", HERE),
    "gate": ("gate run:b --against run:a", HERE),
    "report": ("report a", HERE),
    "runs": ("runs", HERE),
    "note": ("note a well", HERE),
    "publish": ("publish a --to tensorboard:logs", "tensorboard"),
    "init": ("init capitals.jsonl --yes --out made.yaml", HERE),
    "suites": ("suites check suite.yaml", HERE),
    "promote": ("promote model-good --line other --override first", HERE),
    "rollback": (f"rollback {LINE}", HERE),
    "history": ("history", HERE),
    "status": ("status", HERE),
    "verify": ("verify", HERE),
    "prune": ("prune", HERE),
    "push": ("push shared", HERE),
    "pull": ("pull shared", HERE),
    "doctor": ("doctor", HERE),
    "sandbox": ("sandbox --help", HERE),
    "problems": ("problems a", HERE),
    "explain": ("explain b", HERE),
    "watch": (f"watch check {LINE}", HERE),
    "alerts": ("alerts", HERE),
    "recipes": ("recipes check recipe.yaml", HERE),
    "data": ("data --help", HERE),
    # What needs a part.
    "score": ("score model-good --suite suite.yaml", "score"),
    "rescore": ("rescore a --suite suite.yaml", HERE),
    "pick": ("pick model-good model-old --suite suite.yaml", "score"),
    "calibrate": ("calibrate model-good --suite suite.yaml", "score"),
    "parity": ("parity model-good --suite suite.yaml", "score"),
    "drift": ("drift b --against a", "score"),
    "train": ("train recipe.yaml", "train"),
    "follow": ("follow . --suite suite.yaml", "score"),
    "export-model": ("export-model model-good --to out", HERE),
    "rate": ("rate serve", "dashboard"),
    "dashboard": ("dashboard", "dashboard"),
    "demo-data": ("--home empty demo-data --nights 1", "score"),
}
"""Verb -> words that go as far as a library would be needed, and what comes of it."""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Verb -> (exit code, what it printed), each run behind the wall in one workspace."""
    folder = tmp_path_factory.mktemp("plain")
    line = Line(folder, "old", "good")
    line.store.append("watch_verdicts", [verdict_on(line.digests["good"]).row()])
    line.store.close()
    suite_yaml(folder).rename(folder / "suite.yaml")
    (folder / "recipe.yaml").write_text(
        "name: q\nline: q\nbase: model-good\n"
        "data: {mix: [{source: capitals.jsonl, weight: 1, text: '{{ country }}'}]}\n"
        "stages: [{trainer: sft, steps: 1, checkpoint_every: 1}]\ngate: {suite: suite.yaml}\n"
    )
    for name, modulus in (("a", 2), ("b", 3)):
        rows = "".join(f"t,acc,higher,s{n},{n % modulus > 0:d}\n" for n in range(30))
        (folder / f"{name}.csv").write_text(f"task,metric,direction,sample_id,value\n{rows}")
    asked = {verb: words.split() for verb, (words, _) in VERBS.items()}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            RUNS,
            json.dumps([["import", "csv", "b.csv", "--run", "b"], *asked.values()]),
        ],
        cwd=folder,
        env={**os.environ, "RATCHET_HOME": str(line.workspace.home), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(text) for text in done.stdout.splitlines() if text.startswith("[")]
    return dict(zip(asked, answers[1:], strict=True))


def test_every_verb_is_tried():
    assert {point.name for point in entry_points(group="ratchet.verbs")} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_works_or_says_what_to_type(said, verb):
    code, err, out = said[verb]
    part = VERBS[verb][1]
    if part == HERE:
        assert code in (0, 1, 2, 3), err + out
        assert "not installed" not in err
    else:
        assert code == 3, err + out
        hint = re.escape(f"pip install 'ratchet-eval[{part}]'")
        assert re.fullmatch(rf"error: .*not installed.*\n(  where: .*\n)?  hint:  {hint}\n", err), (
            err
        )


def test_the_gate_decides_behind_the_wall(said):
    code, _, out = said["gate"]
    assert code in (1, 2)
    assert "t/acc" in out


def test_a_library_of_nobodys_is_a_defect_and_not_a_part():
    assert missing_part(ModuleNotFoundError("No module named 'harnes'", name="harnes")) is None
    assert missing_part(ValueError("x")) is None


def test_the_cause_is_found_behind_other_errors():
    try:
        try:
            raise ModuleNotFoundError("No module named 'trl.trainer'", name="trl.trainer")
        except ModuleNotFoundError as error:
            raise RuntimeError("it can't be loaded") from error
    except RuntimeError as error:
        found = missing_part(error)
    assert found is not None
    assert found.hint == "pip install 'ratchet-eval[train]'"


def test_a_part_that_is_lacking_is_said_before_it_is_needed():
    require_part("dashboard", "json")
    with pytest.raises(UserError, match="needs no_such_library"):
        require_part("dashboard", "no_such_library")
