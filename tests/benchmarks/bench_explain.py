"""What an explanation takes: the influence of rows, and one sample's words.

SmolLM2-135M with LoRA on the quickstart's rows. The usual TracIn takes a gradient of each row.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_lm_eval import THREADS

RECIPE = Path(__file__).resolve().parents[2] / "trainers" / "recipes" / "quickstart.yaml"
LOST = 64
PEER = 20
"""Rows whose gradients the peer takes: their time grows with their number."""
SAMPLES = 3
METRICS = 10


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows of (what, ours, peer, ratio, goal, note); `quick` takes the smallest sizes."""
    import torch

    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        model, backend, rows = _opened(Path(scratch), 16 if quick else 1000)
        found = [_rows(model, rows, 4 if quick else PEER), _samples(model, backend)]
    return [*found, _where(400 if quick else 4_000)]


def _opened(place: Path, count: int) -> tuple[Any, Any, list[Any]]:
    """(model, backend, rows): the recipe's rows over and over until there are so many."""
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve
    from trainers.config.load import load_recipe
    from trainers.explain.influence import Tokens
    from trainers.methods.base import Job, method_of
    from trainers.methods.sft import tokenized

    recipe = load_recipe(RECIPE)
    stage, method = recipe.stages[0], method_of("sft")
    workspace = Workspace.at(place).ensure()
    model, tokenizer = method.open(recipe, resolve(recipe.model.base, workspace), None)
    backend = method.backend(model, tokenizer)
    job = Job(recipe, stage, model, tokenizer, backend, workspace, place, lambda: (), ())
    examples = [stage.examples[i % len(stage.examples)] for i in range(count)]
    found = tokenized(job, examples)
    return model, backend, [Tokens(tuple(r["input_ids"]), tuple(r["labels"])) for r in found]


def _rows(model: Any, rows: list[Any], peers: int) -> dict[str, object]:
    import torch

    from trainers.explain.influence import gradient, influence, trainable

    lost = rows[:LOST]
    end = {name: p + 1e-3 * torch.randn_like(p) for name, p in trainable(model).items()}
    started = time.perf_counter()
    influence(model, rows, lost, end=end)
    ours = time.perf_counter() - started
    direction = gradient(model, lost)
    started = time.perf_counter()
    for row in rows[:peers]:
        one = gradient(model, [row])
        sum(float((part * direction[name]).sum()) for name, part in one.items())
    peer = (time.perf_counter() - started) * len(rows) / peers
    tokens = sum(len(row.ids) for row in rows) / len(rows)
    return {
        "what": f"influence of {len(rows):,} rows on {len(lost)} samples",
        "ours": f"{ours:.0f} s",
        "peer": f"{peer:.0f} s (a gradient of each row)",
        "ratio": ours / peer,
        "goal": "<= 180 s",
        "note": f"{tokens:.0f} tokens a row; ours with the samples' gradient at four places, the "
        f"peer's without, timed on {peers} rows",
    }


def _samples(model: Any, backend: Any) -> dict[str, object]:
    from harness.attribution.attention import attention
    from harness.attribution.integrated import integrated_gradients
    from harness.attribution.likelihood import Asked, logprobs_of
    from harness.attribution.occlusion import left_out, words_of

    def asked(text: str) -> Asked:
        ids, empty = (
            backend.encode_chat([{"role": "user", "content": said}]) for said in (text, "")
        )
        before, said = backend.encode_answer('{"intent": "book_table"}', ids)
        return Asked.between((*ids, *before), (*empty, *before), said)

    text = "Please book a table for two at seven, under the name of Li."
    parts = {"IG": 0.0, "words": 0.0, "attention": 0.0}
    for _ in range(SAMPLES):
        started = time.perf_counter()
        found = integrated_gradients(model, asked(text))
        parts["IG"] += time.perf_counter() - started
        started = time.perf_counter()
        logprobs_of(model, [asked(each) for each in left_out(text, words_of(text))])
        parts["words"] += time.perf_counter() - started
        started = time.perf_counter()
        attention(model, asked(text))
        parts["attention"] += time.perf_counter() - started
    # Both models of a verdict are asked, about ten samples.
    total = 20 * sum(parts.values()) / SAMPLES
    return {
        "what": "ten samples explained, both models asked",
        "ours": f"{total:.0f} s",
        "peer": "-",
        "ratio": total / 60,
        "goal": "<= 60 s",
        "note": ", ".join(f"{name} {20 * s / SAMPLES:.0f} s" for name, s in parts.items())
        + f"; loading not counted; the sum of Integrated Gradients is off by {found.gap:.2%}",
    }


def _where(count: int) -> dict[str, object]:
    """Slices of ten metrics on samples with three fields, a language and a question."""
    import numpy as np

    from harness.comparison.where import worst_slices
    from harness.core.types import Sample
    from harness.gate.pairing import Paired

    chance = np.random.default_rng(0)
    samples = {
        f"s{n:05d}": Sample(
            f"s{n:05d}",
            "t",
            fields={"kind": f"k{n % 3}", "topic": f"t{n % 17}", "source": f"f{n % 9}"},
            prompt=({"role": "user", "content": " ".join(map(str, chance.integers(0, 200, 20)))},),
            language="zh" if n % 2 else "en",
        )
        for n in range(count)
    }
    zero = np.zeros(count)
    started = time.perf_counter()
    for _ in range(METRICS):
        harm = chance.normal(0, 1, count)
        worst_slices(
            Paired(tuple(samples), zero, -harm, harm, zero, 0.0, 0.0, (zero, -harm)),
            samples,
            METRICS,
        )
    took = time.perf_counter() - started
    return {
        "what": f"where {METRICS} metrics fell, {count:,} samples each",
        "ours": f"{took:.1f} s",
        "peer": "5 s (goal)",
        "ratio": took / 5,
        "goal": "≤ 1",
        "note": "fields, language, length, topics, pairs of them, 60 words; 2,000 dealings",
    }
