"""Each example of CONTRIBUTING.md is written where it says, and what it adds is used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.fake_package import write_package
from tests.harness.suite_builders import suite_yaml
from tests.trainers.recipe_builders import write_world

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```(?:python|toml|yaml|json)\n# ([^\n]+)\n(.*?)^```", re.MULTILINE | re.DOTALL
)
EDIT = re.compile(r"in (\S+), (after|before|instead of): (.+)")


def section(heading: str) -> list[tuple[str, str]]:
    """(where it goes, text) of each block under a heading."""
    found = PAGE.split(f"\n### {heading}\n")[1]
    return BLOCK.findall(re.split(r"\n##+ ", found)[0])


def write(blocks: list[tuple[str, str]], folder: Path) -> None:
    """Write each block to the file that its first line names, below `folder`."""
    for place, text in blocks:
        if place.startswith("new file: "):
            path = folder / place.removeprefix("new file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif "pyproject.toml" in place:
            points = tomllib.loads(text)["project"]["entry-points"]
            write_package(folder, "my_ratchet", {}, points)
        else:
            edit(folder, place, text)


def edit(folder: Path, place: str, text: str) -> None:
    found = EDIT.fullmatch(place)
    assert found, place
    path = folder / found[1]
    before = path.read_text(encoding="utf-8")
    assert before.count(found[3]) >= 1, f"{found[1]} has no {found[3]!r} any more"
    head, tail = before.split(found[3], 1)
    if found[2] == "before":
        after = head + text + "\n" + found[3] + tail
    elif found[2] == "instead of":
        after = head + text.rstrip("\n") + tail
    elif text.startswith(","):
        after = head + found[3] + text.rstrip("\n") + tail
    else:
        after = head + found[3] + "\n" + text.rstrip("\n") + tail
    path.write_text(after, encoding="utf-8")


@dataclass(frozen=True)
class Place:
    """A folder of a contributor, first on the path of a new Python."""

    folder: Path

    def python(self, *words: object, codes: tuple[int, ...] = (0,)) -> str:
        env = {**os.environ, "PYTHONPATH": f"{self.folder}:{ROOT}", "COLUMNS": "200"}
        env["RATCHET_HOME"] = str(self.folder / ".ratchet")
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode in codes, done.stdout + done.stderr
        return done.stdout

    def ratchet(self, *words: object, codes: tuple[int, ...] = (0,)) -> str:
        return self.python("-m", "harness", *words, codes=codes)


@pytest.fixture
def package(tmp_path: Path) -> Place:
    """Where a package of the contributor's own is installed."""
    return Place(tmp_path)


@pytest.fixture
def house(tmp_path: Path) -> Place:
    """A copy of the three rooms, to be changed."""
    for room in ("harness", "trainers", "dashboard"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tmp_path / room, ignore=ignored)
    return Place(tmp_path)


def test_a_metric(package: Place, tiny_llama: Path) -> None:
    write(section("A metric"), package.folder)
    suite = suite_yaml(
        package.folder,
        tasks={
            "talk": {
                "data": "capitals.jsonl",
                "prompt": {"user": "Tell me of {{ country }}."},
                "generate": {"max_new_tokens": 8},
                "metrics": ["length", {"shouting": {"limit": 2}}],
            }
        },
    )
    assert "talk/shouting" in package.ratchet("score", tiny_llama, "--suite", suite)


def test_a_verb(package: Place, tiny_llama: Path) -> None:
    write(section("A verb"), package.folder)
    suite = suite_yaml(package.folder)
    package.ratchet("score", tiny_llama, "--suite", suite)
    lengths = [int(n) for n in re.findall(r"^(\d+): ", package.ratchet("longest", "-n", 4), re.M)]
    assert len(lengths) == 4
    assert lengths == sorted(lengths, reverse=True)
    assert "longest" in package.ratchet("--help")


def test_a_backend(package: Place) -> None:
    write(section("A backend"), package.folder)
    suite = suite_yaml(package.folder)
    assert "ask/exact_match" in package.ratchet("score", "parrot:Paris", "--suite", suite)
    answers = package.python(
        "-m", "harness", "report", re.findall(r"run:(\w+)", package.ratchet("runs"))[0]
    )
    assert "parrot:Paris" in answers


def test_a_trainer(package: Place, tiny_llama: Path) -> None:
    from safetensors.torch import load_file

    write(section("A trainer"), package.folder)
    recipe = write_world(package.folder, tiny_llama, spoiled=False, talk=False)
    document = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    own = {"trainer": "last_layers", "options": {"count": 1}, "steps": 2, "checkpoint_every": 2}
    document["stages"][0].update(own)
    recipe.write_text(yaml.safe_dump(document), encoding="utf-8")
    package.ratchet("train", recipe, codes=(0, 1, 2))
    kept = package.folder / ".ratchet" / "trainings"
    [trained] = kept.glob("*/checkpoints/step-000002/model.safetensors")
    before, after = load_file(tiny_llama / "model.safetensors"), load_file(trained)
    changed = {name for name in before if not before[name].equal(after[name])}
    assert any("layers.1." in name for name in changed)
    assert not any("layers.0." in name for name in changed)


def test_an_importer(package: Place) -> None:
    write(section("An importer"), package.folder)
    (package.folder / "june.txt").write_text("q1 7\nq2 9\nq3 4\n", encoding="utf-8")
    assert "exam/mark" in package.ratchet("import", "marks", "june.txt")


def test_a_table(house: Place) -> None:
    program = (
        "from harness.core.workspace import Workspace\n"
        "from harness.store.store import Store\n"
        "with Store(Workspace.at().ensure()) as store:\n"
        "    {}\n"
    )
    old = "store.append('runs', []); print(store.query('SELECT version FROM schema_version'))"
    assert "'version': 8" in house.python("-c", program.format(old))
    write(section("A table"), house.folder)
    new = (
        "store.append('notes', [{'run_id': 'r', 'text': 'odd'}]); "
        "print(store.query('SELECT run_id, text, written_at IS NOT NULL AS timed FROM notes'))"
    )
    said = house.python("-c", program.format(new))
    assert said.strip() == "[{'run_id': 'r', 'text': 'odd', 'timed': True}]"


def test_a_page(house: Place) -> None:
    write(section("A page"), house.folder)
    house.ratchet("demo-data", "--nights", 3)
    program = (
        "from streamlit.testing.v1 import AppTest\n"
        "script = 'from dashboard.app.main import run\\nrun({!r})'.format('suites')\n"
        "for language in ('en', 'zh'):\n"
        "    app = AppTest.from_string(script, default_timeout=60)\n"
        "    app.query_params['lang'] = language\n"
        "    app.run()\n"
        "    assert not app.exception, app.exception[0].value\n"
        "    print(app.title[0].value, [one.value for one in app.markdown])\n"
    )
    english, chinese = house.python("-c", program).splitlines()
    assert english.startswith("Suites [")
    assert re.search(r"\*\*[^*]+\*\* · \d+", english)
    assert chinese.startswith("评测集一览 [")


def test_every_example_has_a_test() -> None:
    headings = re.findall(r"^### An? (\w+)$", PAGE, re.MULTILINE)
    assert {f"test_a_{heading}" for heading in headings} <= {
        name.replace("test_an_", "test_a_") for name in globals()
    }
