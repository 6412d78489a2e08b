"""The pages as a site: what is generated says what the code says, and the pictures are true."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"\d+\.\d+")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))


@pytest.fixture
def pictures(tools: None) -> ModuleType:
    import pictures

    return pictures


def test_the_pictures_are_what_the_functions_say(pictures: ModuleType) -> None:
    for name, draw in pictures.PICTURES.items():
        kept = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
        drawn = draw().drawn()
        assert NUMBER.sub("#", drawn) == NUMBER.sub("#", kept), name
        ours, theirs = (map(float, NUMBER.findall(text)) for text in (drawn, kept))
        assert list(ours) == pytest.approx(list(theirs), abs=2), name


@pytest.mark.long
def test_the_figures_of_the_page_are_measured(pictures: ModuleType) -> None:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    ten, one, ours = pictures.false_alarms().values()
    assert (
        f"rolls back {ten[1]:.0%} of the checkpoints that are *identical*\n"
        f"to their anchor, with 60 samples {ten[0]:.0%}. One metric alone: {one[1]:.0%} and "
        f"{one[0]:.0%}."
    ) in page
    assert max(ours) <= 0.065
    each, split = (rates[3] for rates in pictures.whole_trainings().values())
    assert f"At twenty checkpoints {each:.0%} become {split:.1%}" in page
    alphas = pictures.look_alphas(0.05, (0.25, 0.5, 1.0))
    assert ", ".join(f"{a:.3%}" for a in alphas[:2]) + f" and {alphas[2]:.3%}" in page


def test_the_reference_names_every_verb_key_and_metric(tools: None) -> None:
    from importlib.metadata import entry_points

    from reference import pages

    from harness.metrics import known_metrics
    from harness.suite.schema import SuiteModel

    made = dict(pages())
    verbs = {point.name for point in entry_points(group="ratchet.verbs")}
    assert all(f"## ratchet {verb}\n" in made["reference/commands.md"] for verb in verbs)
    assert json.loads(made["reference/suite.schema.json"]) == SuiteModel.model_json_schema()
    for key in ("max_new_tokens", "reserve", "margin", "rate_at_most", "waiver"):
        assert f"| `{key}` |" in made["reference/suite.md"]
    for name in known_metrics():
        assert f"## {name}\n" in made["reference/metrics.md"] or ":" in name


def test_the_reference_has_every_name_of_the_public_face(tools: None) -> None:
    from reference import FACE, pages

    import harness

    shown = {path.rpartition(".")[2]: path.rpartition(".")[0] for path in FACE}
    assert set(shown) - {"ScoredRun"} == set(harness.__all__)
    page = dict(pages())["reference/python.md"]
    for name, home in shown.items():
        assert f"\n## {name}\n\n::: {home}.{name}\n" in page
        found = getattr(importlib.import_module(home), name)
        if name not in ("gate", "ScoredRun"):  # the package `harness.gate` answers for its function
            assert found is getattr(harness, name)


def test_aligned_lines_become_a_list(tools: None) -> None:
    from aligned import as_markdown

    said = "What it is.\n\nname   as written\nlow, high   the range; None\n   where unbounded"
    assert as_markdown(said) == (
        "What it is.\n\n- `name`: as written\n- `low`, `high`: the range; None\n  where unbounded"
    )
    assert as_markdown("Plain words  here.\nAnd more.") == "Plain words  here.\nAnd more."


@pytest.mark.long
def test_the_site_is_built_strictly_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir"]
    subprocess.run([*command, str(built)], cwd=ROOT, check=True)
    assert (built / "files" / "action.yml").read_bytes() == (ROOT / "action.yml").read_bytes()
    fetched = re.compile(r'<(?:link|script|img|iframe)[^>]*(?:src|href)="(?:https?:)?//')
    for page in built.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not fetched.search(text), page
        assert "unpkg.com" not in text, page
    chinese = (built / "tutorial.zh.html").read_text(encoding="utf-8")
    assert '<html lang="zh-CN"' in chinese
