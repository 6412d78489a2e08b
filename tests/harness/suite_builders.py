"""Small suites and a scripted model for tests of everything that runs them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.comparison.service import gate
from harness.evaluation.runner import score
from harness.store.store import Store
from harness.suite.load import load_suite

Ratchet = Callable[..., tuple[int, str]]
"""The fixture `ratchet`: the words of a command to its exit code and what it printed."""

CAPITALS = {"France": "Paris", "Peru": "Lima", "中国": "北京", "Japan": "Tokyo", "Chad": "Faya"}


def write_jsonl(path: Path, rows: list[Mapping[str, Any]]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def suite_yaml(folder: Path, **changes: Any) -> Path:
    """Write a suite with a greedy, a sampled and a text task; `changes` replace top-level keys."""
    write_jsonl(
        folder / "capitals.jsonl",
        [{"id": k, "country": k, "capital": v} for k, v in CAPITALS.items()],
    )
    suite: dict[str, Any] = {
        "name": "capitals",
        "tasks": {
            "ask": {
                "data": "capitals.jsonl",
                "prompt": {"system": "One word.", "user": "Capital of {{ country }}?"},
                "generate": {"max_new_tokens": 16},
                "reference": "{{ capital }}",
                "metrics": ["exact_match", "reference_nll"],
            },
            "talk": {
                "data": "capitals.jsonl",
                "prompt": {"user": "Tell me of {{ country }}."},
                "generate": {"responses": 3, "temperature": 1.0, "max_new_tokens": 24},
                "metrics": ["self_bleu"],
            },
            "read": {
                "data": "capitals.jsonl",
                "text": "{{ capital }} is in {{ country }}.",
                "metrics": ["perplexity"],
            },
        },
    }
    suite.update(changes)
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(suite, allow_unicode=True), encoding="utf-8")
    return path


def scripted(answers: Any = None, *, name: str = "scripted") -> tuple[Candidate, ScriptedBackend]:
    """A candidate whose answers are known, and the backend that counts them."""
    backend = ScriptedBackend(CAPITALS if answers is None else answers)
    digest = f"digest of {name}"
    return Candidate(name, digest, backend.subject, lambda: backend), backend


def verdict_between(
    folder: Path,
    store: Store,
    rows: list[Mapping[str, Any]],
    good: Mapping[str, str],
    bad: Mapping[str, str],
    metric: str = "exact_match",
) -> str:
    """The id of a stored verdict on two models that answer the questions `q` of the rows like
    this; `a` is what is right.
    """
    write_jsonl(folder / "d.jsonl", rows)
    (folder / "s.yaml").write_text(
        "name: s\ntasks:\n  t:\n    data: d.jsonl\n    prompt: {user: '{{ q }}'}\n"
        f"    reference: '{{{{ a }}}}'\n    metrics: [{metric}]\n",
        "utf-8",
    )
    suite = load_suite(folder / "s.yaml")
    anchor, candidate = (
        score(scripted(answers, name=name)[0], suite, store).run
        for name, answers in (("good", good), ("bad", bad))
    )
    gate(candidate, anchor, store=store)
    [row] = store.query("SELECT verdict_id FROM verdicts")
    return str(row["verdict_id"])
