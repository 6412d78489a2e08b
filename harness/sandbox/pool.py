"""The sandbox as callers see it: jobs in, outcomes out in the jobs' order."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from types import TracebackType

from harness.core.errors import UserError
from harness.sandbox.outcome import Job, Limits, ModeChoice, Outcome, Tier
from harness.sandbox.tiers import best_worker, first_worker
from harness.sandbox.worker import Gone, Unavailable, Worker


class Sandbox:
    """Workers that run untrusted programs. Use it in a `with` block, from any thread.

    workers   how many programs run at once; None for twice the cores, since a program and its
              judge wait for each other
    tier      exactly this tier, or None for the best that this machine supports
    minimum   the weakest tier that is accepted: B by default, since C does not stop a program that
              means harm

    Raises UserError where this machine does not support `tier`, or none as strong as `minimum`.
    """

    def __init__(
        self, workers: int | None = None, *, tier: Tier | None = None, minimum: Tier = "B"
    ) -> None:
        self.workers = 2 * (os.cpu_count() or 1) if workers is None else workers
        if self.workers < 1:
            raise UserError(f"a sandbox needs at least one worker, not {workers}", field="workers")
        self._wanted, self._minimum = tier, minimum
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._all: set[Worker] = set()
        self._lock = threading.Lock()
        self._tier: Tier | None = None

    def __enter__(self) -> Sandbox:
        first = first_worker(self._wanted) if self._wanted else best_worker(self._minimum)
        self._tier = first.tier
        self._adopt(first)
        try:
            for _ in range(self.workers - 1):
                self._adopt(Worker(first.tier))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every worker and what it runs."""
        with self._lock:
            workers, self._all = list(self._all), set()
        for worker in workers:
            worker.close()

    @property
    def tier(self) -> Tier:
        """The tier that confines the programs: part of a run's fingerprint."""
        if self._tier is None:
            raise UserError("the sandbox is not open", hint="use it in a `with` block")
        return self._tier

    def run_tests(
        self,
        program: str,
        tests: str,
        entry_point: str,
        *,
        setup: str = "",
        limits: Limits | None = None,
        mode: ModeChoice = "auto",
    ) -> Outcome:
        """Judge one program by tests that call `candidate`, or the entry point by its name."""
        job = Job.of_tests(program, tests, entry_point, setup=setup, limits=limits, mode=mode)
        return self.run_many([job])[0]

    def run_stdio(
        self, program: str, stdin: str, expected_stdout: str, *, limits: Limits | None = None
    ) -> Outcome:
        """Judge one whole program by what it prints when it is given `stdin`."""
        return self.run_many([Job.of_stdio(program, stdin, expected_stdout, limits=limits)])[0]

    def run_many(self, jobs: Iterable[Job]) -> list[Outcome]:
        """Judge all jobs over the workers; outcomes come in the jobs' order.

        A job whose failure the machine may have caused is tried once more, alone, when all others
        are done. Raises UserError for tests that do not compile: that is not a program's failure.
        """
        waiting = list(jobs)
        _ = self.tier
        for job in waiting:
            _check(job)
        if len(waiting) == 1:
            outcomes = [self._run(waiting[0])]
        else:
            with ThreadPoolExecutor(self.workers, "sandbox") as threads:
                outcomes = list(threads.map(self._run, waiting))
        for index, outcome in enumerate(outcomes):
            if not outcome.counts:
                second = self._run(waiting[index])
                outcomes[index] = replace(second, attempts=outcome.attempts + 1)
        return outcomes

    def _run(self, job: Job) -> Outcome:
        worker = self._idle.get()
        try:
            return worker.run(job)
        except Gone as error:
            worker = self._replace(worker)
            return Outcome("infra", str(error), tier=worker.tier)
        finally:
            self._idle.put(worker)

    def _adopt(self, worker: Worker) -> None:
        with self._lock:
            self._all.add(worker)
        self._idle.put(worker)

    def _replace(self, lost: Worker) -> Worker:
        """A new worker in place of a lost one; the lost one where none can be started."""
        lost.close()
        try:
            worker = Worker(lost.tier)
        except Unavailable:
            return lost
        with self._lock:
            self._all.discard(lost)
            self._all.add(worker)
        return worker


def _check(job: Job) -> None:
    for field in ("tests", "setup"):
        problem = _problem(getattr(job, field))
        if problem:
            raise UserError(f"the {field} of a job do not compile: {problem}", field=field)


@lru_cache(maxsize=1024)
def _problem(source: str) -> str | None:
    try:
        compile(source, "tests", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        return str(error)
    return None
