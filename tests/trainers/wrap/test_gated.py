"""The gate around a Trainer that was made elsewhere: what it catches, and where it goes back to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from harness.core.errors import UserError
from harness.core.files import sha256_of_file
from harness.registry.registry import Registry
from harness.store.store import Store
from tests.trainers.training_driver import STATE_FILES, Quiet
from tests.trainers.wrap.two_processes import train_in_two
from tests.trainers.wrap.wrap_builders import (
    EVERY,
    STEPS,
    Fault,
    a_fault,
    batches,
    lora,
    sft,
    suite_in,
    texts,
    weights,
)
from trainers import gated

LONG = pytest.mark.long
FAULTS = [pytest.param(n, marks=() if n in (3, 7) else LONG) for n in range(20)]


def checkpoints(folder: Path) -> Path:
    [training] = (folder / "home" / "trainings").iterdir()
    return training


def train(folder: Path, base: Path, *faults: Any, gate: dict[str, Any] | None = None, **more: Any):
    trainer = sft(folder / "out", base, **more)
    for fault in faults:
        trainer.add_callback(fault)
    reporter = Quiet()
    trainer = gated(
        trainer,
        suite=suite_in(folder, base),
        store=folder / "home",
        reporter=reporter,
        **(gate or {}),
    )
    trainer.train()
    return trainer, reporter


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Any:
    return plain_ends(tmp_path_factory, tiny_llama)


@pytest.fixture(scope="module")
def uninterrupted_adapter(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Any:
    return plain_ends(tmp_path_factory, tiny_llama, adapter=True, learning_rate=0.03)


def plain_ends(
    tmp_path_factory: pytest.TempPathFactory, base: Path, *, adapter: bool = False, **more: Any
) -> Any:
    """The end of a plain Trainer's training, never gated, that skips a segment of its rows."""
    known: dict[Any, dict[str, str]] = {}

    def peft() -> Any:
        return lora() if adapter else None

    def end_of(skipped: int | None) -> dict[str, str]:
        if skipped not in known:
            folder = tmp_path_factory.mktemp("plain")
            order = batches(sft(folder / "drawn", base, peft=peft(), **more))
            if skipped is not None:
                del order[(skipped - 1) * EVERY : skipped * EVERY]
            rows = texts()
            rows = [rows[n] for batch in order[:STEPS] for n in batch]
            plain = sft(
                folder / "out",
                base,
                rows=rows,
                peft=peft(),
                train_sampling_strategy="sequential",
                **more,
            )
            plain.train()
            known[skipped] = everything(folder / "out" / f"checkpoint-{STEPS}")
        return known[skipped]

    return end_of


def everything(folder: Path) -> dict[str, str]:
    return {"weights": weights(folder), **{n: sha256_of_file(folder / n) for n in STATE_FILES}}


def test_without_a_fault_nothing_differs_from_the_plain_trainer(
    tmp_path: Path, tiny_llama: Path, uninterrupted: Any
) -> None:
    plain = sft(tmp_path / "plain", tiny_llama)
    plain.train()
    trainer, reporter = train(tmp_path, tiny_llama)
    home = checkpoints(tmp_path)
    end = everything(home / "checkpoints" / f"step-{STEPS:06d}")
    assert end == everything(tmp_path / "plain" / f"checkpoint-{STEPS}") == uninterrupted(None)
    assert [words[0] for words in reporter.of("judged")] == [0, 3, 6, 9, 12]
    result = trainer.gate_result
    assert (result.status, result.rollbacks, result.best_step) == ("finished", 0, STEPS)
    assert (tmp_path / "out" / "best").resolve() == home / "checkpoints" / f"step-{STEPS:06d}"


