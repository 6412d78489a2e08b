"""Started by torchrun with FOLDER BASE WHAT: a Trainer in two processes, `plain` or `gated`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def train_in_two(folder: Path, base: Path, what: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    module = ["--nproc-per-node", "2", "-m", "tests.trainers.wrap.two_processes"]
    done = subprocess.run(
        [*torchrun, *module, str(folder), str(base), what],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


def main() -> None:
    from tests.trainers.wrap.wrap_builders import Fault, sft
    from trainers import gated

    folder, base, what = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    trainer = sft(folder / "out", base, per_device_train_batch_size=2, ddp_timeout=900)
    if what == "fault":
        trainer.add_callback(Fault(8, "noise"))
    if what != "plain":
        trainer = gated(trainer, folder / "suite.yaml", store=folder / "home")
    trainer.train()
    trainer.save_model(str(folder / f"end-{trainer.args.process_index}"))


if __name__ == "__main__":
    main()
