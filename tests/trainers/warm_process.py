"""Processes that train without importing everything anew: they are forked from one that has.

Each is a process of its own, and dies of SIGKILL as any other; only its imports are not paid for
again, which cost more than a tiny training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.core.fault_points import FAULT_VARIABLE

ROOT = Path(__file__).parents[2]


class Warm:
    """The process that forks. Use as a context manager."""

    def __enter__(self) -> Warm:
        quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **quiet, "PYTHONPATH": str(ROOT)},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)

    def start(self, words: list[str], out: Path, **environment: str) -> Process:
        """`ratchet WORDS` in a new process, which appends what it says to `out`."""
        asked = {"words": words, "out": str(out), "environment": environment}
        return Process(self, int(self.ask(**asked)["pid"]))

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps(request), file=self._server.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


class Process:
    """As much of `subprocess.Popen` as the tests need."""

    def __init__(self, warm: Warm, pid: int) -> None:
        self._warm, self.pid = warm, pid

    def wait(self, timeout: float) -> int:
        """Its exit code, negative for a signal. Raises TimeoutExpired where it still runs."""
        code = self._warm.ask(wait=self.pid, timeout=timeout)["code"]
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return int(code)

    def kill(self) -> None:
        self._warm.ask(kill=self.pid)


def start(warm: Warm, folder: Path, fault: str | None = None, *options: str) -> Process:
    """Train the recipe of a folder, to be killed at `fault` where one is named."""
    words = ["train", str(folder / "recipe.yaml"), "--home", str(folder / "home"), *options]
    environment = {FAULT_VARIABLE: fault} if fault else {}
    return warm.start(words, folder / "out.txt", **environment)


# -- the process that forks ------------------------------------------------------------------


def serve() -> None:
    import torch  # noqa: F401
    from trl.trainer.dpo_trainer import DPOTrainer  # noqa: F401
    from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: F401
    from trl.trainer.rloo_trainer import RLOOTrainer  # noqa: F401
    from trl.trainer.sft_trainer import SFTTrainer  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "words" in request:
            answer = {"pid": _fork(request)}
        elif "kill" in request:
            os.kill(request["kill"], 9)
            answer = {}
        else:
            answer = {"code": _code(request["wait"], time.monotonic() + request["timeout"])}
        print(json.dumps(answer), flush=True)


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.environ.update(request["environment"])
    from harness.cli.app import main

    code = main(request["words"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _code(pid: int, until: float) -> int | None:
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.02)


if __name__ == "__main__":
    serve()
