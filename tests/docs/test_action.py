"""What docs/ci.md and action.yml tell a pipeline to run, run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.lm_eval import read_lm_eval
from harness.store.bundle import export_run
from harness.store.store import Store
from tests.harness.suite_builders import suite_yaml

ROOT = Path(__file__).parents[2]
LM_EVAL = ROOT / "tests" / "data" / "lm_eval"


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Where a runner stands: `candidate/` is worse than `baselines/support-bot/`."""
    with Store(Workspace.at(tmp_path / "elsewhere").ensure()) as store:
        for side, folder in (("a", "baselines/support-bot"), ("b", "candidate")):
            run, _ = take_in(store, read_lm_eval(LM_EVAL / side))
            (tmp_path / folder).parent.mkdir(exist_ok=True)
            export_run(store, run.id, tmp_path / folder)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "support.yaml").write_text("gate: {margin: 0.05}\n", encoding="utf-8")
    return tmp_path


def bash(script: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """As GitHub runs a step: `bash -e`, with this environment's `ratchet` on the PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "RATCHET_"))}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={**clean, "PATH": path, "COLUMNS": "160", **env},
        capture_output=True,
        text=True,
        check=False,
    )


def recipe(heading: str) -> str:
    """The shell block under a heading of docs/ci.md."""
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return found.group(1)


def gate_step(action: Mapping[str, Any]) -> str:
    return next(s["run"] for s in action["runs"]["steps"] if s.get("id") == "gate")


def step_env(folder: Path, **changes: str) -> dict[str, str]:
    return {
        "CANDIDATE": "bundle:candidate",
        "AGAINST": "bundle:baselines/support-bot",
        "SUITE": "",
        "POLICY": "",
        "ALLOW_INCONCLUSIVE": "false",
        "REPORT_DIR": "ratchet-report",
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        **changes,
    }


def test_every_input_is_described_and_every_one_used_exists(action: dict[str, Any]) -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    used = set(re.findall(r"inputs\.([a-z-]+)", text))
    assert used == set(action["inputs"])
    assert all(one["description"] for one in action["inputs"].values())
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    # An input that is pasted into a script is a script of whoever opens a pull request.
    assert not any("${{" in script for script in scripts)


def test_the_gate_step_fails_and_says_so_everywhere(action: dict[str, Any], checkout: Path) -> None:
    done = bash(gate_step(action), checkout, **step_env(checkout))
    assert done.returncode == 1, done.stderr
    assert "::error title=capitals_ppl/word_perplexity::" in done.stdout
    written = (checkout / "output").read_text(encoding="utf-8")
    outputs = dict(line.partition("=")[::2] for line in written.splitlines())
    assert (outputs["outcome"], outputs["exit-code"]) == ("fail", "1")
    for name, wanted in action["outputs"].items():
        assert f"steps.gate.outputs.{name} " in wanted["value"]
        assert name in outputs
    assert "fail" in (checkout / "summary.md").read_text(encoding="utf-8")
    reports = sorted(path.name for path in (checkout / "ratchet-report").iterdir())
    assert reports == ["verdict.json", "verdict.md", "verdict.xml"]


def test_an_undecided_verdict_may_be_allowed_and_a_missing_one_may_not(
    action: dict[str, Any], checkout: Path
) -> None:
    (checkout / "suites" / "p.yaml").write_text(
        "metrics:\n  capitals_mc/acc: {required: true}\n"
        "  word_perplexity: {advisory: true}\n  byte_perplexity: {advisory: true}\n"
    )
    undecided = {"POLICY": "suites/p.yaml"}
    assert bash(gate_step(action), checkout, **step_env(checkout, **undecided)).returncode == 2
    allowed = step_env(checkout, **undecided, ALLOW_INCONCLUSIVE="true")
    assert bash(gate_step(action), checkout, **allowed).returncode == 0
    missing = step_env(checkout, CANDIDATE="bundle:nowhere", ALLOW_INCONCLUSIVE="true")
    assert bash(gate_step(action), checkout, **missing).returncode == 3


def test_two_bundles_need_only_what_the_action_installs(
    action: dict[str, Any], checkout: Path
) -> None:
    """What a plain install doesn't bring can't be imported, and the verdict is the same."""
    install = next(s["run"] for s in action["runs"]["steps"] if s["name"] == "Install Ratchet")
    assert 'pip install --quiet "$SOURCE"' in install
    code = (
        "import sys\n"
        "from tests.plain_install import stand\n"
        "assert {'torch', 'pandas', 'transformers', 'streamlit'} <= stand()\n"
        "from harness.cli.app import main\n"
        "sys.exit(main(['gate', 'bundle:candidate', '--against', 'bundle:baselines/support-bot',"
        " '--junit', 'v.xml', '--markdown', 'v.md', '--json', 'v.json', '--summary']))\n"
    )
    done = bash('python -c "$CODE"', checkout, CODE=code, PYTHONPATH=str(ROOT))
    assert (done.returncode, "FAIL" in done.stdout) == (1, True), done.stderr


def test_the_recipe_for_the_runner(checkout: Path) -> None:
    done = bash(recipe("On the runner"), checkout)
    assert done.returncode == 1, done.stderr
    assert "policy: of support.yaml" in done.stdout
    assert (checkout / "verdict.xml").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.parametrize(("candidate", "code"), [("candidate", 1), ("baselines/support-bot", 0)])
def test_the_recipe_for_a_plain_shell(checkout: Path, candidate: str, code: int) -> None:
    script = recipe("Plain shell").replace("bundle:candidate", f"bundle:{candidate}")
    if code == 0:
        # A run that is compared with itself passes wherever its values say anything at all.
        (checkout / "p.yaml").write_text(
            "metrics: {word_perplexity: {required: true}, byte_perplexity: {required: true}}"
        )
        script = script.replace("--junit", "--policy p.yaml --junit")
    done = bash(script, checkout)
    assert done.returncode == code, done.stdout + done.stderr
    assert ("it got worse" if code else "promote it") in done.stdout


def test_the_gitlab_recipe_is_yaml_that_runs(checkout: Path) -> None:
    text = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    [block] = re.findall(r"## GitLab\n\n```yaml\n(.*?)```", text, re.DOTALL)
    job = yaml.safe_load(block)["gate"]
    assert job["allow_failure"] == {"exit_codes": [2]}
    [script] = [line for line in job["script"] if line.startswith("ratchet ")]
    assert bash(script, checkout).returncode == 1
    [workflow] = re.findall(r"## GitHub\n\n```yaml\n(.*?)```", text, re.DOTALL)
    steps = yaml.safe_load(workflow)["jobs"]["gate"]["steps"]
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    [own] = [step for step in steps if step.get("id") == "ratchet"]
    assert set(own["with"]) <= set(action["inputs"])


@pytest.mark.long
def test_score_export_gate_promote_as_the_page_says(tmp_path: Path, tiny_llama: Path) -> None:
    """The GPU box scores and exports, promotes, and the runner gates its bundle."""
    (tmp_path / "suites").mkdir()
    (tmp_path / "baselines").mkdir()
    (tmp_path / "my-checkpoint").symlink_to(tiny_llama)
    gate = {"metrics": {"read/perplexity": {"required": True}}}
    made = suite_yaml(tmp_path / "suites", gate=gate)
    made.rename(tmp_path / "suites" / "support.yaml")
    score, runs, export = recipe("On the GPU box").splitlines()
    assert bash(score, tmp_path).returncode == 0
    listed = bash(runs, tmp_path).stdout
    run = re.search(r"run:(\w+)", listed)
    assert run, listed
    done = bash(export.replace("run:ID", run.group(0)), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "candidate" / "run.json").is_file()
    promoted = bash("git init -q .\n" + recipe("Promotions"), tmp_path)
    assert promoted.returncode == 0, promoted.stdout + promoted.stderr
    assert "the policy sets no absolute requirement" in promoted.stdout
    assert bash("git diff --cached --name-only", tmp_path).stdout.count("support-bot") == 5
    # A runner is another machine: it has the bundles and no workspace.
    done = bash(recipe("On the runner"), tmp_path, RATCHET_HOME=str(tmp_path / "runner"))
    assert done.returncode == 0, done.stdout + done.stderr
