"""Real servers for tests: llama.cpp's and transformers' own, over the tiny model, on loopback."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def has(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str], port: int, *, path: str, log: Path, **environment: str
) -> Iterator[str]:
    """Run a server until the block ends; yields its `http://127.0.0.1:PORT/v1`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment},
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}{path}", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def llama_server(gguf: Path, *, context: int, alias: str, log: Path) -> Iterator[str]:
    """llama-cpp-python's server; `logits_all` is what lets it echo log-probabilities."""
    port = free_port()
    words = ["--model", str(gguf), "--model_alias", alias, "--n_ctx", str(context)]
    words += ["--logits_all", "true", "--n_threads", "1", "--n_threads_batch", "1"]
    command = [sys.executable, "-m", "llama_cpp.server", "--port", str(port), *words]
    with running(command, port, path="/v1/models", log=log) as url:
        yield url


@contextmanager
def transformers_server(folder: Path, *, log: Path) -> Iterator[str]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    with running(command, port, path="/health", log=log) as url:
        yield url


VLLM_CAN = {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
"""Sizes of a tiny Llama that vLLM's kernels take."""


@contextmanager
def vllm_server(folder: Path, *, name: str, log: Path) -> Iterator[str]:
    """vLLM serving the model in `folder` as `name`, ready to take adapters while it runs."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--enable-lora", "--max-lora-rank", "16", "--dtype", "float32"]
    command += ["--generation-config", "vllm", "--gpu-memory-utilization", "0.3"]
    with running(
        command, port, path="/health", log=log, VLLM_ALLOW_RUNTIME_LORA_UPDATING="True"
    ) as url:
        yield url


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"the server did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def save_gguf(path: Path, model: Any, tokenizer: Any) -> Path:
    """A Llama with a byte-level BPE as an fp32 GGUF: the very same weights, for llama.cpp."""
    import json

    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)

    bpe = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {token["id"] for token in bpe["added_tokens"]}
    count = len(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(list(range(count))))
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if n in special else normal for n in range(count)])
    writer.add_token_merges([" ".join(pair) for pair in bpe["model"]["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)

    heads = {"q": config.num_attention_heads, "k": config.num_key_value_heads}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy().astype(np.float32)
        for which, number in heads.items():
            if f".{which}_proj." in name:
                values = _rotated(values, number)
        place = names.get_name(name, try_suffixes=(".weight",))
        if place is not None and not (config.tie_word_embeddings and name == "lm_head.weight"):
            writer.add_tensor(place, np.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _rotated(values: Any, heads: int) -> Any:
    """llama.cpp rotates neighbouring pairs of a head; transformers rotates its two halves."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, -1)
