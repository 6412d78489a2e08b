"""How much is written at once comes from the memory that is free, and changes no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends.base import GenerationRequest, GenerationSettings
from harness.backends.transformers import budget
from harness.backends.transformers.backend import TransformersBackend
from harness.backends.transformers.budget import Budget, budget_for, free_bytes
from harness.backends.transformers.rows import Rows
from tests.tiny import tiny_model
from tests.tiny_families import tiny_family

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def free(monkeypatch: pytest.MonkeyPatch, size: int | None) -> None:
    monkeypatch.setattr(budget, "free_bytes", lambda device: size)


@pytest.mark.parametrize(
    ("device", "size", "token", "row", "expected"),
    [
        (CPU, 2**40, 46_000, 0, Budget(64, 16384)),
        (CPU, 2**30, 2**17, 0, Budget(64, 4096)),
        (CPU, 0, 2**17, 0, Budget(64, 1)),
        (CPU, None, 2**17, 0, Budget(64, 16384)),
        (CPU, 2**30, None, 0, Budget(64, 16384)),
        (GPU, 2**36, 2**16, 0, Budget(1024, 2**19)),
        (GPU, None, 2**16, 0, Budget(64, 16384)),
        # Half of half for states: 2**34 of 2**26 each.
        (GPU, 2**36, 0, 2**26, Budget(256, 2**34)),
        (CPU, 2**30, 2**10, 2**28, Budget(1, 16384)),
    ],
)
def test_the_budget_follows_from_what_is_free(
    device: torch.device,
    size: int | None,
    token: int | None,
    row: int,
    expected: Budget,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free(monkeypatch, size)
    assert budget_for(device, token, row) == expected


def test_a_container_has_less_than_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CGROUP", tmp_path)
    machine = free_bytes(CPU)
    assert machine is not None
    assert machine > 2**20
    (tmp_path / "memory.current").write_text("1000\n")
    for limit, expected in (("max\n", None), (f"{2**20}\n", 2**20 - 1000), ("10\n", 0)):
        (tmp_path / "memory.max").write_text(limit)
        found = free_bytes(CPU)
        assert found is not None
        assert found == expected if expected is not None else found > 2**20


def answered(backend: TransformersBackend) -> dict[Any, Any]:
    requests = [
        GenerationRequest(str(n), tuple(range(3, 20 + n)), tuple(range(n, n + 4)))
        for n in range(12)
    ]
    settings = GenerationSettings(max_new_tokens=8, temperature=1.0)
    return {(a.request_id, a.position): a.token_ids for a in backend.generate(requests, settings)}


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_with_little_memory_fewer_rows_are_held_and_answers_stay(
    name: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = TransformersBackend(
        tiny_model(len(tokenizer)) if name == "llama" else tiny_family(name), tokenizer
    )
    assert backend.budget == Budget(64, 16384)
    expected = answered(backend)
    if name == "llama":
        # Two layers' keys and values, of two heads of eight float32 each: 256 bytes a token.
        free(monkeypatch, 256 * 2 * 200)
        assert backend.budget == Budget(64, 200)
    else:
        # States alone, of which a quarter of the free memory holds so many.
        sizes = iter(range(10**4, 10**9, 10**4))
        while backend.budget.rows != 5:
            free(monkeypatch, next(sizes))
    held = []
    begun = Rows.__init__

    def noted(self: Rows, *args: Any, **settings: Any) -> None:
        begun(self, *args, **settings)
        held.append(settings["rows"] * settings["length"])

    monkeypatch.setattr(Rows, "__init__", noted)
    assert answered(backend) == expected
    # 200 tokens; or five states, in rows of which there are always sixteen.
    assert max(held) <= (200 if name == "llama" else 16 * 40)
