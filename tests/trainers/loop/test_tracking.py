"""Trackers through the Trainer's own integrations: real files, and nothing leaves the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainers.method_builders import write_method_world

ROOT = Path(__file__).parents[3]
# Whoever opens a connection to another machine is thrown out, with the place where it was done.
COMMAND = """
import socket, sys
def only_here(self, address, connect=socket.socket.connect):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"a connection to {address}")
    return connect(self, address)
socket.socket.connect = only_here
def no_names(host, *rest, **named):
    raise OSError(f"a name looked up: {host}")
socket.getaddrinfo = no_names
from harness.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


def train(folder: Path, base: Path, tracker: str, **environment: str) -> str:
    """Train with a tracker and no network; returns what was said."""
    path = write_method_world(
        folder, base, "sft", tracking=[tracker], stage={"steps": 2, "checkpoint_every": 2}
    )
    ours = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder), **environment}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "train", str(path), "--home", str(folder / "home")],
        env={**os.environ, **ours},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert "a connection to" not in said
    assert "a name looked up" not in said
    return said


@pytest.mark.long
def test_mlflow_keeps_the_loss_in_a_file(tmp_path: Path, tiny_llama: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    train(tmp_path, tiny_llama, "mlflow", MLFLOW_TRACKING_URI=uri)
    client = mlflow.tracking.MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    [run] = [run for run in runs if "loss" in run.data.metrics]
    assert [point.step for point in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    assert run.data.params["learning_rate"] == "0.01"


@pytest.mark.long
def test_wandb_offline_keeps_the_loss_in_a_file(tmp_path: Path, tiny_llama: Path) -> None:
    pytest.importorskip("wandb")
    train(tmp_path, tiny_llama, "wandb", WANDB_MODE="offline", WANDB_DIR=str(tmp_path))
    [record] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"train/loss" in record.read_bytes()
    assert not list(tmp_path.glob("wandb/run-*"))


@pytest.mark.long
def test_tensorboard_keeps_the_loss_in_a_file(tmp_path: Path, tiny_llama: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(tmp_path, tiny_llama, "tensorboard")
    [home] = (tmp_path / "home" / "trainings").iterdir()
    state = json.loads((home / "state.json").read_text(encoding="utf-8"))
    assert state["status"] == "finished"
    found = events.EventAccumulator(str(home / "tensorboard"))
    found.Reload()
    assert [event.step for event in found.Scalars("train/loss")] == [1, 2]
