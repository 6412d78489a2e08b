"""Checkpoints answered for by a server: each adapter is loaded into it, asked, and taken out.

The server is a double that speaks vLLM's protocol and really puts the adapter on; where vLLM is
installed, `python -m pytest -m vllm` asks it itself.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.openai_server import ModelServer, serving_adapters
from tests.serving import VLLM_CAN, has, vllm_server
from tests.tiny import save_tiny_llama
from tests.trainers.recipe_builders import write_world
from tests.trainers.training_driver import Quiet, never_fail, weights
from trainers.config.load import load_recipe
from trainers.config.recipe import Recipe
from trainers.config.run_options import ALL_HERE, RunOptions
from trainers.loop.gated_training import GatedTraining
from trainers.loop.stages import run_stages

ADAPTER = {"rank": 4, "alpha": 8}


@pytest.fixture
def server(tiny_llama: Path, tmp_path: Path) -> Iterator[ModelServer]:
    with serving_adapters(tiny_llama, Workspace.at(tmp_path / "server")) as started:
        yield started


def train(
    recipe: Recipe, home: Path, options: RunOptions = ALL_HERE
) -> tuple[GatedTraining, dict[int, float], set[str]]:
    """The training, the perplexity of each step, and what answered."""
    workspace = Workspace.at(home).ensure()
    with Store(workspace) as store:
        training = GatedTraining(recipe, workspace, store, Quiet(), options=options)  # type: ignore[arg-type]
        never_fail(training, {})
        training.run()
        rows = store.query(
            "SELECT step, mean, subject FROM run_summary JOIN runs USING (run_id) "
            "WHERE run_summary.metric = 'perplexity'"
        )
    backends = {str(dict(row["subject"])["backend"]) for row in rows}
    return training, {row["step"]: row["mean"] for row in rows}, backends


@pytest.mark.long
def test_a_server_with_the_adapter_answers_as_the_live_model(
    tmp_path: Path, tiny_llama: Path, server: ModelServer
) -> None:
    recipe = load_recipe(
        write_world(tmp_path, tiny_llama, spoiled=False, talk=False, adapter=ADAPTER)
    )
    live, mine, _ = train(recipe, tmp_path / "live")
    described = tmp_path / "vllm.yaml"
    described.write_text(f"url: {server.url}\nweights: {tiny_llama}\n", encoding="utf-8")
    served = RunOptions(scored_on=f"openai:{described}")
    other, theirs, backends = train(recipe, tmp_path / "served", served)
    assert backends == {"openai"}
    assert sorted(theirs) == [0, 3, 6, 9, 12]
    assert theirs == pytest.approx(mine, rel=1e-4)
    assert weights(other.folder.path(12)) == weights(live.folder.path(12))
    asked = [(path, body) for path, body in server.asked if path.endswith("lora_adapter")]
    loaded = [Path(body["lora_path"]).name for path, body in asked if path.startswith("/load")]
    # The last one comes back for its reserve, since it is the one to offer.
    assert loaded == [f"step-{step:06d}" for step in (0, 3, 6, 9, 12, 12)]
    assert server.adapters == {}

    # Going on without the server would hold other last bits against the anchor's.
    (other.record.path).write_text(
        other.record.path.read_text("utf-8").replace('"finished"', '"running"'), encoding="utf-8"
    )
    lost = other.folder.path(12)
    lost.rename(lost.with_name("gone"))
    with pytest.raises(UserError, match="began with answers by openai"):
        train(recipe, tmp_path / "served")


@pytest.mark.vllm
def test_a_real_vllm_answers_as_the_live_model(tmp_path: Path) -> None:
    """Each adapter is loaded by its bytes, read with, and taken out again."""
    if not has("vllm"):
        pytest.skip("vLLM is not installed")
    base = save_tiny_llama(tmp_path / "base", **VLLM_CAN)
    recipe = load_recipe(write_world(tmp_path, base, spoiled=False, talk=False, adapter=ADAPTER))
    _, mine, _ = train(recipe, tmp_path / "live")
    with vllm_server(base, name="tiny", log=tmp_path / "log") as url:
        described = tmp_path / "vllm.yaml"
        described.write_text(f"url: {url}\nweights: {base}\n", encoding="utf-8")
        served = RunOptions(scored_on=f"openai:{described}")
        _, theirs, backends = train(recipe, tmp_path / "served", served)
        with urllib.request.urlopen(f"{url}/models", timeout=10) as answer:
            left = [model["id"] for model in json.load(answer)["data"]]
    assert backends == {"openai"}
    assert left == ["tiny"]
    assert theirs == pytest.approx(mine, rel=1e-2)
    assert len(set(theirs.values())) == len(theirs)


@pytest.mark.parametrize("adapter", [{"kind": "dora"}, {"modules_to_save": ["lm_head"]}, None])
def test_what_a_server_cannot_put_on_is_refused(
    tmp_path: Path, adapter: dict[str, object] | None
) -> None:
    recipe = load_recipe(write_world(tmp_path, Path("nowhere"), adapter=adapter))
    served = RunOptions(scored_on="openai:http://127.0.0.1:9/v1")
    workspace = Workspace.at(tmp_path / "home").ensure()
    with Store(workspace) as store, pytest.raises(UserError, match="plain LoRA adapters"):
        list(run_stages(recipe, workspace, store, Quiet(), options=served))  # type: ignore[arg-type]
