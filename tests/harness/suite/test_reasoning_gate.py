"""A model whose template opens a thought is scored and gated end to end, by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.suite_builders import Ratchet, write_jsonl
from tests.tiny import save_tiny_llama, tiny_tokenizer

TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}"
    "{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
)


def reasoner(folder: Path, seed: int) -> Path:
    """A tiny random model with Qwen's way of thinking in its chat template."""
    save_tiny_llama(folder, seed=seed)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return folder


def suite_of(folder: Path, **prompt: Any) -> Path:
    write_jsonl(folder / "sums.jsonl", [{"q": f"{n} + {n}?", "a": str(2 * n)} for n in range(12)])
    task = {
        "data": "sums.jsonl",
        "prompt": {"user": "{{ q }}", **prompt},
        "reference": "{{ a }}",
        "generate": {"max_new_tokens": 12},
        "answer": {"last_number": True},
        "metrics": ["exact_match", {"length": {"of": "thoughts", "better": "lower"}}],
    }
    path = folder / "sums.yaml"
    gate = {"metrics": {"sums/length": {"advisory": True}}}
    path.write_text(yaml.safe_dump({"name": "sums", "tasks": {"sums": task}, "gate": gate}))
    return path


def test_thinking_is_scored_gated_and_switched_off(
    tmp_path: Path, ratchet: Ratchet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    anchor, candidate = reasoner(tmp_path / "a", 1), reasoner(tmp_path / "b", 2)
    suite = suite_of(tmp_path)
    code, said = ratchet("suites", "check", str(suite), "--model", str(anchor))
    assert code == 0, said
    code, said = ratchet("score", str(anchor), "--suite", str(suite))
    assert code == 0, said
    # A random model never closes its thought: that is said, and is no wrong answer like others.
    assert "sums/exact_match: 12 answers noted: the answer is cut in its thought" in said
    code, said = ratchet("gate", str(candidate), "--against", str(anchor), "--suite", str(suite))
    assert code in (0, 2), said
    off = suite_of(tmp_path, template={"enable_thinking": False, "think_more": True})
    code, said = ratchet("suites", "check", str(off), "--model", str(anchor))
    assert "doesn't name think_more: nothing changes" in said
    code, said = ratchet("score", str(anchor), "--suite", str(off))
    assert code == 0, said
    assert "cut in its thought" not in said
