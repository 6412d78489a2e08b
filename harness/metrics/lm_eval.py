"""A metric of a task of lm-evaluation-harness, by that task's own filters and code."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Response, Sample
from harness.data.lm_eval import LoadedTask, loaded_task
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, as_evidence

_SHARES = ("acc", "exact_match", "prompt_level", "mc1", "mc2")
_NEEDS_GREEDY = ("exact_match", "acc_mutual_info")
"""Metrics of choices that ask for more than their likelihoods."""


@dataclass(frozen=True)
class LmEval:
    """What lm-eval gives each document of a task that `data: lm_eval:TASK` read: equal to its own
    result on the same answers.

    `name` is a metric of the task, such as `acc_norm`, or `exact_match@strict-match` for one of
    its filters; without `@` it is the first of these. The value of a task is the mean over its
    documents, so a metric that lm-eval computes over all of them at once is refused.
    """

    name: str
    _loaded: LoadedTask | None = field(default=None, init=False, repr=False, compare=False)
    _key: str = field(default="", init=False, repr=False)

    @property
    def spec(self) -> MetricSpec:
        task, metric = self._loaded, self.name.partition("@")[0]
        higher = task is None or task.task.higher_is_better().get(metric, True)
        share = metric.startswith(_SHARES)
        return MetricSpec(
            f"lm_eval:{self.name}",
            "higher" if higher else "lower",
            scale="ratio" if share else "interval",
            unit="share" if share else "lm-eval's own",
            low=0.0 if share else None,
            high=1.0 if share else None,
            needs="reference" if task and task.kind == "multiple_choice" else "generation",
            per="sample",
            options=() if task is None else (("task", self._key), ("lm_eval", version("lm_eval"))),
            reads=("lm_eval",),
        )

    def among(self, samples: Sequence[Sample]) -> LmEval:
        """This metric with the task that `samples` come from. Raises UserError where they come from
        elsewhere, or the task has no such metric or filter.
        """
        task = loaded_task(samples[0].fields) if samples else None
        if task is None:
            raise UserError(
                f"lm_eval:{self.name} scores rows of lm-eval's tasks, and these are others",
                hint="write `data: lm_eval:TASK`, or take a metric of Ratchet's",
            )
        _require(task, self.name)
        if task.kind == "multiple_choice" and not samples[0].references:
            raise UserError(
                f"{task.name} asks for the likelihood of choices, and the task has none",
                hint="add `choices: choices` to it (with `raw` prompts: `choices: continuations`)",
            )
        known = copy.copy(self)
        object.__setattr__(known, "_loaded", task)
        object.__setattr__(known, "_key", samples[0].fields["lm_eval"]["task"])
        return known

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return [[as_evidence(self._value(item.sample, item.responses), None)] for item in items]

    def _value(self, sample: Sample, responses: Sequence[Response]) -> Outcome:
        assert self._loaded is not None
        failed = next((one for one in responses if one.error is not None), None)
        if failed is not None:
            return Evidence.error(None, failed.error or "")
        if not responses:
            return Evidence.unscored(None, "the sample has no response")
        document = self._loaded.documents[sample.fields["lm_eval"]["document"]]
        if self._loaded.kind == "multiple_choice":
            if len(responses) != len(sample.references):
                return Evidence.unscored(None, "the run scored fewer choices than the sample has")
            said: list[Any] = [[(math.fsum(one.logprobs or ()), False)] for one in responses]
        else:
            begun = sample.options.prefill
            said = [[one.text.removeprefix(begun) for one in responses]]
        return self._result(document, said)

    def _result(self, document: Any, said: list[Any]) -> Outcome:
        assert self._loaded is not None
        metric, _, name = self.name.partition("@")
        filters = self._loaded.filters
        try:
            for one in filters[name or next(iter(filters))].filters:
                said = list(one().apply(said, [document] * len(said)))
            found = self._loaded.task.process_results(document, said)[metric]
        except Exception as error:  # noqa: BLE001 - a task's own code may raise anything
            return Evidence.error(None, f"lm-eval: {type(error).__name__}: {error}")
        try:
            return float(found)
        except (TypeError, ValueError):
            return Evidence.unscored(None, f"lm-eval gives no number for one document: {found!r}")


def _require(task: LoadedTask, name: str) -> None:
    metric, at, wanted = name.partition("@")
    known = task.task.aggregation()
    if task.kind not in ("multiple_choice", "generate_until"):
        raise UserError(
            f"{task.name} is a task of the kind {task.kind!r}",
            hint='take `reference_nll` (reference: "{{ target }}") or `perplexity` for it',
        )
    if metric not in known:
        raise UserError(
            f"{task.name} has no metric {metric!r}", hint=f"it has {', '.join(map(str, known))}"
        )
    if getattr(known[metric], "__name__", "") not in ("mean", "nanmean"):
        raise UserError(
            f"lm-eval's {metric} of {task.name} is no mean over its documents",
            hint="take a metric of Ratchet's for it, as docs/metrics.md lists them",
        )
    if task.kind == "multiple_choice" and metric in _NEEDS_GREEDY:
        raise UserError(
            f"{metric} of choices needs more than their likelihoods, which is all that is kept",
            hint="take `acc` or `acc_norm`",
        )
    if at and wanted not in task.filters:
        raise UserError(
            f"{task.name} has no filter {wanted!r}", hint=f"it has {', '.join(task.filters)}"
        )
