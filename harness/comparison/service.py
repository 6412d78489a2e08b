"""One service for the gate: it picks suite and policy, scores what is missing, and decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.backends.base import Candidate
from harness.backends.openers import Hardware
from harness.comparison.calibrations import calibrated
from harness.comparison.looks import Extend, decide_by_looks
from harness.comparison.stored_runs import decide_stored, metrics_of, policy_over, read_policy
from harness.comparison.verdict_log import Decision
from harness.core.errors import UserError
from harness.core.types import Run
from harness.evaluation.generate import Progress, silent
from harness.evaluation.open_model import open_model
from harness.evaluation.plan import Extent
from harness.evaluation.references import find_named_run, suite_of, suite_path
from harness.evaluation.runner import RunReport, score
from harness.gate.policy import GatePolicy
from harness.models.kept_base import KeptBase
from harness.store.runs import find_run
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite

Party = str | Path | Run | Candidate
"""One side of a comparison: a run, an opened model, or the name of either (a folder, a hub id,
`run:ID`, `line:NAME`, `bundle:DIR`, `openai:URL#MODEL`).
"""

AnyPolicy = GatePolicy | Mapping[str, Any] | str | Path
"""A policy, the keys of a `gate:` block, or the YAML file that has them."""


def gate(
    candidate: Party,
    against: Party,
    *,
    store: Store,
    suite: Suite | str | Path | None = None,
    policy: AnyPolicy | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    on_look: Callable[[int, int, Extent], None] = lambda look, of, extent: None,
    on_scored: Callable[[RunReport], None] = lambda report: None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda message: None,
) -> Decision:
    """Compare a candidate with an anchor, and store the verdict.

    Two stored runs are compared on all evidence that both have; nothing is scored, and `suite` is
    read for its policy only. Otherwise each side that is a model is scored on the suite, by default
    the one of the side that is a run, as far as each planned look needs, and on at most `limit`
    samples a task. `policy` takes the place of the suite's own.

    `on_look(look, of, extent)` is called before each look, `on_scored(report)` after each scoring.
    Raises UserError for an unknown name, a file that can't be read, and two models without a suite.
    """
    ours, theirs = stored_run(candidate, store), stored_run(against, store)
    if ours is not None and theirs is not None:
        return _decide_stored(store, theirs, ours, suite, policy)
    loaded = _suite_for(store, suite, (ours, theirs))
    chosen, notes = calibrated(store, loaded.digest, _policy_for(loaded, policy))

    kept = KeptBase()

    def side(party: Party, run: Run | None) -> Extend:
        if run is not None:
            return lambda extent: run
        model = _open(party, store, device, dtype, say, kept)

        def extend(extent: Extent) -> Run:
            report = score(
                model, loaded, store, seed=seed, limit=limit, extent=extent, progress=progress
            )
            on_scored(report)
            return report.run

        return extend

    (decision,) = decide_by_looks(
        side(candidate, ours),
        {"anchor": side(against, theirs)},
        loaded,
        store,
        chosen,
        looks=chosen.looks or (1.0,),
        notes=notes,
        on_look=on_look,
    )
    return decision


def stored_run(party: Party, store: Store) -> Run | None:
    """The run that a side is; None where it is a model. A bundle is taken into the store."""
    if isinstance(party, Run):
        return party
    return None if isinstance(party, Candidate) else find_named_run(str(party), store)


def suite_of_any(store: Store, run_ids: Iterable[str | None]) -> Suite | None:
    """The suite of the first of these runs that was scored on one, None where none was.

    A run that was imported from another tool has no suite. Raises UserError where the file that
    a run was scored on is gone.
    """
    for run_id in run_ids:
        run = find_run(store, run_id) if run_id else None
        if run is not None and suite_path(run, store) is not None:
            return load_suite(suite_of(run, store))
    return None


def _decide_stored(
    store: Store,
    anchor: Run,
    candidate: Run,
    suite: Suite | str | Path | None,
    policy: AnyPolicy | None,
) -> Decision:
    place = suite.path if isinstance(suite, Suite) else suite
    chosen, said = _policy_of_runs(store, anchor, candidate, place if policy is None else policy)
    chosen, notes = calibrated(store, anchor.suite_digest, chosen)
    notes = {"policy": said, **notes}
    return decide_stored(store, "anchor", anchor, candidate, chosen, notes=notes)


def _policy_of_runs(
    store: Store, anchor: Run, candidate: Run, given: AnyPolicy | None
) -> tuple[GatePolicy, str]:
    """The policy, and a note that says where it comes from.

    The given one; else that of the suite on which the anchor, or else the candidate, was scored, if
    the file is still there; else the default.
    """
    if isinstance(given, GatePolicy | Mapping):
        return policy_over(given, metrics_of(anchor)), "given with the call"
    path = Path(given) if given is not None else _suite_file(store, (anchor, candidate))
    if path is None:
        return GatePolicy(), "the default: every metric required, margin 5%"
    return read_policy(path, metrics_of(anchor)), f"of {path.name}"


def _suite_file(store: Store, runs: Iterable[Run]) -> Path | None:
    for run in runs:
        path = suite_path(run, store)
        if path is not None and path.is_file():
            return path
    return None


def _suite_for(store: Store, suite: Suite | str | Path | None, runs: Iterable[Run | None]) -> Suite:
    if isinstance(suite, Suite):
        return suite
    if suite is not None:
        return load_suite(suite)
    for run in runs:
        if run is not None:
            return load_suite(suite_of(run, store))
    raise UserError(
        "two models are compared on a suite, and none was named",
        field="suite",
        hint="name one with --suite FILE, or suite=FILE in Python",
    )


def _policy_for(suite: Suite, given: AnyPolicy | None) -> GatePolicy:
    if given is None:
        return suite.policy
    names = suite.metric_names()
    if isinstance(given, GatePolicy | Mapping):
        return policy_over(given, names)
    return read_policy(Path(given), names)


def _open(
    party: Party,
    store: Store,
    device: str,
    dtype: str,
    say: Callable[[str], None],
    kept: KeptBase,
) -> Candidate:
    if isinstance(party, Candidate):
        return party
    hardware = Hardware.choose(device, dtype)
    return open_model(str(party), store.workspace, store, hardware=hardware, kept=kept, say=say)
