"""One run's metrics with their intervals and identity, as exporters send them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from harness.comparison.evidence import MetricSummary, summarize
from harness.core.errors import UserError
from harness.core.types import Run
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Results:
    """One run and its table. `metrics` are those that have a value."""

    run: Run
    metrics: tuple[MetricSummary, ...]

    @property
    def tags(self) -> dict[str, str]:
        """What identifies the run, as words."""
        run = self.run
        subject = {f"subject.{k}": str(v) for k, v in sorted(run.fingerprint.subject.items())}
        return {
            "ratchet.run": run.id,
            "ratchet.model_digest": run.model_digest,
            "ratchet.suite": run.suite,
            "ratchet.suite_digest": run.suite_digest,
            "ratchet.seed": str(run.seed),
            **({"ratchet.limit": str(run.limit)} if run.limit else {}),
            **({"ratchet.training": run.training_id} if run.training_id else {}),
            **subject,
        }

    @property
    def values(self) -> Iterator[tuple[str, float]]:
        """`task/metric` and its value; its interval's ends as `task/metric/low` and `/high`."""
        for metric in self.metrics:
            found = metric.estimate
            for suffix, value in (("", found.value), ("/low", found.low), ("/high", found.high)):
                if value is not None:
                    yield f"{metric.metric}{suffix}", value


def results_of(store: Store, run: Run) -> Results:
    """A run's results. Raises UserError for a run that has no value to send."""
    metrics = tuple(line for line in summarize(store, run) if line.estimate.value is not None)
    if not metrics:
        raise UserError(f"run {run.id} has no scores", hint=f"ratchet score {run.model} --suite …")
    return Results(run, metrics)


def require(module: str, package: str, extra: str) -> Any:
    """An optional library, imported. Raises UserError where it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(
            f"{package} is not installed: {error}", hint=f"pip install 'ratchet-eval[{extra}]'"
        ) from None


Exporter = Callable[[Results, str], str]
"""(results, place to send them to) -> a sentence that says where they are. Raises UserError."""
