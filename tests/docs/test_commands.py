"""Every `ratchet` command of the pages is run: here, or in the test that is named for it."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from harness.cli.app import main
from tests.harness.suite_builders import suite_yaml, write_jsonl
from tests.harness.watch.watch_builders import LINE, Line, verdict_on
from tests.tiny import save_tiny_llama

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^\s*(ratchet [^\n]*?)(?:\s{2,}#[^\n]*)?$", re.MULTILINE)
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "sh", "bash")

PAGES_ELSEWHERE = {
    "docs/backends.md": "tests/harness/backends/test_docs.py",
    "docs/ecosystem.md": "tests/harness/backends/test_docs.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
    "docs/tutorial.zh.md": "tests/docs/test_tutorial.py",
    "docs/scaling.md": "tests/harness/backends/test_ray_pool.py",
    "docs/ci.md": "tests/docs/test_action.py",
    "docs/team.md": "tests/dashboard/test_team_end_to_end.py",
    "docs/wrap.md": "tests/trainers/wrap/test_follow.py",
}
"""Pages with a test of their own, which reads its commands from them."""

COMMANDS_ELSEWHERE = {
    "ratchet import lm-eval": "tests/harness/interop/test_importers.py",
    "ratchet import inspect": "tests/harness/interop/test_importers.py",
    "ratchet score my-model --suite inspect:": "tests/harness/interop/test_inspect_task.py",
    "ratchet import evalscope": "tests/harness/interop/test_evalscope.py",
    "ratchet import promptfoo": "tests/harness/interop/test_promptfoo.py",
    "ratchet import lighteval": "tests/harness/interop/test_lighteval.py",
    "ratchet import helm": "tests/harness/interop/test_helm.py",
    "ratchet import opencompass": "tests/harness/interop/test_opencompass.py",
    "ratchet import nemo": "tests/harness/interop/test_nemo.py",
    "ratchet init": "tests/harness/cli/test_init.py",
    "ratchet gate run:B --against run:A": "tests/harness/interop/test_importers.py",
    "ratchet train trainers/recipes/dpo.yaml": "tests/trainers/recipes/test_shipped.py",
    "ratchet train recipe.yaml --score-on openai:vllm.yaml": (
        "tests/trainers/loop/test_scored_on.py"
    ),
    "ratchet train recipe.yaml --aside cuda:1": "tests/trainers/loop/test_background_judge.py",
    "ratchet score my-run/checkpoint-*": "tests/harness/cli/test_several.py",
    "ratchet pick": "tests/harness/comparison/test_pick.py",
    "ratchet score my-model --suite suites/code.yaml": "tests/harness/metrics/test_code_suite.py",
    "ratchet problems": "tests/harness/metrics/test_code_tests.py",
    "ratchet explain": "tests/trainers/cli/test_explain.py",
    "ratchet data gate": "tests/trainers/cli/test_data_gate.py",
    "ratchet export-model": "tests/trainers/export/test_export.py",
    "ratchet dashboard": "tests/dashboard/app/test_browser.py",
    "ratchet data": "tests/trainers/cli/test_data.py",
    "ratchet demo-data": "tests/dashboard/conftest.py",
    "ratchet rate export": "tests/dashboard/rating/test_verbs.py",
}
"""Commands that need a world of their own, by how they begin: a test that makes it runs them."""

LASTING = ("serve", "--follow")
"""What goes on until somebody stops it."""


PATIENCE_S = 60
PASSED = {"outcome": "pass", "headline": "PASS"}
TOPICS = (
    *(
        "bread",
        "a lost key",
        "the weather",
        "invoices",
        "two passwords",
        "a late train",
        "a parcel",
    ),
    *("opening hours", "a refund", "noise at night", "the lift", "a birthday", "tea", "a passport"),
)


def commands(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    # Every fence is read, whatever its language: what ends one must not be taken to begin another.
    blocks = [block for language, block in FENCED.findall(text) if language in SHELL]
    return [found for block in blocks for found in COMMAND.findall(block)]


def elsewhere(command: str) -> str | None:
    known = [name for name in COMMANDS_ELSEWHERE if command.startswith(name)]
    dry = "--dry-run" in command
    return COMMANDS_ELSEWHERE[max(known, key=len)] if known and not dry else None


PAGES = sorted(
    {"README.md", "README.zh.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))}
)
HERE = [page for page in PAGES if page not in PAGES_ELSEWHERE and commands(page)]


def test_what_is_run_elsewhere_is_there() -> None:
    for place in {*PAGES_ELSEWHERE.values(), *COMMANDS_ELSEWHERE.values()}:
        assert (ROOT / place).is_file(), place
    for page, place in PAGES_ELSEWHERE.items():
        assert Path(page).name.split(".")[0] in (ROOT / place).read_text(encoding="utf-8").lower()


class Reader:
    """A folder in which what the pages name exists; `means` is what a reader puts for a word."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.line = Line(folder, "old", "good")
        save_tiny_llama(folder / "my-checkpoint")
        save_tiny_llama(folder / "my-model", seed=8)
        (folder / "suites" / "data").mkdir(parents=True)
        suite = suite_yaml(folder / "suites").rename(folder / "suites" / "support.yaml")
        self.means = {
            "my-org/my-model": str(folder / "my-model"),
            "my-model": str(folder / "my-model"),
            "./my-checkpoint": str(folder / "my-checkpoint"),
            "suites/support.yaml": str(suite),
            "https://hooks.example/ratchet": "http://127.0.0.1:9/ratchet",
        }
        self._observe()
        self._train_elsewhere()
        (folder / "watch.yaml").write_text("margin: 0.1\nsignals: {satisfaction: {margin: 0.2}}\n")
        (folder / "logs").mkdir()
        seen = [{"observation_id": f"f{n}", "prompt": "hi", "response": "yes"} for n in range(3)]
        write_jsonl(folder / "answers.jsonl", seen)
        (folder / "scores.csv").write_text(
            "task,metric,direction,sample_id,value\n"
            + "".join(f"ask,accuracy,higher,s{n},{n % 2}\n" for n in range(8))
        )

    def _train_elsewhere(self) -> None:
        """What LLaMA-Factory trains from: a configuration, and a table of data sets beside it."""
        rows = [{"instruction": f"Say {topic}.", "input": "", "output": topic} for topic in TOPICS]
        (self.folder / "alpaca.json").write_text(json.dumps(rows))
        (self.folder / "dataset_info.json").write_text('{"mine": {"file_name": "alpaca.json"}}')
        (self.folder / "llama3_lora_sft.yaml").write_text(
            f"model_name_or_path: {self.folder / 'my-model'}\n"
            "stage: sft\nfinetuning_type: lora\nlora_rank: 8\nlora_target: all\n"
            "dataset: mine\ndataset_dir: .\ntemplate: llama3\ncutoff_len: 2048\n"
            "num_train_epochs: 3.0\nlearning_rate: 1.0e-4\noutput_dir: saves\n"
        )

    def _observe(self) -> None:
        digest = self.line.digests["good"]
        self.line.observe(
            *(
                {
                    "observation_id": f"o{n}",
                    "model_digest": digest,
                    "prompt": f"what of {topic}, case {n}",
                    "response": f"nothing is known of {topic}",
                    "stars": 1.0,
                    "corrected_text": f"the answer about {topic} is {n}",
                }
                for n, topic in enumerate(TOPICS)
            )
        )

    def ask(self, command: str) -> list[str]:
        """The words of a command as this reader would type it."""
        words = shlex.split(command.replace("LINE|DIGEST|FOLDER", LINE))[1:]
        return [self._meant(word) for word in words]

    def _meant(self, word: str) -> str:
        for prefix in ("run:", "bundle:", ""):
            bare = word.removeprefix(prefix)
            if prefix and bare == word:
                continue
            if bare in self.means:
                return prefix + self.means[bare]
        return word


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(tmp_path_factory.mktemp("reader"))
    yield made
    made.line.store.close()