@pytest.mark.parametrize("seed", FAULTS)
def test_a_fault_is_rolled_back_bit_for_bit(
    tmp_path: Path, tiny_llama: Path, uninterrupted: Any, seed: int
) -> None:
    """What follows equals a plain training, never gated, that did not meet the segment's rows."""
    fault = a_fault(seed)
    trainer, reporter = train(tmp_path, tiny_llama, fault)
    assert fault.struck
    [(step, to, remedy, _)] = reporter.of("rolled_back")
    assert remedy == "skip_data"
    # To the best checkpoint, which is not always the last one.
    assert to in range(0, step, EVERY)
    home = checkpoints(tmp_path)
    end = everything(home / "checkpoints" / f"step-{STEPS:06d}")
    assert end == uninterrupted(step // EVERY)
    assert trainer.gate_result.rollbacks == 1


def test_a_lower_rate_is_lowered_once_for_each_failure(tmp_path: Path, tiny_llama: Path) -> None:
    faults = (Fault(5, "noise"), Fault(11, "noise"))
    trainer, reporter = train(
        tmp_path, tiny_llama, *faults, gate={"on_fail": ("lower_lr", "stop"), "line": "tiny"}
    )
    assert [words[:3] for words in reporter.of("rolled_back")] == [
        (6, 3, "lower_lr"),
        (12, 9, "lower_lr"),
    ]
    with Store(tmp_path / "home") as store:
        rows = store.query("SELECT step, attempt, learning_rate FROM training_steps")
        promoted = Registry(store.workspace, store).promoted("tiny")
    rate = {(row["attempt"], row["step"]): row["learning_rate"] for row in rows}
    assert [rate[2, step] / rate[1, step] for step in (4, 5, 6)] == pytest.approx([0.5] * 3)
    assert [rate[3, step] / rate[2, step] for step in (10, 11, 12)] == pytest.approx([0.5] * 3)
    assert rate[3, 12] < rate[3, 10] < rate[1, 1]
    assert promoted is not None
    assert promoted.digest == trainer.gate_result.digest


class Interrupt(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 8:
            raise KeyboardInterrupt


def test_an_interrupted_script_goes_on_to_the_same_end(
    tmp_path: Path, tiny_llama: Path, uninterrupted: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, tiny_llama, Interrupt())
    trainer, reporter = train(tmp_path, tiny_llama)
    assert min(words[0] for words in reporter.of("train_step")) == 7
    end = everything(checkpoints(tmp_path) / "checkpoints" / f"step-{STEPS:06d}")
    assert end == uninterrupted(None)
    again, _ = train(tmp_path, tiny_llama)
    assert again.gate_result == trainer.gate_result


@pytest.mark.parametrize(
    "own",
    [
        {},
        # What the Trainer would load at the end by its own loss is taken over.
        {
            "load_best_model_at_end": True,
            "eval_rows": 8,
            "eval_strategy": "steps",
            "eval_steps": 3,
        },
    ],
)
def test_the_best_checkpoint_is_never_lost_and_ends_in_memory(
    tmp_path: Path, tiny_llama: Path, own: dict[str, Any]
) -> None:
    trainer, _ = train(
        tmp_path,
        tiny_llama,
        Fault(11, "noise"),
        gate={"on_fail": "stop"},
        save_total_limit=1,
        **own,
    )
    assert trainer.gate_result.status == "stopped"
    best = trainer.gate_result.best_step
    home = checkpoints(tmp_path)
    assert best == 9
    assert [folder.name for folder in (home / "checkpoints").iterdir()] == [f"step-{best:06d}"]
    assert len(list((home / "rejected").iterdir())) == 1
    trainer.save_model(str(tmp_path / "final"))
    assert weights(tmp_path / "final") == weights(home / "checkpoints" / f"step-{best:06d}")
    assert (tmp_path / "out" / "best").resolve().name == f"step-{best:06d}"
    assert not list((tmp_path / "out").glob("checkpoint-*"))
    assert trainer.args.save_total_limit == 1
    assert trainer.args.load_best_model_at_end is bool(own)


@pytest.mark.long
def test_an_adapter_is_rolled_back_bit_for_bit(
    tmp_path: Path, tiny_llama: Path, uninterrupted_adapter: Any
) -> None:
    _, reporter = train(tmp_path, tiny_llama, Fault(8, "noise"), peft=lora(), learning_rate=0.03)
    assert [words[:3] for words in reporter.of("rolled_back")] == [(9, 6, "skip_data")]
    end = everything(checkpoints(tmp_path) / "checkpoints" / f"step-{STEPS:06d}")
    assert end == uninterrupted_adapter(3)


@pytest.mark.long
def test_rows_come_in_another_order_where_that_is_the_remedy(
    tmp_path: Path, tiny_llama: Path
) -> None:
    ends = []
    for name in ("a", "b"):
        _, reporter = train(
            tmp_path / name, tiny_llama, Fault(8, "nan"), gate={"on_fail": ("reshuffle", "stop")}
        )
        assert [words[2] for words in reporter.of("rolled_back")] == ["reshuffle"]
        home = checkpoints(tmp_path / name)
        ends.append(everything(home / "checkpoints" / f"step-{STEPS:06d}"))
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("arguments", "gate", "said", "field"),
    [
        ({"save_strategy": "no"}, {}, "no checkpoint", "save_strategy"),
        ({"save_only_model": True}, {}, "optimizer", "save_only_model"),
        ({"ignore_data_skip": True}, {}, "other rows", "ignore_data_skip"),
        ({}, {"on_fail": ("skip",)}, "skip", "on_fail"),
        ({}, {"looks": (2, 1)}, "rising", "looks"),
        ({}, {"line": "a b"}, "no name", "line"),
        (
            {"gradient_accumulation_steps": 3, "max_steps": 30},
            {"on_fail": ("skip_data", "stop")},
            "no multiple of gradient_accumulation_steps",
            "on_fail",
        ),
    ],
)
def test_what_cannot_be_gated_is_refused_before_anything_is_trained(
    tmp_path: Path,
    tiny_llama: Path,
    arguments: dict[str, Any],
    gate: dict[str, Any],
    said: str,
    field: str,
) -> None:
    trainer = sft(tmp_path / "out", tiny_llama, **arguments)
    with pytest.raises(UserError, match=said) as caught:
        gated(trainer, suite_in(tmp_path, tiny_llama), store=tmp_path / "home", **gate)
    assert caught.value.field == field
    assert caught.value.hint
    assert "train" not in vars(trainer)


def test_a_stream_can_be_rolled_back_but_not_planned(tmp_path: Path, tiny_llama: Path) -> None:
    trainer = sft(tmp_path / "out", tiny_llama)
    trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
    suite = suite_in(tmp_path, tiny_llama)
    with pytest.raises(UserError, match="come as a stream"):
        gated(trainer, suite, on_fail=("reshuffle", "stop"), store=tmp_path / "home")
    assert gated(trainer, suite, store=tmp_path / "home") is trainer
    with pytest.raises(UserError, match="replaced already"):
        gated(trainer, suite, store=tmp_path / "home")
    with pytest.raises(UserError, match="judged itself"):
        trainer.train(resume_from_checkpoint=str(tmp_path))
    with pytest.raises(UserError, match="no Trainer"):
        gated(object(), suite)


@pytest.mark.long
def test_two_processes_train_alike_and_go_back_together(tmp_path: Path, tiny_llama: Path) -> None:
    for what in ("plain", "gated", "fault"):
        suite_in(tmp_path / what, tiny_llama)
        train_in_two(tmp_path / what, tiny_llama, what)
    plain = weights(tmp_path / "plain" / "out" / f"checkpoint-{STEPS}")
    home = checkpoints(tmp_path / "gated")
    assert weights(home / "checkpoints" / f"step-{STEPS:06d}") == plain
    home = checkpoints(tmp_path / "fault")
    state = json.loads((home / "state.json").read_text(encoding="utf-8"))
    assert (state["status"], state["rollbacks"], state["dropped"]) == ("finished", 1, [3])
    best = home / "checkpoints" / f"step-{state['best_checkpoint']:06d}"
    assert weights(tmp_path / "fault" / "end-0") == weights(best)
