"""The life of a line through the real store: promotions, verdicts of the gate, and production."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from harness.comparison.line_reading import state_of
from harness.comparison.line_state import LineState
from harness.comparison.verdict_log import keep_verdict
from harness.core.types import Fingerprint, Run, VerdictOutcome
from harness.core.workspace import Workspace
from harness.gate.verdict import Verdict
from harness.registry.registry import Registry
from harness.store import runs
from harness.store.store import Store
from harness.watch.monitor.verdict import Kind, SignalVerdict, WatchOutcome, WatchVerdict
from harness.watch.rollout.actions import Action, act

LINE = "support-bot"


class Story:
    """A workspace in which things happen to lines, one after the other."""

    def __init__(self, home: Path, store: Store | None = None) -> None:
        self.home = home
        self.workspace = Workspace.at(home / ".ratchet").ensure() if store is None else None
        self.store = store or Store(self.workspace)
        self.registry = Registry(self.store.workspace, self.store)
        self.runs: dict[str, str] = {}
        self.digests: dict[str, str] = {}
        self._looks = 0

    def add(self, word: str, training: str | None = None, step: int | None = None) -> str:
        """A checkpoint that was scored once; returns the run's id."""
        folder = self.home / f"model-{word}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(word * 10)
        (folder / "adapter_config.json").write_text("{}")
        run = Run(
            id=f"run-{word}",
            model=f"model {word}",
            model_digest=f"scored-{word}",
            suite="s",
            suite_digest="s",
            fingerprint=Fingerprint({}, {}, {}),
            started_at=datetime.now(UTC),
            seed=0,
            training_id=training,
            step=step,
        )
        runs.save_run(self.store, run, draw=0, suite_path="")
        runs.save_event(self.store, run.id, "finished", {})
        self.digests[word] = self.registry.add(
            folder, training_id=training, step=step, run_id=run.id
        )
        self.runs[word] = run.id
        return run.id

    def judge(
        self,
        word: str,
        outcome: str,
        anchor: str | None = None,
        *,
        against: str = "anchor",
        training: str | None = None,
        step: int | None = None,
        improvement: str | None = None,
    ) -> str:
        """A verdict of the gate on `word`, compared with `anchor`; returns its id."""
        if word not in self.runs:
            self.add(word, training, step)
        verdict = Verdict(
            outcome=VerdictOutcome(outcome),
            rows=(),
            headline=f"{word} is {outcome}.",
            reasons=(),
            settle="",
            rule="test",
            fail_rule="arms",
            policy_alpha=0.05,
            look=(1, 1),
        )
        anchor_run = self.runs[anchor] if anchor else None
        return keep_verdict(
            self.store,
            against,
            anchor_run,
            self.runs[word],
            verdict,
            training,
            step,
            improvement=improvement,
        )

    def promote(self, word: str, verdict: str | None = None, line: str = LINE) -> None:
        if word not in self.runs:
            self.add(word)
        override = None if verdict else "for the test"
        self.registry.promote(
            line,
            self.digests[word],
            verdict_id=verdict,
            override=override,
            run_id=self.runs[word],
        )

    def roll_back(self, line: str = LINE) -> None:
        self.registry.rollback(line, reason="by hand")

    def train(self, training: str, *events: str, line: str | None = LINE) -> None:
        row = {"training_id": training, "recipe": "r", "line": line, "config": {}}
        self.store.append("trainings", [row])
        for event in events:
            told = {"training_id": training, "event": event, "step": 0, "attempt": 1}
            self.store.append("training_events", [told])

    def look(
        self,
        outcome: WatchOutcome,
        line: str = LINE,
        *,
        kind: Kind = "watch",
        digest: str | None = None,
        advisory: str | None = None,
        policy: str = "p",
    ) -> WatchVerdict:
        """A look at what the line serves, as `ratchet watch check` stores it."""
        self._looks += 1
        now = datetime.now(UTC) + timedelta(seconds=2)
        promoted = self.registry.promoted(line)
        served = promoted.digest if promoted else None
        signals = [_signal("thumbs_up", outcome, now)]
        if advisory:
            signals.append(replace(_signal(advisory, "fail", now), role="advisory"))
        verdict = WatchVerdict(
            watch_id=f"w-{line}-{self._looks}",
            kind=kind,
            line=line,
            model_digest=digest or served,
            reference_digest=None,
            policy_digest=policy,
            outcome=outcome,
            observations=900,
            window_from=None,
            window_to=None,
            signals=tuple(signals),
            state={},
            decided_at=now,
            detail={"conversations": 700},
        )
        self.store.append("watch_verdicts", [verdict.row()])
        return verdict

    def act(self, verdict: WatchVerdict, **options: Any) -> Action:
        return act(
            verdict, self.registry, self.store, **{"act": True, "cooldown_s": 0.0, **options}
        )

    def state(self, line: str = LINE) -> LineState:
        return state_of(self.store, line)


def _signal(name: str, outcome: WatchOutcome, at: datetime) -> SignalVerdict:
    return SignalVerdict(
        signal=name,
        tier="business",
        outcome=outcome,
        value=0.5,
        low=0.4,
        high=0.6,
        reference=0.8,
        n=700,
        e_value=400.0,
        reason=f"{name} is {outcome}",
        failed_at=at if outcome == "fail" else None,
    )
