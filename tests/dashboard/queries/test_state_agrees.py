"""Random histories of lines: Today, alerts, `ratchet status`, the watch and the report agree.

What must hold is written down by the history itself, which knows what was promoted last and what
failed: the queries under test only read what the real registry, gate log and watch have stored.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dashboard import alerts
from dashboard.queries.attention import attention, overview
from harness.cli.app import main
from harness.comparison.attention_log import say
from harness.comparison.line_reading import states
from harness.comparison.line_words import exit_code, needs, serving, ship
from harness.core.errors import UserError
from harness.core.workspace import HOME_VARIABLE
from harness.store.store import Store
from tests.harness.line_stories import Story

SEEDS = range(12)
STEPS = 14
LINES = ("support-bot", "search")


@dataclass
class Expected:
    """What the history knows of a line."""

    served: list[str] = field(default_factory=list)
    candidate: str | None = None
    failing: bool = False
    called_false: bool = False

    @property
    def now(self) -> str | None:
        return self.served[-1] if self.served else None


class History:
    """One random history, a step at a time."""

    def __init__(self, home: Path, seed: int) -> None:
        self.story, self.draw = Story(home), random.Random(seed)
        self.lines = {line: Expected() for line in LINES}
        self._made = 0

    def step(self) -> None:
        line = self.draw.choice(LINES)
        kinds = (self._judge, self._judge, self._promote, self._again, self._back, self._watch,
                 self._watch, self._false_alarm, self._prune)  # fmt: skip
        self.draw.choice(kinds)(line, self.lines[line])

    def _new(self, line: str) -> str:
        self._made += 1
        word = f"{line}{self._made}"
        self.story.add(word)
        return word

    def _judge(self, line: str, known: Expected) -> None:
        word = self._new(line)
        outcome = self.draw.choice(["pass", "fail", "inconclusive", "incomparable"])
        self.story.judge(word, outcome, known.now, against=f"line:{line}")
        known.candidate = word

    def _promote(self, line: str, known: Expected) -> None:
        word = self._new(line)
        self.story.promote(word, self.story.judge(word, "pass", known.now), line)
        self._serve(known, word)
        known.candidate = word

    def _again(self, line: str, known: Expected) -> None:
        if len(known.served) > 1:
            word = self.draw.choice(known.served[:-1])
            kept = (self.story.store.workspace.checkpoints / self.story.digests[word]).is_dir()
            if word != known.now and kept:
                self.story.promote(word, line=line)
                self._serve(known, word)

    def _back(self, line: str, known: Expected) -> None:
        try:
            self.story.roll_back(line)
        except UserError:  # there is nothing before it, or that was pruned
            return
        self._came(line, known)

    def _watch(self, line: str, known: Expected) -> None:
        if known.now is None:
            return
        outcome = self.draw.choice(["pass", "fail", "inconclusive"])
        verdict = self.story.look(outcome, line)
        if outcome != "fail":
            known.called_false = False
        # Another FAIL of an alarm that was called false is the same alarm.
        known.failing = outcome == "fail" and not known.called_false
        if outcome != "fail" or self.draw.random() < 0.4:
            return
        done = self.story.act(verdict, act=self.draw.random() < 0.7)
        if done.acted:
            self._came(line, known)

    def _false_alarm(self, line: str, known: Expected) -> None:
        for state in states(self.story.store, line):
            for alarm in state.alarms:
                if alarm.present:
                    say(self.story.store, alarm.about, "false_alarm", line=line, reason="a test")
                    known.failing, known.called_false = False, True

    def _prune(self, line: str, known: Expected) -> None:
        self.story.registry.prune(keep=1, dry_run=False)

    def _came(self, line: str, known: Expected) -> None:
        promoted = self.story.registry.promoted(line)
        assert promoted is not None
        (word,) = [w for w, digest in self.story.digests.items() if digest == promoted.digest]
        self._serve(known, word)

    def _serve(self, known: Expected, word: str) -> None:
        known.served.append(word)
        known.failing = known.called_false = False


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_disagrees(
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    history = History(tmp_path, seed)
    for _ in range(STEPS):
        history.step()
    store = history.story.store
    monkeypatch.setenv(HOME_VARIABLE, str(store.workspace.home))
    now = datetime.now(UTC)
    seen = overview(store, now=now)
    assert seen.lines == tuple(states(store, now=now))
    for state in seen.lines:
        known = history.lines[state.line]
        _holds(state, known, history)
        wanted = [need for need in seen.needs if need.line == state.line]
        assert [n.about for n in wanted if n.page != "drift"] == [n.about for n in needs(state)]
    assert [n.about for n in attention(store)] == [n.about for n in alerts.fresh(store)]
    _verbs_agree(store, history, capsys)


def _holds(state, known: Expected, history: History) -> None:  # type: ignore[no-untyped-def]
    digests = history.story.digests
    assert (state.promoted.digest if state.promoted else None) == digests.get(known.now or "")
    assert (state.alarm_on_served() is not None) == known.failing
    assert (exit_code(state) == 1) == known.failing
    assert str(serving(state)).startswith("FAIL") == known.failing
    if known.candidate is None:
        assert state.candidate is None
        return
    assert state.candidate is not None
    assert state.candidate.run_id == history.story.runs[known.candidate]
    is_promoted = known.candidate == known.now
    assert (state.candidate.holds == "promoted") == is_promoted
    assert ("is what is promoted" in str(ship(state)[1])) == is_promoted
    if known.candidate in known.served and not is_promoted:
        assert state.candidate.holds == "taken back"
    if is_promoted:
        assert not [n for n in needs(state) if n.page == "verdict"]


def _verbs_agree(store: Store, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    code = main(["status", "--json"])
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    worst = [row["exit_code"] for row in rows]
    assert code == (1 if 1 in worst else 2 if 2 in worst else 0)
    by_line = {state.line: state for state in states(store)}
    assert {row["line"] for row in rows} == set(by_line)
    for row in rows:
        state = by_line[row["line"]]
        assert row["exit_code"] == exit_code(state)
        assert [need["text"] for need in row["needs"]] == [n.sentence for n in needs(state)]
        if state.promoted is None:
            continue
        assert (main(["watch", "status", state.line]) == 1) == history.lines[state.line].failing
        if state.promoted.run_id is not None:
            capsys.readouterr()
            main(["report", state.promoted.run_id])
            said = capsys.readouterr().out
            assert f"{state.line}: {ship(state)[0]}" in said.replace("\n", " ")
