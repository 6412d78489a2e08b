"""A recipe that a tiny random model can follow in seconds: learn a text, meet rubbish, recover."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

GOOD = [
    "The quick brown fox jumps over the lazy dog.",
    "The lazy dog does not mind the quick brown fox.",
    "Please book a table for two at seven.",
    "你好，世界。今天的天气很好。",
]
RUBBISH = ["zqx " * 12, "xxqz vvk " * 8, "qqq zzz " * 10, "vkvkvk " * 10]


def rows(texts: list[str], times: int = 1) -> str:
    numbered = [text for _ in range(times) for text in texts]
    lines = [json.dumps({"id": f"r{i}", "text": t}) for i, t in enumerate(numbered)]
    return "\n".join(lines) + "\n"


def edit(path: Path, *place: str | int, value: Any) -> Path:
    """Write `value` at `place`, a way of keys and indices, into a YAML file; returns its path."""
    raw = yaml.safe_load(path.read_text("utf-8"))
    node = raw
    for part in place[:-1]:
        node = node[part]
    node[place[-1]] = value
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def write_world(
    folder: Path,
    base: Path,
    *,
    spoiled: bool = True,
    talk: bool = True,
    adapter: dict[str, object] | None = None,
    **gate: object,
) -> Path:
    """Write suite, data and recipe into `folder`; returns the recipe's path."""
    (folder / "good.jsonl").write_text(rows(GOOD, 8), encoding="utf-8")
    (folder / "rubbish.jsonl").write_text(rows(RUBBISH, 8), encoding="utf-8")
    heldout = [f"{a} {b} {c}" for a in GOOD for b in GOOD for c in GOOD]
    (folder / "heldout.jsonl").write_text(rows(heldout), encoding="utf-8")
    (folder / "questions.jsonl").write_text(rows(GOOD), encoding="utf-8")
    suite: dict[str, Any] = {
        "name": "tiny",
        "tasks": {
            "texts": {
                "data": "heldout.jsonl",
                "text": "{{ text }}",
                "metrics": ["perplexity"],
                "reserve": 0.25,
            },
            "talk": {
                "data": "questions.jsonl",
                "prompt": {"user": "{{ text }}"},
                "generate": {"max_new_tokens": 6, "temperature": 0.7, "responses": 2},
                "metrics": ["self_bleu"],
            },
        },
        "gate": {
            "metrics": {
                "texts/perplexity": {"required": True},
                "talk/self_bleu": {"advisory": True},
            }
        },
    }
    if not talk:
        del suite["tasks"]["talk"], suite["gate"]["metrics"]["talk/self_bleu"]
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    mix: list[dict[str, object]] = [{"source": "good.jsonl", "weight": 1, "text": "{{ text }}"}]
    if spoiled:
        mix.append({"source": "rubbish.jsonl", "weight": 99, "text": "{{ text }}", "segments": [3]})
    recipe: dict[str, Any] = {
        "name": "tiny",
        "line": "tiny",
        "base": str(base),
        "data": {"seed": 3, "mix": mix},
        "stages": [
            {
                "trainer": "sft",
                "steps": 12,
                "checkpoint_every": 3,
                "batch_size": 4,
                "learning_rate": 0.03,
                "schedule": "linear",
            }
        ],
        "gate": {"suite": "suite.yaml", **gate},
    }
    if adapter is not None:
        recipe["adapter"] = adapter
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path
