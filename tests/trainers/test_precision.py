"""Trained in bf16, as on a GPU: what a checkpoint scores is what its files score in fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import LogprobRequest
from harness.models import resolve
from harness.store import Store
from harness.workspace import Workspace
from tests.trainers.driving import Quiet
from tests.trainers.worlds import GOOD, write_world
from trainers import sft
from trainers.loop import GatedTraining
from trainers.recipe import load_recipe


def logprobs(backend: Any) -> list[tuple[float, ...]]:
    requests = [
        LogprobRequest(str(number), (backend.prefix_token_id,), backend.encode(text))
        for number, text in enumerate(GOOD)
    ]
    return [tuple(found.logprobs) for found in backend.logprobs(requests)]


@pytest.mark.parametrize("adapter", [None, {"rank": 4}])
def test_a_model_that_trains_in_bf16_answers_in_fp32(
    tmp_path: Path,
    tiny_llama: Path,
    monkeypatch: pytest.MonkeyPatch,
    adapter: dict[str, object] | None,
) -> None:
    settings = sft.common_settings
    monkeypatch.setattr(
        sft, "common_settings", lambda *words: {**settings(*words), "bf16": True, "fp16": False}
    )
    recipe = load_recipe(write_world(tmp_path, tiny_llama, spoiled=False, adapter=adapter))
    workspace = Workspace.at(tmp_path / "home").ensure()
    seen = {}
    with Store(workspace) as store:
        training = GatedTraining(recipe, workspace, store, Quiet())
        open_ = training._backend

        def opened(step: int, files: Any) -> Any:
            backend = open_(step, files)
            seen[step] = logprobs(backend)
            return backend

        training._judge._backend = opened  # type: ignore[attr-defined]
        training.run()
    assert training._engine is not None
    assert training._engine.trainer.accelerator.mixed_precision == "bf16"
    assert sorted(seen) == [0, 3, 6, 9, 12]
    for step, live in seen.items():
        files = resolve(str(training.folder.path(step)), workspace)
        method = training._engine.method
        fresh = logprobs(method.backend(*method.load(files)))
        for one, other in zip(live, fresh, strict=True):
            assert one == pytest.approx(other, abs=1e-5)
