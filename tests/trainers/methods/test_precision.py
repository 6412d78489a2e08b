"""Trained as on a GPU, in bf16 and with activations recomputed, but on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import LogprobRequest
from harness.core.workspace import Workspace
from harness.models.resolve import resolve
from harness.store.store import Store
from tests.trainers.method_builders import write_method_world
from tests.trainers.recipe_builders import GOOD, write_world
from tests.trainers.training_driver import Quiet
from trainers.config.load import load_recipe
from trainers.loop.gated_training import GatedTraining
from trainers.loop.judge import JudgeInProcess
from trainers.methods import preference, reinforcement, sft
from trainers.methods import reward_model as reward
from trainers.methods import trainer_arguments as arguments


def logprobs(backend: Any) -> list[tuple[float, ...]]:
    requests = [
        LogprobRequest(str(number), (backend.prefix_token_id,), backend.encode(text))
        for number, text in enumerate(GOOD)
    ]
    return [tuple(found.logprobs) for found in backend.logprobs(requests)]


def train_with(monkeypatch: pytest.MonkeyPatch, **settings: bool) -> None:
    """Have every trainer take these settings of transformers, which a GPU alone brings else."""
    common = arguments.common_settings
    for module in (arguments, sft, preference, reward, reinforcement):
        monkeypatch.setattr(
            module, "common_settings", lambda *words: {**common(*words), **settings}
        )


@pytest.mark.long
@pytest.mark.parametrize("trainer", ["sft", "reward", "dpo", "kto", "grpo", "rloo", "ppo"])
def test_recomputed_activations_change_no_step(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, trainer: str
) -> None:
    """An adapter learns nothing where its frozen base recomputes without gradients."""
    steps = []
    for recomputed in (False, True):
        train_with(monkeypatch, gradient_checkpointing=recomputed)
        folder = tmp_path / str(recomputed)
        recipe = load_recipe(write_method_world(folder, tiny_llama, trainer, adapter={"rank": 4}))
        workspace = Workspace.at(folder / "home").ensure()
        with Store(workspace) as store:
            GatedTraining(recipe, workspace, store, Quiet()).run()
            steps.append(
                store.query("SELECT step, loss, grad_norm FROM training_steps ORDER BY step")
            )
    plain, again = ([(r["step"], r["loss"], r["grad_norm"]) for r in rows] for rows in steps)
    assert len(plain) == 6
    assert max(norm for _, _, norm in plain) > 0
    for one, other in zip(plain, again, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("adapter", [None, pytest.param({"rank": 4}, marks=pytest.mark.long)])
def test_a_model_that_trains_in_bf16_answers_in_fp32(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    adapter: dict[str, object] | None,
) -> None:
    train_with(monkeypatch, bf16=True)
    recipe = load_recipe(write_world(tmp_path, tiny_llama, spoiled=False, adapter=adapter))
    workspace = Workspace.at(tmp_path / "home").ensure()
    seen = {}
    with Store(workspace) as store:
        training = GatedTraining(recipe, workspace, store, Quiet())

        def opened(step: int, files: Any) -> Any:
            backend = training.live_backend(step, files)
            seen[step] = logprobs(backend)
            return backend

        training.judge = JudgeInProcess(training.judging, opened)
        training.run()
    assert training.engine.trainer.accelerator.mixed_precision == "bf16"
    assert sorted(seen) == [0, 3, 6, 9, 12]
    for step, live in seen.items():
        files = resolve(str(training.folder.path(step)), workspace)
        method = training.engine.method
        fresh = logprobs(method.backend(*method.load(files)))
        for one, other in zip(live, fresh, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("adapter", [{"rank": 4}, pytest.param(None, marks=pytest.mark.long)])
def test_what_is_scored_in_bf16_is_what_will_be_served(
    tmp_path: Path, tiny_llama: Path, adapter: dict[str, object] | None
) -> None:
    """The live model, or a copy where it is held in float32, answers as its files do in bf16."""
    path = write_world(tmp_path, tiny_llama, spoiled=False, talk=False, adapter=adapter)
    path.write_text(path.read_text("utf-8") + "dtype: bfloat16\n", encoding="utf-8")
    workspace = Workspace.at(tmp_path / "home").ensure()
    seen = {}
    with Store(workspace) as store:
        reporter = Quiet()
        training = GatedTraining(load_recipe(path), workspace, store, reporter)  # type: ignore[arg-type]

        def opened(step: int, files: Any) -> Any:
            backend = training.live_backend(step, files)
            seen[step] = logprobs(backend)
            return backend

        training.judge = JudgeInProcess(training.judging, opened)
        training.run()
        scored = store.query("SELECT DISTINCT subject->>'dtype' AS dtype FROM runs")
    assert [row["dtype"] for row in scored] == ["bfloat16"]
    assert any("checkpoints scored in bfloat16" in words[0] for words in reporter.of("say"))
    trained = {p.dtype for p in training.engine.trainer.model.parameters() if p.requires_grad}
    assert {str(dtype) for dtype in trained} == {"torch.float32"}
    for step, live in seen.items():
        files = resolve(str(training.folder.path(step)), workspace)
        method = training.engine.method
        fresh = logprobs(method.backend(*method.load(files, dtype="bfloat16")))
        assert live == fresh
