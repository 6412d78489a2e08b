"""An answer that was cut in a thought which its own template opened says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.core.types import AS_USUAL, PromptOptions
from harness.evaluation.runner import score
from harness.store.runs import load_scores, run_responses
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import suite_yaml, write_jsonl


class Opens(ScriptedBackend):
    """A scripted model whose template ends with what `opens` says."""

    opens = "<think>\n"

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        return (*super().encode_chat(messages, options), *self.encode(self.opens))


@pytest.mark.parametrize(
    ("opens", "says", "stored", "value"),
    [
        ("<think>\n", "Paris? Let me think about it", "<think>\nParis? Let me thi", 0.0),
        ("<think>\n", "yes</think>Paris", "yes</think>Paris", 1.0),
        ("<think>\n", "Paris", "Paris", 1.0),
        ("<think>\n\n</think>\n\n", "Paris and a long story", "Paris and a long st", 1.0),
        ("", "Paris and a long story", "Paris and a long st", 1.0),
    ],
)
def test_what_counts_as_an_answer(
    tmp_path: Path, store: Store, opens: str, says: str, stored: str, value: float
) -> None:
    write_jsonl(tmp_path / "q.jsonl", [{"id": "1", "q": "Capital?"}])
    task = {
        "data": "q.jsonl",
        "prompt": {"user": "{{ q }}"},
        "generate": {"max_new_tokens": 19},
        "metrics": [{"regex": {"pattern": "Paris", "how": "search"}}],
    }
    suite = load_suite(suite_yaml(tmp_path, tasks={"quiz": task}, gate={}))
    backend = Opens(lambda prompt, seed: says)
    backend.opens = opens
    candidate = Candidate("m", f"digest of {opens}{says}", backend.subject, lambda: backend)
    run = score(candidate, suite, store).run
    (answer,) = run_responses(store, run.id)
    (found,) = load_scores(store, run.id)
    assert (answer.text[:19], found.value) == (stored[:19], value)
