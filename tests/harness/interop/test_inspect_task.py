"""A task of Inspect is run on a model that is served here: with a stand-in for Inspect, and with
Inspect itself where it is installed (RATCHET_INSPECT_PYTHON names the Python that has it).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from harness.interop.importers.common import take_in
from harness.interop.inspect_task import InspectTask, score_by_inspect
from harness.store.store import Store
from tests.harness.suite_builders import Ratchet
from tests.tiny import save_tiny_llama

STAND_IN = """
import json, os, subprocess, sys, time, urllib.request
given = sys.argv[1:]
task, option = given[1], lambda name: given[given.index(name) + 1]
name = task.rpartition("@")[2]
if name == "crash":
    print("Traceback (most recent call last):")
    sys.exit("ModuleNotFoundError: No module named 'their_tools'")
if name == "hang":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open("pids", "w").write(f"{os.getpid()} {child.pid}")
    time.sleep(600)

def ask(said):
    body = json.dumps({"messages": [{"role": "user", "content": said}], "max_tokens": 4}).encode()
    key = {"authorization": "Bearer " + os.environ["RATCHET_API_KEY"]}
    request = urllib.request.Request(option("--model-base-url") + "/chat/completions", body, key)
    return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]

count = int(option("--limit")) if "--limit" in given else 40
samples = []
for number in range(count):
    said = ask(f"{number}?")
    grade = {"value": "C" if "yes" in said else "I"}
    samples.append({
        "id": f"s{number}", "epoch": 1, "input": f"{number}?", "target": "yes",
        "output": {"completion": said}, "scores": {"includes": grade},
    })
status = "error" if name == "fails" else "success"
log = {
    "version": 2, "status": status, "error": {"message": "the sandbox is gone"},
    "eval": {"task": name, "created": "2026-12-01T00:00:00+00:00", "model": option("--model"),
             "task_args": {"more": given[given.index("--max-retries") + 2:]}},
    "plan": {"steps": []}, "results": {"total_samples": count}, "samples": samples,
}
json.dump(log, open(os.path.join(option("--log-dir"), "log.json"), "w"))
"""

TASKS = """
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import tool

@tool
def double():
    async def execute(x: int):
        '''Double a number.

        Args:
            x: The number.
        '''
        return f"it is {2 * x}"
    return execute

@task
def agent():
    asked = [Sample(input=f"What is twice {n}?", target=str(2 * n), id=str(n)) for n in (21, 33)]
    return Task(dataset=asked, solver=[use_tools(double()), generate()], scorer=includes())

@task
def good():
    return Task(dataset=[Sample(input="?", target="yes")], solver=generate(), scorer=includes())
