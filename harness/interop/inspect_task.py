"""Has Inspect run one of its tasks on a model that is served here, and reads its log as a run."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.backends.base import Candidate
from harness.core.errors import UserError
from harness.interop.door import MAX_TOKENS, Door, open_door
from harness.interop.importers.common import Imported, read_json
from harness.interop.importers.inspect_log import read_inspect

PREFIX = "inspect:"
_MODEL = "openai-api/ratchet/model"
_LAST = 12
"""How many of Inspect's last lines are shown where it failed."""


@dataclass(frozen=True)
class InspectTask:
    """A task as Inspect names it: `FILE.py@TASK`, `FILE.py`, or a registered `PACKAGE/TASK`.

    `python` is the interpreter that has Inspect; `arguments` are added to `inspect eval`.
    """

    name: str
    python: str = sys.executable
    arguments: Sequence[str] = ()

    def check(self) -> None:
        """Raise UserError for a task that isn't in its file, and where Inspect isn't installed."""
        file, _, task = self.name.partition("@")
        if file.endswith(".py"):
            _check_file(Path(file), task)
        elif not file:
            raise UserError("no task is named", field="--suite", hint="write inspect:FILE.py@TASK")
        asked = [self.python, "-c", "import inspect_ai, openai"]
        try:
            found = subprocess.run(asked, capture_output=True, text=True, check=False)
        except OSError as error:
            raise UserError(
                f"{self.python} can't be run: {error.strerror or error}", field="--inspect-python"
            ) from None
        if found.returncode != 0:
            said = (found.stderr.strip().splitlines() or ["it can't be imported"])[-1]
            raise UserError(
                f"Inspect is not installed for {self.python}: {said}",
                hint="pip install inspect-ai openai, there or in a virtual environment of its own: "
                "--inspect-python VENV/bin/python",
            )


def _check_file(file: Path, task: str) -> None:
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except OSError:
        raise UserError(
            "there is no such task file", file=file, hint="the path is relative to this folder"
        ) from None
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"this is no Python: {error}", file=file, line=line) from None
    known = [
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any(map(_is_task, node.decorator_list))
    ]
    if task and known and task not in known:
        raise UserError(
            f"the file has no task {task!r}", file=file, hint=f"its tasks are: {', '.join(known)}"
        )
    if not task and len(known) > 1:
        raise UserError(
            f"the file has {len(known)} tasks, and one run is of one task",
            file=file,
            hint=f"name one: {PREFIX}{file}@{known[0]}; there are {', '.join(known)}",
        )


def _is_task(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name == "task"


def score_by_inspect(
    task: InspectTask,
    candidate: Candidate,
    folder: Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda answers: None,
) -> Imported:
    """Run a task with Inspect in a process of its own, and read what it wrote into `folder`.

    The weights are loaded when Inspect first asks. `progress` is told how many answers were given.
    Raises UserError with Inspect's last lines where it ends without a result, and what the model
    raised where that was the reason. The process and the door are gone at the end, come what may.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.txt"
    with open_door(candidate.open, seed=seed) as door:
        limited = () if limit is None else ("--limit", str(limit))
        code = _run(_command(task, door, folder, limited), door, output, progress)
        if isinstance(door.failure, UserError):
            raise door.failure
    log = _log(folder, code, output)
    found = read_inspect(log, name=candidate.name)
    served = {"temperature": 0.0, "max_tokens": MAX_TOKENS, "seed": seed, "limit": limit}
    return replace(
        found,
        subject={**candidate.subject, "weights": candidate.digest, "asked by": "inspect"},
        seed=seed,
        tasks=tuple(
            replace(one, protocol={**one.protocol, "unless asked": served}) for one in found.tasks
        ),
    )


def _command(task: InspectTask, door: Door, folder: Path, limited: Sequence[str]) -> list[str]:
    return [
        *(task.python, "-m", "inspect_ai", "eval", task.name),
        *("--model", _MODEL, "--model-base-url", door.url),
        *("--log-dir", str(folder), "--log-format", "json", "--display", "plain"),
        # What fails here would fail again; and where this process is killed, Inspect soon ends.
        *("--max-retries", "1"),
        *limited,
        *task.arguments,
    ]


def _run(command: Sequence[str], door: Door, output: Path, progress: Callable[[int], None]) -> int:
    near = ",".join(filter(None, (os.environ.get("NO_PROXY"), "127.0.0.1")))
    environment = {
        **os.environ,
        **{"RATCHET_API_KEY": door.key, "NO_PROXY": near, "no_proxy": near},
        **{"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
    }
    with output.open("wb") as written, _stopped_by_term():
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(timeout=0.2)
                progress(door.answered)
                if isinstance(door.failure, UserError):
                    return 1
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Inspect and whatever it started: they are a group of their own."""
    for how, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, how)
        if process.poll() is not None and how is signal.SIGTERM:
            continue
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)


@contextlib.contextmanager
def _stopped_by_term() -> Iterator[None]:
    """SIGTERM, which would end this process at once, first has its clean-ups run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _log(folder: Path, code: int, output: Path) -> Path:
    """The one log of a finished evaluation. Raises UserError with what Inspect said."""
    logs = sorted(folder.glob("*.json"))
    if len(logs) > 1:
        raise UserError(
            f"Inspect ran {len(logs)} tasks, and one run is of one task",
            file=folder,
            hint="name one: inspect:FILE.py@TASK; each log can be imported: ratchet import inspect",
        )
    if logs:
        content = read_json(logs[0])
        status = content.get("status") if isinstance(content, dict) else None
        if status == "success":
            return logs[0]
        error = (content.get("error") or {}) if isinstance(content, dict) else {}
        if said := str(error.get("message") or "").strip():
            raise UserError(
                f"Inspect's evaluation ended with {status}: {said[:600]}",
                file=logs[0],
                hint=f"all it said is in {output}",
            )
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    last = "\n".join(f"  {line[:200]}" for line in lines[-_LAST:]) or "  (nothing)"
    raise UserError(
        f"Inspect ended without a result (exit code {code}); its last lines:\n{last}",
        file=output,
        hint="run `inspect eval` by hand to see more, or mend the task",
    )
