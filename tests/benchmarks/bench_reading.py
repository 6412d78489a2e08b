"""Reading what prompts share: choices, few-shot prompts; against lm-eval's `hf`, taking turns."""

from __future__ import annotations

import json
import math
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import bench_lm_eval as peer
from tests.benchmarks.peers import ROOT

SHOTS, QUESTIONS, ENDINGS = 5, 16, 24
NEW_TOKENS = 32
Question = tuple[str, list[str]]


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows of (what, ours, peer, ratio, goal, note); `quick` asks a quarter of it, once.

    RATCHET_BENCH_ROUNDS says how often each side is timed, three times by default.
    """
    import torch

    from harness.backends.transformers.backend import TransformersBackend
    from harness.core.workspace import Workspace
    from harness.models.resolve import load, resolve

    torch.set_num_threads(peer.THREADS)
    python = peer.peer_python()
    if python is None:
        return []
    files = resolve("smollm2-135m-instruct", Workspace.at())
    backend = TransformersBackend(*load(files))
    rounds = 1 if quick else int(os.environ.get("RATCHET_BENCH_ROUNDS", "3"))
    part = 4 if quick else 1
    sets = {
        "five-shot questions, choices A to D": (_letters(QUESTIONS // part), "<= 0.35"),
        "five-shot questions, choices of five words": (_words(QUESTIONS // part), "<= 0.25"),
        "questions alone, four endings": (_endings(ENDINGS // part), "<= 0.7"),
    }
    items: dict[str, Any] = {
        "choices": {what: questions for what, (questions, _) in sets.items()},
        "prompts": [context for context, _ in _letters(QUESTIONS // part)],
        "responses": 1, "new_tokens": NEW_TOKENS, "temperature": 0.0, "stop": peer.STOP,
    }  # fmt: skip
    rows = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        peer.open_peer(python, files.folder, items, Path(scratch), peer.PEER_BATCH) as ask,
    ):
        for what, (questions, goal) in sets.items():
            ours, theirs = peer.in_turns(
                lambda questions=questions: _our_choices(backend, questions),
                lambda what=what: ask(f"choices:{what}"),
                rounds,
            )
            _compare(what, ours["values"], theirs["values"])
            sizes = sorted(len(backend.encode(context)) for context, _ in questions)
            note = f"contexts of {sizes[0]} to {sizes[-1]} tokens; sums equal to 1e-3"
            row = peer.row_of(f"{len(questions)} {what}", ours, theirs, goal)
            rows.append({**row, "note": note})
        ours, theirs = peer.in_turns(
            lambda: _our_answers(backend, items), lambda: ask("generate"), rounds
        )
    what = f"{len(items['prompts'])} five-shot prompts, {NEW_TOKENS} tokens each, greedily"
    note = f"{ours['tokens']} and {theirs['tokens']} tokens written"
    return [*rows, {**peer.row_of(what, ours, theirs, "<= 0.5"), "note": note}]


def _compare(what: str, ours: list[float], theirs: list[float]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        if not math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-3):
            raise AssertionError(f"{what}: {a} and {b}")


def _our_choices(backend: Any, questions: list[Question]) -> dict[str, Any]:
    from harness.backends.base import LogprobRequest

    started = time.perf_counter()
    pairs = [(context, choice) for context, choices in questions for choice in choices]
    requests = [
        LogprobRequest(str(number), backend.encode(context), backend.encode(choice))
        for number, (context, choice) in enumerate(pairs)
    ]
    sums = {result.request_id: sum(result.logprobs) for result in backend.logprobs(requests)}
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "values": [sums[str(n)] for n in range(len(pairs))]}


def _our_answers(backend: Any, items: dict[str, Any]) -> dict[str, Any]:
    from harness.backends.base import GenerationRequest, GenerationSettings

    started = time.perf_counter()
    settings = GenerationSettings(max_new_tokens=NEW_TOKENS, stop=(items["stop"],))
    requests = [
        GenerationRequest(str(number), backend.encode(prompt), (0,))
        for number, prompt in enumerate(items["prompts"])
    ]
    answers = list(backend.generate(requests, settings))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "tokens": sum(len(answer.token_ids) for answer in answers)}


def _passages() -> list[str]:
    lines = (ROOT / "suites/data/general.heldout.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def _few_shot(count: int) -> list[str]:
    """Prompts that begin with the same five questions and their answers."""
    chance = random.Random(3)
    passages = _passages()

    def question(passage: str) -> str:
        return f"Question: which of A, B, C and D goes on best from here? {passage}\nAnswer:"

    shots = "".join(
        f"{question(passage)} {chance.choice('ABCD')}\n\n" for passage in passages[:SHOTS]
    )
    return [shots + question(passage) for passage in passages[SHOTS : SHOTS + count]]


def _letters(count: int) -> list[Question]:
    return [(context, [" A", " B", " C", " D"]) for context in _few_shot(count)]


def _words(count: int) -> list[Question]:
    chance = random.Random(5)
    words = [word for word in " ".join(_passages()).split() if word.isalpha()]
    return [
        (context, [" " + " ".join(chance.sample(words, 5)) for _ in range(4)])
        for context in _few_shot(count)
    ]


def _endings(count: int) -> list[Question]:
    """Questions that share nothing, with endings of a sentence and a few far longer ones."""
    chance = random.Random(9)
    passages = _passages()
    found = []
    for number in range(count):
        context = f"{number}. {passages[number % len(passages)]} Then"
        endings = [
            " " + " ".join(" ".join(chance.sample(passages, 1 + 5 * (n == number % 11))).split())
            for n in range(4)
        ]
        found.append((context, endings))
    return found


if __name__ == "__main__":
    for row in run(quick="--quick" in sys.argv):
        print(row)
