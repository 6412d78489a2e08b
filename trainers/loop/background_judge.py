"""Judges checkpoints in a second process while the training goes on: `--aside DEVICE`.

That process has a model of its own, read from a checkpoint's files, and the same judge. It is asked
about one checkpoint at a time, in their order, with the state that the verdict rests on: a late
verdict is the one that would have been reached at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from harness.backends.base import Backend
from harness.core.errors import UserError
from harness.models.kept_base import KeptBase
from harness.models.resolve import ModelFiles
from trainers.checkpoints.folder import CheckpointFolder
from trainers.checkpoints.state import TrainingState
from trainers.config.recipe import Recipe
from trainers.distributed.sharding import USE_DEEPSPEED
from trainers.loop.judge import Judging
from trainers.loop.opinion import Opinion
from trainers.loop.reporter import Reporter
from trainers.loop.stage_run import StageRun

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PROCESS = "trainers.loop.background_process"

LAG = 2
"""How many checkpoints may be undecided before the training waits. A late FAIL then takes back the
segment that led to it and two more at most."""

DEATHS = 2
"""How often the second process may die of one checkpoint."""

PATIENCE_S = 5.0
"""How long the second process may take to put away what it has open elsewhere."""

PROGRESS_S = 2.0
"""How often its bars are told of. Nobody may be listening during a long step, and a full pipe would
hold up the judge."""


def require_background_device(recipe: Recipe, device: str | None) -> None:
    """Raises UserError where the recipe's checkpoints can't be judged on `device`; None is none."""
    if device is None:
        return
    if recipe.model.quantize:
        raise UserError(
            "a quantized base is scored by the live model alone",
            file=recipe.path,
            field="quantize",
            hint="leave out --aside",
        )
    import torch

    try:
        found = torch.device(device)
        if found.type != "meta":
            torch.empty(1, device=found)
            return
    except (RuntimeError, AssertionError):
        pass
    raise UserError(
        f"there is no device {device!r} here to judge checkpoints on",
        field="--aside",
        hint="name one as torch does: cpu, cuda:1, …",
    )


@dataclass(frozen=True, slots=True)
class _Process:
    """What the second process is made of."""

    run: StageRun
    device: str
    threads: int


class BackgroundJudge:
    """A judge (`trainers.loop.judge.Judge`) whose work is done by another process."""

    lag = LAG

    def __init__(
        self,
        run: StageRun,
        device: str,
        reporter: Reporter,
    ) -> None:
        import torch

        # On one CPU both work at once; a judge on another device needs few threads in any case.
        threads = max(1, torch.get_num_threads() // 2)
        self._made_of = _Process(run, device, threads)
        self._reporter = reporter
        self._asked = False
        self._deaths = 0
        self._start()

    def opinion(self, step: int, state: TrainingState, *, wait: bool) -> Opinion | None:
        """The opinion on a checkpoint, None while there is none yet. Ask about another one only
        when this one is known. Raises what the judge raised.
        """
        if not self._asked:
            self._ask(step, state)
        while wait or self._pipe.poll():
            try:
                kind, words = self._pipe.recv()
            except (EOFError, ConnectionResetError):
                self._begin_again(step, state)
                continue
            if kind == "opinion":
                self._asked, self._deaths = False, 0
                return cast(Opinion, words[0])
            if kind == "error":
                self._asked = False
                raise words[0]
            getattr(self._reporter, kind)(*words)
        return None

    def close(self) -> None:
        """End the process, whatever it is doing: what it has stored stays, and is found again."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe.close()

    def _start(self) -> None:
        from multiprocessing import Pipe

        self._pipe, theirs = Pipe()
        # Not a process of multiprocessing's: that would run the caller's own script once more.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", PROCESS, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=_environment(),
            stdin=subprocess.DEVNULL,
        )
        # Held by the child alone, it is closed when the child ends.
        theirs.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(self._made_of)

    def _ask(self, step: int, state: TrainingState) -> None:
        self._asked = True
        try:
            self._pipe.send((step, state))
        except (BrokenPipeError, ConnectionResetError):
            self._begin_again(step, state)

    def _begin_again(self, step: int, state: TrainingState) -> None:
        self.close()
        self._deaths += 1
        code = self._process.returncode
        if self._deaths >= DEATHS:
            raise UserError(
                f"the process that judges step {step} on the side ended {DEATHS} times, the last "
                f"time with {code}",
                field="--aside",
                hint="give the machine more memory, or leave out --aside: the same command goes on",
            )
        self._reporter.say(f"The judge on the side ended with {code}; it begins again.")
        self._start()
        self._ask(step, state)


def _environment() -> dict[str, str]:
    """It finds the same code, and is one process however many there are that train."""
    ranks = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", USE_DEEPSPEED)
    kept = {name: value for name, value in os.environ.items() if name not in ranks}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# -- in the second process -----------------------------------------------------------------------


def serve(pipe_number: int) -> None:
    """Judge what is asked for over the pipe, until the training closes it or ends."""
    _belong_to(os.getppid())
    from multiprocessing.connection import Connection

    from harness.core.quiet import quiet

    quiet()
    pipe = Connection(pipe_number)
    # Closed where the training ended meanwhile, or ends later.
    with suppress(EOFError):
        _judge(pipe.recv(), pipe)


def _judge(process: _Process, pipe: Connection) -> None:
    import torch

    from harness.store.store import Store

    torch.set_num_threads(process.threads)
    opened = _Opened(process)
    run = process.run
    with Store(run.workspace) as store:
        reporter = cast(Reporter, _Forwarding(pipe))
        judging = Judging(run, CheckpointFolder(run.home), store, reporter)
        while True:
            step, state = pipe.recv()
            pipe.send(_answer(judging, step, state, opened))


def _answer(
    judging: Judging, step: int, state: TrainingState, opened: _Opened
) -> tuple[str, tuple[Any]]:
    try:
        return "opinion", (judging.opinion(step, state, opened.backend),)
    except UserError as error:
        return "error", (error,)
    except Exception:  # noqa: BLE001 - whatever it is, the training's process must hear of it
        return "error", (RuntimeError(f"the judge on the side failed:\n{traceback.format_exc()}"),)


def _belong_to(parent: int) -> None:
    """Ctrl-C is the training's to answer; and where that is killed, so is its judge."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # So that what is open elsewhere, an adapter on a server, is put away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Opened:
    """The model of the checkpoint that was asked about last."""

    def __init__(self, process: _Process) -> None:
        self._method = process.run.method
        self._process = process
        self._held: tuple[ModelFiles, Backend] | None = None
        self._kept = KeptBase(process.run.method.load)

    def backend(self, files: ModelFiles) -> Backend:
        if self._held is None or self._held[0].digest != files.digest:
            # Two models at once need not fit.
            self._held = None
            self._held = files, self._method.backend(*self._read(files))
        return self._held[1]

    def _read(self, files: ModelFiles) -> tuple[Any, Any]:
        dtype, device = self._process.run.settled.scored, self._process.device
        read = self._kept.load if self._method.continues else self._method.load
        return read(files, dtype=dtype, device=device)


class _Forwarding:
    """What a reporter is told here, it is told in the training's process when that listens."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._told = 0.0

    def say(self, text: str) -> None:
        self._pipe.send(("say", (text,)))

    def progress(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - self._told >= PROGRESS_S:
            self._told = now
            self._pipe.send(("progress", (stage, done, total)))