def typed(
    reader: Reader, command: str, capsys: pytest.CaptureFixture[str], **means: str
) -> tuple[int, str]:
    reader.means.update(means)
    words = reader.ask(command)
    if any(word in LASTING for word in words):
        return stopped(reader, words)
    capsys.readouterr()
    code = main([*words, "--home", str(reader.folder / ".ratchet")])
    said = capsys.readouterr()
    return code, said.out + said.err


def stopped(reader: Reader, words: list[str]) -> tuple[int, str]:
    """Begin it, wait for its first word, and stop it."""
    port = ["--port", "0"] if "serve" in words else []
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "harness", *words, *port, "--home", ".ratchet"],
        cwd=reader.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    ) as process:
        assert process.stdout is not None
        select.select([process.stdout], [], [], PATIENCE_S)
        process.terminate()
        said = process.communicate(timeout=PATIENCE_S)[0]
    return process.returncode, said


@pytest.mark.long
@pytest.mark.parametrize("page", HERE)
def test_the_commands_of_a_page_run(
    page: str,
    reader: Reader,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(reader.folder)
    monkeypatch.delenv("RATCHET_HOME", raising=False)
    for line in commands(page):
        for command in line.split(" && "):
            if elsewhere(command):
                continue
            reader.means.update(world_of(page, command, reader, capsys))
            code, said = typed(reader, command, capsys)
            assert code in expected(command), f"{page}: {command}\n{said}"
            assert "Traceback" not in said


def expected(command: str) -> tuple[int, ...]:
    """Exit codes that a right command may have: verdicts are the data's, not the page's."""
    if any(word in command.split() for word in LASTING):
        return (0, -signal.SIGTERM)
    verb = " ".join(command.split()[1:3])
    if verb in ("watch check", "watch status", "watch canary", "watch ramp", "rate status"):
        return (0, 1, 2)
    verdicts = ("ratchet gate", "ratchet status")
    return (0, 1, 2) if command.startswith(verdicts) else (0,)


def world_of(
    page: str, command: str, reader: Reader, capsys: pytest.CaptureFixture[str]
) -> Mapping[str, str]:
    """What a command's own words stand for, made where it isn't there yet."""
    support = str(reader.folder / "suites" / "support.yaml")
    known: dict[str, str] = {}
    if command.startswith("ratchet score"):
        # The same verb upon a suite that a tiny model is done with in a second.
        known |= dict.fromkeys(("suites/quickstart.yaml", "suites/chat-zh.yaml"), support)
    elif command.startswith(("ratchet suites", "ratchet recipes", "ratchet train")):
        shipped = [*ROOT.glob("suites/*.yaml"), *ROOT.glob("trainers/recipes/*.yaml")]
        known |= {str(path.relative_to(ROOT)): str(path) for path in shipped}
    if "RUN" in command or "run:" in command:
        a, b = two_runs(reader, capsys)
        known |= {"ID": a, "RUN_A": a, "RUN_B": b}
    if "SESSION" in command:
        rows = reader.line.store.query("SELECT session_id FROM rating_sessions ORDER BY seq DESC")
        known["SESSION"] = rows[0]["session_id"]
    if "3f9a21c4" in command:
        typed(reader, f"ratchet watch harvest {LINE}", capsys)
        rows = reader.line.store.query("SELECT item_id FROM harvested ORDER BY seq")
        known["3f9a21c4"] = rows[0]["item_id"]
    if "--to " in command and "harvest" in command:
        for row in reader.line.store.query("SELECT item_id FROM harvested"):
            yes = f"ratchet watch review {row['item_id']} --yes --target fine --by ann"
            assert typed(reader, yes, capsys)[0] == 0
    if "watch answer" in command:
        alarm = verdict_on(reader.line.digests["good"], watch_id=uuid.uuid4().hex[:16])
        reader.line.store.append("watch_verdicts", [alarm.row()])
    if "watch canary" in command:
        if len(shlex.split(command)) > 4:  # it begins one: end what another page began
            typed(reader, f"ratchet watch ramp {LINE} --abort --act", capsys)
        known["3f9a…"] = passed(reader, reader.folder / "my-model")
        passed(reader, reader.folder / "my-checkpoint")
    return known


def passed(reader: Reader, model: Path) -> str:
    """The digest of a model that the gate has passed."""
    run = f"run-of-{model.name}"
    reader.line.store.append("verdicts", [{"verdict_id": run, "candidate_run": run, **PASSED}])
    return reader.line.registry.add(model, run_id=run)


def two_runs(reader: Reader, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Runs of two models on one suite."""
    models = reader.line.store.query("SELECT DISTINCT model FROM runs")
    if len(models) < 2:
        support = reader.folder / "suites" / "support.yaml"
        for model in ("my-model", "./my-checkpoint"):
            words = f"ratchet score {model} --suite {support}"
            assert typed(reader, words, capsys)[0] == 0
    rows = reader.line.store.query(
        "SELECT arg_max(run_id, seq) AS run_id FROM runs WHERE suite = 'capitals' GROUP BY model "
        "ORDER BY model LIMIT 2"
    )
    first, second = (row["run_id"] for row in rows)
    return first, second
