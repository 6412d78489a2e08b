"""Against lm-eval's `hf` backend: the same model, data, dtype and threads, taking turns.

lm-eval lives in a virtual environment of its own (`.venv-bench`), made here on first use, and
answers from a process that has its model loaded before the clock starts. It gets batches of 8,
as in the examples of its own README; its default of 1 pads nothing and is timed as well.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import ROOT, python_of

PEER_BATCH = 8
THREADS = 2
NEW_TOKENS = 48
RESPONSES = 4
TEMPERATURE = 0.8
STOP = "<|im_end|>"


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows of (what, ours, peer, ratio, goal, note); `quick` does a quarter of it, once.

    RATCHET_BENCH_ROUNDS says how often each side is timed, three times by default.
    """
    import torch

    from harness.backends.transformers.backend import TransformersBackend
    from harness.core.workspace import Workspace
    from harness.models.resolve import load, resolve

    torch.set_num_threads(THREADS)
    python = peer_python()
    if python is None:
        return []
    files = resolve("smollm2-135m-instruct", Workspace.at())
    backend = TransformersBackend(*load(files))
    rounds = 1 if quick else int(os.environ.get("RATCHET_BENCH_ROUNDS", "3"))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        mixed = workload(backend, 16 if quick else 64, 12 if quick else 48)
        rows = _in_process(backend, python, files.folder, mixed, place, rounds)
        return rows + _whole(python, files.folder, mixed, place, rows, min(rounds, 2))


def _in_process(
    backend: Any, python: Path, folder: Path, items: dict[str, Any], place: Path, rounds: int
) -> list[dict[str, object]]:
    documents = items["documents"]
    sizes = sorted(len(backend.encode(text)) for text in documents)
    spread = f"{sizes[0]} to {sizes[-1]} tokens, median {sizes[len(sizes) // 2]}"
    rows = []
    for batch, goal in ((PEER_BATCH, "<= 0.35"), (1, "none: one at a time, nothing is padded")):
        with open_peer(python, folder, items, place, batch) as ask:
            ours, theirs = in_turns(
                lambda: _our_likelihoods(backend, documents),
                lambda ask=ask: ask("perplexity"),
                rounds,
            )
        a, b = (_word_perplexity(documents, side["values"]) for side in (ours, theirs))
        if not math.isclose(a, b, rel_tol=1e-4):
            raise AssertionError(f"word perplexity {a} and {b}")
        what = f"perplexity, {len(documents)} documents"
        note = f"{spread}; word perplexity {a:.4f} and {b:.4f}"
        rows.append({**row_of(what, ours, theirs, goal, batch), "note": note})
    with open_peer(python, folder, items, place, PEER_BATCH) as ask:
        ours, theirs = in_turns(
            lambda: _our_answers(backend, items), lambda: ask("generate"), rounds
        )
    what = f"generation, {len(items['prompts'])} prompts x {RESPONSES} x {NEW_TOKENS} tokens"
    note = f"{ours['tokens']} and {theirs['tokens']} tokens written, temperature {TEMPERATURE}"
    return [*rows, {**row_of(what, ours, theirs, "<= 0.5"), "note": note}]


def _whole(
    python: Path,
    folder: Path,
    items: dict[str, Any],
    place: Path,
    measured: list[dict[str, object]],
    rounds: int,
) -> list[dict[str, object]]:
    """A fresh process each, from its start to its end; and ours live inside a training."""
    suite = our_suite(items, place)
    tasks = their_tasks(items, place)
    ours, theirs = in_turns(
        lambda: timed(_our_command(folder, suite, place), place),
        lambda: timed(their_command(python, folder, tasks), place),
        rounds,
    )
    fresh = row_of("one more checkpoint, a fresh process each", ours, theirs, "<= 1/3")
    here = sum(float(str(measured[i]["ours"]).split()[0]) for i in (0, 2))
    live = row_of("one more checkpoint, live in training", {"seconds": here}, theirs, "<= 1/3")
    return [
        {**fresh, "note": "ratchet score against lm_eval: start, load, both tasks"},
        {**live, "note": "the model is loaded already, where lm-eval needs a process"},
    ]


