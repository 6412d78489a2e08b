"""The model that an installed package carries as GGUF, converted once to a model folder."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.core.errors import UserError

CHATML = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def convert(gguf: Path, folder: Path) -> None:
    """Write to `folder` the dequantized fp32 weights of `gguf`, its configuration and tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from harness.core.quiet import quiet_libraries

    with quiet_libraries():
        quantised = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        )
        settings = quantised.config.to_dict()
        # Kept, it would make every later `from_pretrained` look for a GGUF file.
        settings.pop("quantization_config", None)
        settings.pop("_name_or_path", None)
        config = AutoConfig.for_model(**settings)
        automatic: Any = AutoModelForCausalLM
        model = automatic.from_config(config, dtype=torch.float32)
        model.load_state_dict(quantised.state_dict())
        model.generation_config = quantised.generation_config
        model.save_pretrained(folder)
        _tokenizer(gguf, config.max_position_embeddings).save_pretrained(folder)


def unpacked(
    gguf: Path,
    folder: Path,
    say: Callable[[str], None],
    *,
    convert: Callable[[Path, Path], None] = convert,
) -> Path:
    """`folder` with what `convert` makes of `gguf`, made on first use.

    The folder appears by one rename, so it is complete or absent; of two processes that ask at
    once, one does the work and the other waits for it. `say` is called before the work begins.
    Raises UserError on a full disk.
    """
    if folder.is_dir():
        return folder
    from filelock import FileLock

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():  # another process may have made it while this one waited
                say(f"unpacking {folder.name} (once, about 20 seconds)")
                _unpack(gguf, folder, convert)
    except OSError as error:
        raise UserError(
            f"the model can't be unpacked: {error.strerror or error}",
            file=folder,
            hint="it takes 0.6 GB; free some space, or choose another folder with --home DIR",
        ) from error
    return folder


def _unpack(gguf: Path, folder: Path, convert: Callable[[Path, Path], None]) -> None:
    prefix = f".staged-{folder.name}-"
    # Left by a process that was killed: the lock is held, so none is at work.
    for stale in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    staged = folder.with_name(f"{prefix}{uuid.uuid4().hex[:8]}")
    try:
        convert(gguf, staged)
        for path in [*staged.iterdir(), staged]:
            _flush(path)
        staged.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _tokenizer(gguf: Path, max_length: int) -> Any:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The conversion reads GGUF's "smollm" pre-tokenizer as plain GPT-2's, which lets spaces
    # run into digits; the model was trained with every digit on its own.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.chat_template = CHATML
    # The sentinel 1e30 overflows in libraries that pass it on to Rust.
    tokenizer.model_max_length = max_length
    return tokenizer


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
