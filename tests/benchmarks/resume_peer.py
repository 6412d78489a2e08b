"""The usual way back: a process that loads everything and resumes. Says `step` at its first one.

python resume_peer.py MODEL CHECKPOINT ROWS.json THREADS
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from typing import Any


def main(folder: str, checkpoint: str, rows: str, threads: str) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    torch.set_num_threads(int(threads))

    class First(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            print("step", flush=True)
            os._exit(0)

    adapter = LoraConfig.from_pretrained(checkpoint)
    adapter.inference_mode = False
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with open(rows, encoding="utf-8") as file:  # noqa: PTH123
        dataset = Dataset.from_list(json.load(file))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SFTConfig(
            output_dir=scratch,
            max_steps=2,
            per_device_train_batch_size=1,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to=[],
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
        )
        trainer = SFTTrainer(
            model=get_peft_model(model, adapter),
            args=arguments,
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(folder),
            callbacks=[First()],
        )
        trainer.train(resume_from_checkpoint=checkpoint)


if __name__ == "__main__":
    main(*sys.argv[1:])
