"""A suite and its tasks, as loaded from YAML and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.backends.base import GenerationSettings
from harness.core.digests import digest_of
from harness.core.protocol import MetricName, TaskDeclaration
from harness.core.types import ResponseKind, Sample
from harness.gate.policy import GatePolicy, Role
from harness.metrics.base import Metric, MetricSpec
from harness.suite.answers import AnswerModel


@dataclass(frozen=True, slots=True)
class Task:
    """A task that is ready to run: rendered samples, settings, metric objects.

    `responses` is K, the answers per sample; `protocol` is what two runs must share on this task;
    `data_path` is where its rows come from, `answer` what of an answer is scored.
    """

    name: str
    samples: tuple[Sample, ...]
    settings: GenerationSettings
    responses: int
    metrics: tuple[Metric, ...]
    protocol: Mapping[str, Any]
    data_path: Path
    answer: AnswerModel | None = None

    @property
    def kinds(self) -> tuple[ResponseKind, ...]:
        """The kinds of response that its metrics need, in a fixed order."""
        needed = {metric.spec.needs for metric in self.metrics}
        order: tuple[ResponseKind, ...] = ("generation", "reference", "text")
        return tuple(kind for kind in order if kind in needed)

    @property
    def sampled(self) -> bool:
        """Whether answers are drawn at random, so that more of them are more evidence."""
        return self.settings.temperature > 0 and "generation" in self.kinds

    @property
    def digest(self) -> str:
        """The digest of what two runs must share to be compared, metrics left out."""
        return TaskDeclaration(self.name, self.protocol).digest

    def named(self, metric: Metric) -> str:
        """The `task/metric` name of one of its metrics."""
        return str(MetricName(self.name, metric.spec.name))


@dataclass(frozen=True, slots=True)
class Suite:
    """A validated suite with its samples; `policy` is its `gate:` block."""

    name: str
    path: Path
    tasks: tuple[Task, ...]
    policy: GatePolicy

    @property
    def protocol(self) -> dict[str, Any]:
        """Per task, what two runs must share; the `gate:` block is not part of it."""
        return {task.name: dict(task.protocol) for task in self.tasks}

    @property
    def digest(self) -> str:
        return digest_of(self.protocol)

    def is_gated(self, task: Task) -> bool:
        """Whether any of its metrics can stop a candidate, so that more evidence may decide."""
        roles = self.roles()
        return any(roles[task.named(metric)] != "advisory" for metric in task.metrics)

    def roles(self) -> dict[str, Role]:
        """The role of each `task/metric` under the suite's own policy."""
        specs = {task.named(metric): metric.spec for task, metric in self.metrics()}
        return self.policy.roles(specs, [name for name, spec in specs.items() if spec.timed])

    def metrics(self) -> Iterator[tuple[Task, Metric]]:
        for task in self.tasks:
            for metric in task.metrics:
                yield task, metric

    def metric_names(self) -> list[str]:
        """The `task/metric` name of every metric, in the order of the file."""
        return [task.named(metric) for task, metric in self.metrics()]

    def task(self, name: str) -> Task:
        return next(task for task in self.tasks if task.name == name)


def declaration(spec: MetricSpec) -> dict[str, Any]:
    """What a run's protocol keeps of a metric: the gate reads scores by it, without its code."""
    return {
        "signature": spec.signature,
        "direction": spec.direction,
        "scale": spec.scale,
        "form": spec.form,
        "unit": spec.unit,
        "low": spec.low,
        "high": spec.high,
        "stats": list(spec.stats),
        "aggregate": spec.aggregate,
        **({"timed": True} if spec.timed else {}),
    }
