"""The functions of `from harness import …`: what a notebook or a script of one's own needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from harness.core.errors import UserError

if TYPE_CHECKING:
    from harness.backends.base import Candidate
    from harness.comparison.evidence import MetricSummary
    from harness.comparison.numbers import Scale, Values
    from harness.comparison.service import AnyPolicy
    from harness.core.types import Direction, Run
    from harness.gate.verdict import Verdict
    from harness.store.store import Store
    from harness.suite.suite import Suite


@dataclass(frozen=True, slots=True, repr=False)
class ScoredRun:
    """A run with the values that it found. Printed, it is a table.

    run        what `gate` takes for a side, too
    metrics    one line a metric: its value with a 95% interval over samples
    generated  answers that the model wrote for it just now; `reused` were known before
    seconds    what that took
    """

    run: Run
    metrics: tuple[MetricSummary, ...]
    generated: int
    reused: int
    seconds: float

    @property
    def id(self) -> str:
        """By which it is named anywhere: `run:ID`."""
        return self.run.id

    @property
    def values(self) -> dict[str, float | None]:
        """`task/metric` -> its value; None where nothing could be scored."""
        return {line.metric: line.estimate.value for line in self.metrics}

    def __repr__(self) -> str:
        from harness.core.columns import columns
        from harness.core.format import number

        rows = [("metric", "value", "95% interval", "scored")]
        for line in self.metrics:
            found, counts = line.estimate, line.counts
            interval = "" if found.low is None else f"[{number(found.low)}, {number(found.high)}]"
            scored = f"{counts.scored} of {counts.total}"
            rows.append((line.metric, number(found.value), interval, scored))
        first = f"run:{self.id}  {self.run.model} on {self.run.suite}"
        return "\n".join([first, "", *columns(rows, right=(1,))])


def score(
    model: str | Path | Candidate,
    suite: str | Path | Suite,
    *,
    limit: int | None = None,
    seed: int = 0,
    reserve: bool = False,
    device: str = "auto",
    dtype: str = "auto",
    store: Store | str | Path | None = None,
) -> ScoredRun:
    """Score a model on a suite, and keep every score. What is known already isn't asked again.

    `model` is a folder, a hub id, `line:NAME`, `openai:URL#MODEL`, or what `open_model` gave;
    `suite` a YAML file, or what `load_suite` gave. `limit` takes the first so many samples of each
    task after drawing them with `seed`; `reserve` scores those as well that are kept for later
    looks. `store` is a workspace's folder or a `Store`, by default RATCHET_HOME or `./.ratchet`.
    Raises UserError for whatever can't be found or read.
    """
    from harness.comparison.evidence import summarize
    from harness.evaluation.plan import Extent
    from harness.evaluation.runner import score as run_score
    from harness.suite.load import load_suite
    from harness.suite.suite import Suite

    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    with _store(store) as opened:
        candidate = (
            open_model(model, device=device, dtype=dtype, store=opened)
            if isinstance(model, str | Path)
            else model
        )
        extent = Extent(reserve=1.0 if reserve else 0.0)
        report = run_score(candidate, loaded, opened, seed=seed, limit=limit, extent=extent)
        metrics = tuple(summarize(opened, report.run))
    return ScoredRun(report.run, metrics, report.generated, report.reused, report.seconds)


def open_model(
    model: str | Path,
    *,
    base: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    store: Store | str | Path | None = None,
) -> Candidate:
    """The model of that name, once for many calls; weights are loaded when it first answers.

    Takes a folder, a hub id, `line:NAME`, `openai:URL#MODEL` or `vllm:MODEL`; `base` names the
    model under an adapter. Raises UserError for a name that leads nowhere.
    """
    from functools import cache

    from harness.backends.openers import Hardware
    from harness.evaluation import open_model as opening

    with _store(store) as opened:
        candidate = opening.open_model(
            str(model),
            opened.workspace,
            opened,
            hardware=Hardware.choose(device, dtype),
            base=base,
        )
    return replace(candidate, open=cache(candidate.open))


@overload
def gate(
    candidate: Values,
    against: Values,
    *,
    policy: AnyPolicy | None = None,
    margin: float | None = None,
    direction: Direction | Mapping[str, Direction] = "higher",
    low: float | Mapping[str, float] | None = None,
    high: float | Mapping[str, float] | None = None,
    scale: Scale | Mapping[str, Scale] | None = None,
) -> Verdict: ...


@overload
def gate(
    candidate: str | Path | Run | ScoredRun | Candidate,
    against: str | Path | Run | ScoredRun | Candidate,
    *,
    policy: AnyPolicy | None = None,
    suite: str | Path | Suite | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    store: Store | str | Path | None = None,
) -> Verdict: ...


def gate(
    candidate: Any,
    against: Any,
    *,
    policy: AnyPolicy | None = None,
    margin: float | None = None,
    direction: Any = None,
    low: Any = None,
    high: Any = None,
    scale: Any = None,
    suite: str | Path | Suite | None = None,
    limit: int | None = None,
    seed: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    store: Store | str | Path | None = None,
) -> Verdict:
    """Whether a candidate is worse than an anchor by more than a margin. Print what it returns.

    Either two lists of numbers, one a sample in the same order (or a list for each metric, by its
    name), with

        margin     the share of the anchor that may be lost, by default 0.05
        direction  "higher" or "lower" is better
        low, high  the ends of the metric's range, where it has them
        scale      "interval" where 0 isn't nothing at all: the margin is then a share of the spread

    or two models or runs: a folder, a hub id, `run:ID`, `line:NAME`, `bundle:DIR`, or what `score`
    and `open_model` gave, with

        suite      on which a model is scored, by default the one of the side that is a run
        limit      take so many samples of each task, drawn with `seed`
        device, dtype   where a model is loaded
        store      a workspace's folder or a `Store`, by default RATCHET_HOME or `./.ratchet`;
                   the verdict is kept there

    `policy` holds what a suite's `gate:` block does, as a mapping, a YAML file or a `GatePolicy`.
    Raises UserError for input that can't be used; evidence that doesn't fit together is an
    `incomparable` verdict.
    """
    on_numbers = _given(margin=margin, direction=direction, low=low, high=high, scale=scale)
    on_models = _given(suite=suite, limit=limit, seed=seed, device=device, dtype=dtype, store=store)
    sides = [_is_side(side) for side in (candidate, against)]
    if sides[0] != sides[1]:
        which = "candidate" if sides[0] else "against"
        raise UserError(
            f"{which} names a model or a run, and the other side doesn't",
            hint="give two lists of numbers, or two models or runs",
        )
    for name in on_numbers if sides[0] else on_models:
        kind = "lists of numbers" if sides[0] else "models and runs"
        hint = "a suite says it of its metrics; policy= stands before it" if sides[0] else None
        raise UserError(f"{name}= is for {kind}", field=name, hint=hint)
    if not sides[0]:
        from harness.comparison.numbers import gate_numbers

        return gate_numbers(candidate, against, policy=policy, **on_numbers)
    from harness.comparison import service

    with _store(on_models.pop("store", None)) as opened:
        decision = service.gate(
            _run_of(candidate), _run_of(against), store=opened, policy=policy, **on_models
        )
    return decision.verdict.with_note(
        verdict=decision.id,
        candidate=f"run:{decision.candidate.id}",
        anchor=f"run:{decision.anchor.id}",
    )


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _is_side(value: Any) -> bool:
    from harness.backends.base import Candidate
    from harness.core.types import Run

    return isinstance(value, str | Path | Run | ScoredRun | Candidate)


def _run_of(side: Any) -> Any:
    return side.run if isinstance(side, ScoredRun) else side


@contextmanager
def _store(given: Store | str | Path | None) -> Iterator[Store]:
    """The given store, or that of the workspace at a folder for as long as it is needed."""
    from harness.store.store import Store

    if isinstance(given, Store):
        yield given
        return
    with Store(given) as opened:
        yield opened
