"""Runs under lm-eval's own Python, never under ours: times lm-eval's `hf` backend on request.

Reads commands (`perplexity`, `generate`, `choices:NAME`) from stdin, one a line, and answers each
with one line of JSON on stdout: the seconds it took in process, and what was measured.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def main(model: str, data: str, batch: str, threads: str) -> None:
    # lm-eval prints on stdout, which here belongs to the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    import torch
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(int(threads))
    size = int(batch) if batch.isdecimal() else batch
    lm = HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=size)
    items = json.loads(Path(data).read_text(encoding="utf-8"))
    work = {"perplexity": _perplexity, "generate": _generate, "choices": _choices}
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        started, used = time.perf_counter(), time.process_time()
        name, _, which = line.strip().partition(":")
        result = work[name](lm, items, which)
        result["seconds"] = time.perf_counter() - started
        result["processor_seconds"] = time.process_time() - used
        print(json.dumps(result), file=answers, flush=True)


def _perplexity(lm: Any, items: dict[str, Any], _: str) -> dict[str, Any]:
    from lm_eval.api.instance import Instance

    requests = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
        for text in items["documents"]
    ]
    return {"values": lm.loglikelihood_rolling(requests, disable_tqdm=True)}


def _choices(lm: Any, items: dict[str, Any], which: str) -> dict[str, Any]:
    from lm_eval.api.instance import Instance

    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(context, choice), idx=0)
        for context, choices in items["choices"][which]
        for choice in choices
    ]
    found = lm.loglikelihood(requests, disable_tqdm=True)
    return {"values": [value for value, _ in found]}


def _generate(lm: Any, items: dict[str, Any], _: str) -> dict[str, Any]:
    from lm_eval.api.instance import Instance

    settings = {
        "until": [items["stop"]],
        "max_gen_toks": items["new_tokens"],
        "do_sample": items["temperature"] > 0,
        "temperature": items["temperature"],
    }
    requests = [
        Instance(request_type="generate_until", doc={}, arguments=(prompt, dict(settings)), idx=0)
        for prompt in items["prompts"]
        for _ in range(items["responses"])
    ]
    texts = lm.generate_until(requests, disable_tqdm=True)
    return {"tokens": sum(len(lm.tok_encode(text)) for text in texts), "answers": len(texts)}


if __name__ == "__main__":
    main(*sys.argv[1:])