def in_turns(
    ours: Callable[[], dict[str, Any]], theirs: Callable[[], dict[str, Any]], rounds: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Results of the last round, with the median of the seconds over all rounds."""
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    sides = list(zip(*pairs, strict=True))
    medians = [statistics.median(result["seconds"] for result in side) for side in sides]
    a, b = ({**side[-1], "seconds": m} for side, m in zip(sides, medians, strict=True))
    return a, b


def row_of(
    what: str, ours: dict[str, Any], theirs: dict[str, Any], goal: str, batch: int = PEER_BATCH
) -> dict[str, object]:
    return {
        "what": what,
        "ours": f"{ours['seconds']:.1f} s",
        "peer": f"{theirs['seconds']:.1f} s (lm-eval hf, batch size {batch})",
        "ratio": ours["seconds"] / theirs["seconds"],
        "goal": goal,
    }


def _our_likelihoods(backend: Any, documents: list[str]) -> dict[str, Any]:
    from harness.backends.base import LogprobRequest

    started = time.perf_counter()
    prefix = (backend.prefix_token_id,)
    requests = [
        LogprobRequest(str(i), prefix, backend.encode(text)) for i, text in enumerate(documents)
    ]
    sums = {result.request_id: sum(result.logprobs) for result in backend.logprobs(requests)}
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "values": [sums[str(i)] for i in range(len(documents))]}


def _our_answers(backend: Any, items: dict[str, Any]) -> dict[str, Any]:
    from harness.backends.base import GenerationRequest, GenerationSettings

    started = time.perf_counter()
    settings = GenerationSettings(max_new_tokens=NEW_TOKENS, temperature=TEMPERATURE)
    requests = [
        GenerationRequest(
            str(i), backend.encode(prompt), tuple(range(i * 100, i * 100 + RESPONSES))
        )
        for i, prompt in enumerate(items["prompts"])
    ]
    answers = list(backend.generate(requests, settings))
    return {
        "seconds": time.perf_counter() - started,
        "tokens": sum(len(answer.token_ids) for answer in answers),
    }


def _word_perplexity(documents: list[str], log_likelihoods: list[float]) -> float:
    """exp(-sum of log-likelihoods / number of words), as lm-eval defines words."""
    words = sum(len(re.split(r"\s+", text)) for text in documents)
    return math.exp(-sum(log_likelihoods) / words)


def heldout_passages() -> list[str]:
    lines = (ROOT / "suites/data/general.heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def workload(backend: Any, documents: int, prompts: int) -> dict[str, Any]:
    """Documents whose lengths are spread as those of texts are, log-normally; and chat prompts."""
    chance = random.Random(7)
    passages = heldout_passages()
    sizes = [min(24, max(1, round(chance.lognormvariate(0.5, 1.0)))) for _ in range(documents)]
    replies = (ROOT / "suites/data/replies.jsonl").read_text(encoding="utf-8").splitlines()
    messages = [json.loads(line)["message"] for line in replies]
    messages += [f"{message} Please explain in detail." for message in messages]
    return {
        "documents": [" ".join(chance.sample(passages, size)) for size in sizes],
        "messages": messages[:prompts],
        "prompts": [
            backend.tokenizer.apply_chat_template(
                [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
            )
            for message in messages[:prompts]
        ],
        "responses": RESPONSES,
        "new_tokens": NEW_TOKENS,
        "temperature": TEMPERATURE,
        "stop": STOP,
    }


def peer_python() -> Path | None:
    return python_of(
        "bench",
        (f"torch=={version('torch').split('+')[0]}",),
        ("lm-eval[hf]==0.4.13", f"transformers=={version('transformers')}"),
    )


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(THREADS),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
    }


@contextmanager
def open_peer(
    python: Path, folder: Path, items: dict[str, Any], place: Path, batch: int
) -> Iterator[Callable[[str], dict[str, Any]]]:
    data = place / "items.json"
    data.write_text(json.dumps(items), encoding="utf-8")
    script = Path(__file__).with_name("lm_eval_peer.py")
    command = [str(python), str(script), str(folder), str(data), str(batch), str(THREADS)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(what: str) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        print(what, file=process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    try:
        assert json.loads(process.stdout.readline())["ready"]
        yield ask
    finally:
        process.stdin.close()
        process.wait(timeout=60)


def timed(command: list[str], place: Path) -> dict[str, Any]:
    # lm-eval reads its data through `datasets`, which would keep a copy in the user's home.
    told = {**environment(), "HF_DATASETS_CACHE": str(place / "datasets")}
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=told, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return {"seconds": seconds}


def our_suite(items: dict[str, Any], place: Path) -> Path:
    write_lines(place / "documents.jsonl", "text", items["documents"])
    write_lines(place / "messages.jsonl", "message", items["messages"])
    suite = place / "bench.yaml"
    suite.write_text(
        "name: bench\ntasks:\n"
        "  documents: {data: documents.jsonl, text: '{{ text }}', metrics: [perplexity]}\n"
        "  answers:\n    data: messages.jsonl\n    prompt: {user: '{{ message }}'}\n"
        f"    generate: {{responses: {RESPONSES}, temperature: {TEMPERATURE}, "
        f"max_new_tokens: {NEW_TOKENS}}}\n    metrics: [json_valid]\n",
        encoding="utf-8",
    )
    return suite


def _our_command(folder: Path, suite: Path, place: Path) -> list[str]:
    # A home of its own each time: nothing is remembered, neither digests nor answers.
    home = tempfile.mkdtemp(dir=place)
    score = ["score", str(folder), "--suite", str(suite), "--dtype", "float32", "--device", "cpu"]
    return [sys.executable, "-m", "harness", "--home", home, *score]


def their_tasks(items: dict[str, Any], place: Path) -> Path:
    tasks = place / "tasks"
    tasks.mkdir()
    shared = "dataset_path: json\ntest_split: test\n"
    (tasks / "documents.yaml").write_text(
        f"task: bench_documents\n{shared}"
        f"dataset_kwargs: {{data_files: {{test: {place / 'documents.jsonl'}}}}}\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list: [{metric: word_perplexity}]\n",
        encoding="utf-8",
    )
    (tasks / "answers.yaml").write_text(
        f"task: bench_answers\n{shared}"
        f"dataset_kwargs: {{data_files: {{test: {place / 'messages.jsonl'}}}}}\n"
        "output_type: generate_until\ndoc_to_text: '{{message}}'\ndoc_to_target: ''\n"
        f"repeats: {RESPONSES}\n"
        f"generation_kwargs: {{until: ['{STOP}'], max_gen_toks: {NEW_TOKENS}, do_sample: true, "
        f"temperature: {TEMPERATURE}}}\nmetric_list: [{{metric: exact_match}}]\n",
        encoding="utf-8",
    )
    return tasks


def their_command(python: Path, folder: Path, tasks: Path) -> list[str]:
    return [
        str(python), "-m", "lm_eval", "--model", "hf",
        "--model_args", f"pretrained={folder},dtype=float32",
        "--tasks", "bench_documents,bench_answers", "--include_path", str(tasks),
        "--device", "cpu", "--batch_size", str(PEER_BATCH), "--apply_chat_template",
    ]  # fmt: skip


def write_lines(path: Path, field: str, values: list[str]) -> None:
    lines = [json.dumps({"id": f"i{n}", field: value}) for n, value in enumerate(values)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for row in run(quick="--quick" in sys.argv):
        print(row)
