"""What a run's protocol says: its tasks, the metrics of each, and how they are named and found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from harness.core.digests import digest_of

SAMPLING = "@sampling"
"""The entry of a protocol that says which samples were taken: it stands beside the tasks."""

_METRICS = "metrics"


@dataclass(frozen=True, slots=True, order=True)
class MetricName:
    """One metric of one task, written `task/metric`. No task's name holds a slash."""

    task: str
    metric: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Of `task/metric`. A metric's name by itself has the empty task."""
        task, slash, metric = text.partition("/")
        return cls(task, metric) if slash else cls("", text)

    def __str__(self) -> str:
        return f"{self.task}/{self.metric}" if self.task else self.metric


@dataclass(frozen=True, slots=True)
class TaskDeclaration:
    """A task as a run's protocol has it: what was asked, and what each of its metrics declares."""

    name: str
    fields: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The digest of all that two runs must share to be compared, metrics left out: the key
        under which the task's samples are stored.
        """
        return digest_of({key: value for key, value in self.fields.items() if key != _METRICS})

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """The metric's name, without the task's -> what it declares (signature, direction ...)."""
        found: Mapping[str, Mapping[str, Any]] = self.fields[_METRICS]
        return found

    @property
    def generates(self) -> bool:
        """Whether the model is asked for answers, rather than how likely a given text is."""
        return bool(self.fields.get("generate"))


def tasks_of(protocol: Mapping[str, Any]) -> dict[str, TaskDeclaration]:
    """The tasks of a run's protocol by name, in its order."""
    return {
        name: TaskDeclaration(name, fields)
        for name, fields in protocol.items()
        if not name.startswith("@") and isinstance(fields, Mapping)
    }


def metrics_of(protocol: Mapping[str, Any]) -> Iterator[tuple[MetricName, Mapping[str, Any]]]:
    """Every metric of a run's protocol, and what it declares."""
    for task in tasks_of(protocol).values():
        for metric, declared in task.metrics.items():
            yield MetricName(task.name, metric), declared
