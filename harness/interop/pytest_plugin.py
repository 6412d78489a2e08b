"""The fixture `ratchet` for pytest: `def test_model(ratchet): assert ratchet.gate(...)`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.comparison.verdict_log import Decision
    from harness.core.workspace import Workspace
    from harness.evaluation.runner import RunReport
    from harness.store.store import Store
    from harness.suite.suite import Suite


@dataclass(frozen=True, slots=True)
class Gated:
    """A verdict that is true where it is `pass`. Its repr says what was decided and why.

    `failed` is true only where harm was measured, for a test that lets an open verdict through:
    `assert not ratchet.gate(...).failed`.
    """

    decision: Decision

    def __bool__(self) -> bool:
        return self.outcome == "pass"

    @property
    def outcome(self) -> str:
        """One of `pass`, `fail`, `inconclusive` and `incomparable`."""
        return self.decision.verdict.outcome.value

    @property
    def failed(self) -> bool:
        return self.outcome == "fail"

    def __repr__(self) -> str:
        from harness.gate.explain import sentences

        return "\n".join((self.outcome.upper(), *sentences(self.decision.verdict)))


@dataclass(slots=True)
class Ratchet:
    """Score and gate from a test, in the workspace of `--ratchet-home` (or RATCHET_HOME)."""

    workspace: Workspace
    store: Store
    hardware: tuple[str, str] = ("auto", "auto")
    _suites: dict[Path, Suite] = field(default_factory=dict)

    def score(
        self, model: str | Path, suite: str | Path, *, limit: int | None = None, seed: int = 0
    ) -> RunReport:
        """Score a model on a suite; answers in the store are not generated again."""
        from harness.evaluation.runner import score

        return score(self._candidate(model), self._suite(suite), self.store, limit=limit, seed=seed)

    def gate(
        self,
        candidate: str | Path,
        *,
        against: str | Path,
        suite: str | Path | None = None,
        limit: int | None = None,
        seed: int = 0,
    ) -> Gated:
        """Compare a candidate with an anchor as `ratchet gate` does: two stored runs as they are,
        and otherwise by the suite's looks, scoring what is missing. Both are named as everywhere;
        a run or bundle brings its suite.
        """
        from harness.comparison.service import gate

        device, dtype = self.hardware
        decision = gate(
            candidate,
            against,
            store=self.store,
            suite=None if suite is None else self._suite(suite),
            limit=limit,
            seed=seed,
            device=device,
            dtype=dtype,
        )
        return Gated(decision)

    def _candidate(self, name: str | Path) -> Any:
        from harness.backends.openers import Hardware
        from harness.evaluation.open_model import open_model

        hardware = Hardware.choose(*self.hardware)
        return open_model(str(name), self.workspace, self.store, hardware=hardware)

    def _suite(self, path: str | Path) -> Suite:
        from harness.suite.load import load_suite

        path = Path(path)
        if path not in self._suites:
            self._suites[path] = load_suite(path)
        return self._suites[path]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options: where the workspace is, and on which device models run."""
    group = parser.getgroup("ratchet", "gating of models")
    group.addoption("--ratchet-home", default=None, help="Ratchet's workspace. Default: ./.ratchet")
    group.addoption("--ratchet-device", default="auto", help="cpu, cuda … or auto.")


@pytest.fixture(scope="session")
def ratchet(request: pytest.FixtureRequest) -> Iterator[Ratchet]:
    """Scores and gates models; one store for the whole session."""
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    workspace = Workspace.at(request.config.getoption("--ratchet-home")).ensure()
    with Store(workspace) as store:
        yield Ratchet(workspace, store, (request.config.getoption("--ratchet-device"), "auto"))
