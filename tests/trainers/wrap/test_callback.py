"""The callback that judges and stops: what it says, what it keeps, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from harness.store.store import Store
from tests.trainers.training_driver import Quiet
from tests.trainers.wrap.wrap_builders import Fault, sft, suite_in, weights
from trainers import GateCallback


def watch(folder: Path, base: Path, *faults: Any, **more: Any) -> tuple[Any, GateCallback]:
    gate = {name: more.pop(name) for name in ("stop", "line") if name in more}
    trainer = sft(folder / "out", base, **more)
    for fault in faults:
        trainer.add_callback(fault)
    callback = GateCallback(suite_in(folder, base), store=folder / "home", reporter=Quiet(), **gate)
    trainer.add_callback(callback)
    trainer.train()
    return trainer, callback


def test_it_stops_at_the_first_failure_and_the_best_checkpoint_is_left(
    tmp_path: Path, tiny_llama: Path
) -> None:
    trainer, callback = watch(
        tmp_path, tiny_llama, Fault(8, "noise"), save_total_limit=1, line="tiny"
    )
    assert trainer.state.global_step == 9
    assert callback.verdicts[9] == "fail"
    assert callback.best == tmp_path / "out" / "checkpoint-6"
    assert callback.best.is_dir()
    with Store(tmp_path / "home") as store:
        events = {row["event"] for row in store.query("SELECT event FROM training_events")}
        against = store.query("SELECT against, outcome FROM verdicts WHERE step = 9")
    assert {"started", "checkpoint", "verdict", "stopped"} <= events
    assert "fail" in {row["outcome"] for row in against}


def test_without_a_stop_it_only_says_so_and_changes_nothing(
    tmp_path: Path, tiny_llama: Path
) -> None:
    plain = sft(tmp_path / "plain", tiny_llama)
    plain.train()
    trainer, callback = watch(tmp_path, tiny_llama, stop=False)
    assert list(callback.verdicts) == [0, 3, 6, 9, 12]
    assert callback.verdicts[0] == "anchor"
    assert weights(tmp_path / "out" / "checkpoint-12") == weights(
        tmp_path / "plain" / "checkpoint-12"
    )
    # The same script once more is another training, from its beginning.
    _, again = watch(tmp_path, tiny_llama, Fault(2, "noise"), stop=False)
    assert again.verdicts[3] == "fail"
    assert list(again.verdicts) == [0, 3, 6, 9, 12]
    assert trainer.state.global_step == 12


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"save_strategy": "no"}, "save_strategy"),
        (
            {
                "load_best_model_at_end": True,
                "eval_strategy": "steps",
                "eval_steps": 3,
                "metric_for_best_model": "loss",
            },
            "load_best_model_at_end",
        ),
        (
            {
                "save_total_limit": 2,
                "eval_strategy": "steps",
                "eval_steps": 3,
                "metric_for_best_model": "loss",
            },
            "metric_for_best_model",
        ),
    ],
)
def test_what_would_lose_the_best_checkpoint_is_refused(
    tmp_path: Path, tiny_llama: Path, arguments: dict[str, Any], field: str
) -> None:
    trainer = sft(tmp_path / "out", tiny_llama, eval_rows=4, **arguments)
    trainer.add_callback(GateCallback(suite_in(tmp_path, tiny_llama), store=tmp_path / "home"))
    with pytest.raises(UserError) as caught:
        trainer.train()
    assert caught.value.field == field
    assert caught.value.hint
