"""Limits requests in flight by what the server bears, and spending by a budget."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from harness.core.errors import UnfinishedError

T = TypeVar("T")


class Pace:
    """How many requests may be in flight at once: `start` at first, `most` at the most.

    One more after each full round of successes, half as many when the server is too busy
    (additive increase, multiplicative decrease; Chiu and Jain 1989). A burst of refusals halves it
    only once: requests that began before the last halving don't count.
    """

    def __init__(self, most: int = 64, start: int = 4) -> None:
        self.most = most
        self.limit = float(min(start, most))
        self._flying = 0
        self._cuts = 0
        self._free = threading.Condition()

    def enter(self) -> int:
        """Wait for a place, and take it. Returns a ticket for `leave`."""
        with self._free:
            self._free.wait_for(lambda: self._flying < int(self.limit))
            self._flying += 1
            return self._cuts

    def leave(self, ticket: int, *, well: bool) -> None:
        """Give the place back; `well` is false where the server was too busy to answer."""
        with self._free:
            self._flying -= 1
            if well:
                # So much for each success is one more after a round of `limit` requests.
                self.limit = min(float(self.most), self.limit + 1 / self.limit)
            elif ticket == self._cuts:
                self.limit = max(1.0, self.limit / 2)
                self._cuts += 1
            self._free.notify_all()


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per million tokens read (`input`) and written (`output`)."""

    input: float = 0.0
    output: float = 0.0

    def of(self, read: int, written: int) -> float:
        return (read * self.input + written * self.output) / 1e6


class Budget:
    """Tokens and US dollars that may be spent; None where there is no bound.

    The most that a request can cost is reserved before it is sent, so the bound is never exceeded,
    however many are in flight.
    """

    def __init__(
        self, tokens: int | None = None, usd: float | None = None, prices: Prices = Prices()
    ) -> None:
        self.most_tokens, self.most_usd, self.prices = tokens, usd, prices
        self.tokens, self.usd = 0, 0.0
        self._aside = [0, 0.0]
        self._lock = threading.Lock()

    def set_aside(self, read: int, written: int) -> tuple[int, float]:
        """Reserve (tokens, US dollars) for a request of at most so many tokens read and written.

        Raises UnfinishedError where the budget does not cover it.
        """
        tokens, usd = read + written, self.prices.of(read, written)
        with self._lock:
            over_tokens = self._over(self.most_tokens, self.tokens + self._aside[0] + tokens)
            over_usd = self._over(self.most_usd, self.usd + self._aside[1] + usd)
            if over_tokens or over_usd:
                bound = f"${self.most_usd:g}" if over_usd else f"{self.most_tokens} tokens"
                raise UnfinishedError(
                    f"the budget of {bound} does not cover what is left; spent: {self.spent}",
                    hint="what was answered is kept: raise the budget and run the same command",
                )
            self._aside[0] += tokens
            self._aside[1] += usd
        return tokens, usd

    def settle(self, aside: tuple[int, float], read: int, written: int) -> None:
        """Replace what was set aside by what was spent (0 and 0 where nothing was answered)."""
        with self._lock:
            self._aside[0] -= aside[0]
            self._aside[1] -= aside[1]
            self.tokens += read + written
            self.usd += self.prices.of(read, written)

    @property
    def spent(self) -> str:
        """In words: `1200 tokens, $0.0031`."""
        money = f", ${self.usd:.4f}" if self.prices != Prices() else ""
        return f"{self.tokens} tokens{money}"

    @staticmethod
    def _over(most: float | None, wanted: float) -> bool:
        # A sum of prices may exceed its own bound by a rounding error.
        return most is not None and wanted > most * (1 + 1e-12)


def fan_out(jobs: Iterable[Callable[[], T]], *, crew: int) -> Iterator[T]:
    """Run `jobs` on `crew` threads; results as they finish.

    When a job raises, no other job is begun; those that are running end and their results are
    yielded, and then the error is raised. Closing the iterator does not wait for running jobs.
    """
    waiting = iter(jobs)
    taking, stop = threading.Lock(), threading.Event()
    done: queue.SimpleQueue[tuple[T | None, BaseException | None, bool]] = queue.SimpleQueue()

    def work() -> None:
        while not stop.is_set():
            with taking:
                job = next(waiting, None)
            if job is None:
                break
            try:
                done.put((job(), None, False))
            except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
                stop.set()
                done.put((None, error, False))
        done.put((None, None, True))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(crew)]
    for thread in threads:
        thread.start()
    failure: BaseException | None = None
    left = len(threads)
    try:
        while left:
            result, error, is_end = done.get()
            if is_end:
                left -= 1
            elif error is not None:
                failure = failure or error
            else:
                yield result  # type: ignore[misc]
    finally:
        stop.set()
    if failure is not None:
        raise failure
