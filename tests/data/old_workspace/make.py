"""Makes `workspace.tar.xz`: a user's folder as the code before the rooms were moved left it.

Runs with commit c4068ff and its environment, never with today's code:

    git worktree add OLD c4068ff
    cd OLD && python THIS_FILE FOLDER    # writes FOLDER/workspace.tar.xz

Everything in it comes through that commit's own functions: nothing is written by hand. The models
are a few kilobytes; those that nothing asks again are left out.
"""

# ruff: noqa: E402, I001 - its rooms are those of the old commit
from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import shutil
import socket
import sys
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path.cwd()))
HOME = Path("/tmp/a-reader")

from harness import ratings
from harness.cli import main
from harness.ratings import Rules
from harness.registry import Registry
from harness.runs import require_run
from harness.store import Store
from harness.watch import ramp
from harness.watch.policy import SignalPolicy, WatchPolicy
from harness.watch.signals import BY_NAME
from harness.watch.state import check
from harness.workspace import Workspace
from tests.harness.worlds import suite_yaml
from tests.tiny import tiny_model, tiny_tokenizer
from tests.trainers.driving import Quiet
from tests.trainers.worlds import write_world
from trainers.loop import GatedTraining
from trainers.recipe import load_recipe

LINE = "support-bot"
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "layers": 1,
}


def ratchet(*words: str, codes: tuple[int, ...] = (0,)) -> None:
    code = main([*words])
    assert code in codes, (words, code)


def save_model(name: str, **settings: Any) -> Path:
    tokenizer = tiny_tokenizer(vocab_size=300)
    tiny_model(len(tokenizer), **{**SMALL, **settings}).save_pretrained(name)
    tokenizer.save_pretrained(name)
    return Path(name)


def scored_and_gated() -> None:
    """Two models on a suite: runs, a verdict, a calibration, a bundle, cached answers."""
    gate = {"metrics": {"read/perplexity": {"required": True}}}
    suite_yaml(Path(), gate=gate)
    for model in ("first", "second"):
        ratchet("score", model, "--suite", "suite.yaml")
    first, second = run_ids()
    ratchet("gate", f"run:{second}", "--against", f"run:{first}", codes=(0, 1, 2))
    ratchet("calibrate", "first", "--suite", "suite.yaml", "--trials", "100")
    ratchet("export", first, "bundle")


def run_ids() -> list[str]:
    with Store(Workspace.at()) as store:
        rows = store.query(
            "SELECT arg_min(run_id, seq) AS run_id FROM runs WHERE suite = 'capitals' "
            "GROUP BY model ORDER BY model"
        )
    return [row["run_id"] for row in rows]


def trained() -> None:
    """A training that met rubbish, went back and finished; and one that was interrupted."""
    adapter = {"kind": "lora", "rank": 4, "alpha": 8, "targets": ["q_proj", "v_proj", "up_proj"]}
    for name, interrupt_at in (("finished", None), ("interrupted", 30)):
        Path(name).mkdir()
        recipe = write_world(Path(name), Path("../first"), adapter=adapter)
        document = yaml.safe_load(recipe.read_text())
        document |= {"name": name, "base": "first", "line": name}
        document["stages"][0]["learning_rate"] = 0.3
        recipe.write_text(yaml.safe_dump(document))
        workspace = Workspace.at().ensure()
        with Store(workspace) as store, contextlib.suppress(KeyboardInterrupt):
            training = GatedTraining(load_recipe(recipe), workspace, store, Quiet(interrupt_at))
            result = training.run()
            assert result.status == "finished", result
            told = [e["event"] for e in store.query("SELECT DISTINCT event FROM training_events")]
            assert {"crest", "rolled_back"} <= set(told), told


def served() -> None:
    """A line with two promotions and a roll back; what it served; a verdict; a canary."""
    workspace = Workspace.at()
    with Store(workspace) as store:
        registry = Registry(workspace, store)
        digests = []
        for word in ("one", "two", "three"):
            folder = Path(f"served-{word}")
            folder.mkdir()
            (folder / "adapter_model.safetensors").write_text(word * 10)
            (folder / "adapter_config.json").write_text("{}")
            digests.append(registry.add(folder))
        for digest in digests[:2]:
            registry.promote(LINE, digest, override="the first of its kind")
        registry.rollback(LINE, reason="users complained")
        began = datetime.now(UTC) - timedelta(days=1)
        rng = np.random.default_rng(1)
        rows = [
            {
                "observation_id": f"o{n}",
                "line": LINE,
                "model_digest": digests[0],
                "conversation_id": f"c{n}",
                "prompt": f"What of case {n}?",
                "response": "It is settled.",
                "latency_s": float(rng.gamma(4, 0.25)),
                "output_tokens": 12,
                "outcome": "completed" if rng.random() < 0.9 else "abandoned",
                "observed_at": began + timedelta(seconds=20 * n),
                "received_at": began + timedelta(seconds=20 * n),
            }
            for n in range(400)
        ]
        store.append("observations", rows)
        signals = dict.fromkeys(BY_NAME) | {"completion": SignalPolicy(required=True)}
        policy = WatchPolicy(conversations=200, settle_s=60, signals=signals)
        assert check(store, registry, LINE, policy).observations == 400
        ramp.begin(
            store, registry, LINE, digests[2], act=True, ramp=(0.3, 0.5, 1.0), override="a trial"
        )


def rated() -> None:
    """A session of two raters over the runs' answers, with their votes."""
    from dashboard.rating.desk import Desk

    with Store(Workspace.at()) as store:
        found = [require_run(store, run) for run in run_ids()]
        session = ratings.create(
            store, found, Rules(title="Which is better?", votes=20, min_dwell_ms=0)
        )
        for rater in ("ann", "bo"):
            link = {"link": f"link-{rater}", "expires_at": 2**40}
            ratings.record(store, session, "invited", rater=rater, config=link)
        desk = Desk(store, session, b"key")
        for rater in ("ann", "bo"):
            desk.consent(rater)
            for choice in ("left", "right", "tie", "left"):
                state = desk.state(rater)
                if "ticket" in state:
                    desk.vote(rater, state["ticket"], choice, 2500.0)


def slimmed() -> None:
    """Leave out the weights that nothing asks again, and what only a machine wants to know."""
    shutil.rmtree("second")
    shutil.rmtree(".ratchet/logs", ignore_errors=True)
    for training in Path(".ratchet/trainings").glob("finished-*"):
        for folder in (*training.glob("checkpoints/step-*"), *training.glob("rejected/*")):
            if not folder.name.endswith("000012"):
                shutil.rmtree(folder)


def main_() -> None:
    out = Path(sys.argv[1]).resolve()
    assert not HOME.exists(), f"{HOME} is in the way"
    HOME.mkdir()
    os.chdir(HOME)
    platform.node = socket.gethostname = lambda: "a-machine"
    getpass.getuser = lambda: "ann"
    save_model("first")
    save_model("second", seed=8)
    scored_and_gated()
    trained()
    served()
    rated()
    with Store(Workspace.at()) as store:
        store.query("SELECT 1")
    slimmed()
    with tarfile.open(out / "workspace.tar.xz", "w:xz", preset=9) as archive:
        for path in sorted(Path().iterdir()):
            archive.add(path)
    print((out / "workspace.tar.xz").stat().st_size)
    print(json.dumps(sorted(p.name for p in Path().iterdir())))


if __name__ == "__main__":
    main_()