"""

PYTHON = os.environ.get("RATCHET_INSPECT_PYTHON", sys.executable)
REAL = not subprocess.run(
    [PYTHON, "-c", "import importlib.util as u; assert u.find_spec('inspect_ai')"],
    capture_output=True,
    check=False,
).returncode


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `python -m inspect_ai` is the stand-in."""
    packages = tmp_path / "packages"
    (packages / "inspect_ai").mkdir(parents=True)
    (packages / "inspect_ai" / "__init__.py").write_text("")
    (packages / "inspect_ai" / "__main__.py").write_text(STAND_IN)
    (packages / "openai.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(packages))
    monkeypatch.delenv("RATCHET_INSPECT_PYTHON", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saying(answers: Any, name: str = "scripted") -> Candidate:
    backend = ScriptedBackend(answers, max_length=20_000)
    return Candidate(name, f"digest of {name}", backend.subject, lambda: backend)


def test_what_inspect_found_is_a_run_that_is_gated(
    stand_in: Path, store: Store, ratchet: Ratchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for name, word in (("good", "yes"), ("bad", "no")):
        candidate = saying(lambda *_, word=word: word, name)
        found = score_by_inspect(InspectTask("good"), candidate, stand_in / name, seed=3)
        run, new = take_in(store, found)
        assert (run.model, new) == (name, True)
        assert found.subject["weights"] == f"digest of {name}"
        runs.append(run.id)
    monkeypatch.setenv("RATCHET_HOME", str(stand_in / "home"))
    code, said = ratchet("gate", f"run:{runs[1]}", "--against", f"run:{runs[0]}")
    assert (code, "FAIL: good/includes" in said) == (1, True), said


def test_one_command_is_one_run(stand_in: Path, ratchet: Ratchet) -> None:
    model = save_tiny_llama(stand_in / "model")
    asked = ("score", model, "--suite", "inspect:good", "--limit", 2)
    code, said = ratchet(*asked, "--inspect-args", "-T level=2")
    assert code == 0, said
    for part in ("good/includes", "2 of 2", "is here; next: ratchet gate run:"):
        assert part in said
    (log,) = (stand_in / "home" / "logs").glob("inspect-*/log.json")
    assert '"more": ["--limit", "2", "-T", "level=2"]' in log.read_text()


@pytest.mark.parametrize(
    ("task", "options", "parts"),
    [
        ("crash", (), ["exit code 1", "No module named 'their_tools'", "output.txt"]),
        ("fails", (), ["ended with error: the sandbox is gone", "output.txt"]),
        ("own.py@agents", (), ["no task 'agents'", "agent, good"]),
        ("own.py", (), ["the file has 2 tasks", "inspect:own.py@agent"]),
        ("other.py@agent", (), ["there is no such task file", "other.py"]),
        ("torn.py@agent", (), ["this is no Python", "torn.py:1"]),
        ("", (), ["no task is named"]),
        ("good", ("--reserve",), ["has no such choice", "--reserve"]),
        ("good", ("--inspect-python", "nowhere/python"), ["nowhere/python can't be run"]),
    ],
)
def test_what_is_wrong_is_one_message(
    stand_in: Path, ratchet: Ratchet, task: str, options: tuple[str, ...], parts: list[str]
) -> None:
    (stand_in / "own.py").write_text(TASKS)
    (stand_in / "torn.py").write_text("def (")
    model = save_tiny_llama(stand_in / "model")
    code, said = ratchet("score", model, "--suite", f"inspect:{task}", *options)
    assert (code, [part for part in parts if part not in said]) == (3, []), said


def test_a_missing_inspect_is_said_before_anything_is_loaded(
    stand_in: Path, ratchet: Ratchet
) -> None:
    (stand_in / "packages" / "openai.py").write_text("raise ImportError('no openai here')")
    code, said = ratchet("score", "nowhere", "--suite", "inspect:good")
    assert (code, "Inspect is not installed" in said, "no openai here" in said) == (3, True, True)
    assert "pip install inspect-ai openai" in said


def test_what_the_model_raised_is_the_message(stand_in: Path) -> None:
    def broken() -> Any:
        raise UserError("the weights are torn")

    candidate = Candidate("m", "d", {"backend": "scripted"}, broken)
    with pytest.raises(UserError, match="the weights are torn"):
        score_by_inspect(InspectTask("good"), candidate, stand_in / "logs")


def test_other_verbs_say_who_scores_such_a_task(stand_in: Path, ratchet: Ratchet) -> None:
    code, said = ratchet("suites", "check", "inspect:own.py@agent")
    assert (code, "ratchet score MODEL --suite inspect:own.py@agent" in said) == (3, True), said


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_nothing_is_left_running_where_it_is_ended(stand_in: Path) -> None:
    model = save_tiny_llama(stand_in / "model")
    words = [sys.executable, "-m", "harness", "score", str(model), "--suite", "inspect:hang"]
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join((str(stand_in / "packages"), root))
    process = subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": path, "RATCHET_HOME": str(stand_in / "home")}
    )
    pids = stand_in / "pids"
    until = time.monotonic() + 100
    while time.monotonic() < until and not (pids.exists() and pids.read_text().count(" ")):
        time.sleep(0.1)
    started = [int(pid) for pid in pids.read_text().split()]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    assert [pid for pid in started if _runs(pid)] == []


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.long
@pytest.mark.skipif(not REAL, reason="Inspect is not installed")
def test_inspect_itself_runs_an_agent_with_tools(tmp_path: Path, store: Store) -> None:
    (tmp_path / "own.py").write_text(TASKS)

    def answer(prompt: str, _: int) -> str:
        result = prompt.rpartition("tool: it is ")[2].split("\n")[0]
        if "tool: it is " in prompt:
            return f"That is {result}."
        number = 21 if "twice 21" in prompt else 33
        return f'<tool_call>{{"name": "double", "arguments": {{"x": {number}}}}}</tool_call>'

    task = InspectTask(f"{tmp_path / 'own.py'}@agent", PYTHON)
    task.check()
    found = score_by_inspect(task, saying(answer), tmp_path / "logs")
    run, _ = take_in(store, found)
    values = store.query("SELECT value FROM scores WHERE run_id = ?", [run.id])
    assert [row["value"] for row in values] == [1.0, 1.0]
