"""A run reads a prompt once that is answered and begins a reference, and stores the same values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Candidate, ReadsAnswered
from harness.backends.transformers.backend import TransformersBackend
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.store import runs
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import suite_yaml
from tests.tiny import tiny_model, tiny_tokenizer


class Apart:
    """The same model as a backend that offers no such call."""

    def __init__(self, backend: TransformersBackend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        if name == "answer":
            raise AttributeError(name)
        return getattr(self._backend, name)


@pytest.fixture(scope="module")
def backend() -> TransformersBackend:
    tokenizer = tiny_tokenizer()
    return TransformersBackend(tiny_model(len(tokenizer)), tokenizer)


def scored(tmp_path: Path, name: str, backend: Any) -> tuple[dict[Any, Any], list[str]]:
    """What a run of this backend stored, by sample, kind and index, and its stages."""
    suite = load_suite(suite_yaml(tmp_path))
    stages: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        stages.append(stage)
        assert done <= total

    candidate = Candidate("tiny", "digest", backend.subject, lambda: backend)
    with Store(Workspace.at(tmp_path / name).ensure()) as store:
        report = score(candidate, suite, store, progress=progress)
        assert report.failed == 0
        assert (report.generated, report.read) == (5 + 15, 5 + 5)
        found = {
            (r.task, r.sample_id, r.kind, r.index): (r.text, r.token_ids, r.logprobs, r.asked)
            for r in runs.run_responses(store, report.run.id)
        }
        scores = {
            (s.task, s.metric, s.sample_id): (s.value, s.stats)
            for s in runs.load_scores(store, report.run.id)
        }
    return {**found, **scores}, list(dict.fromkeys(stages))


def test_what_is_stored_is_the_same_to_the_last_bit(
    tmp_path: Path, backend: TransformersBackend
) -> None:
    assert isinstance(backend, ReadsAnswered)
    assert not isinstance(Apart(backend), ReadsAnswered)
    apart, stages = scored(tmp_path, "apart", Apart(backend))
    assert stages == ["generate ask", "read ask", "read read", "generate talk", "score"]
    once, stages = scored(tmp_path, "once", backend)
    assert stages == ["generate and read ask", "read read", "generate talk", "score"]
    assert once == apart
