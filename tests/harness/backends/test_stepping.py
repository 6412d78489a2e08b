"""Several tokens between two looks of the host: the same answers, and nothing asked of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from harness.backends.base import GenerationRequest, GenerationSettings
from harness.backends.transformers import captured
from harness.backends.transformers.backend import TransformersBackend
from harness.backends.transformers.captured import Captured
from harness.backends.transformers.causal import Causal
from harness.backends.transformers.counting import Counting
from harness.backends.transformers.rows import Rows
from harness.backends.transformers.stepping import Stepper
from tests.harness.backends.test_rows import asked
from tests.tiny import tiny_model
from tests.tiny_families import tiny_family

SETTINGS = {
    "greedy": GenerationSettings(max_new_tokens=21, logprobs=True),
    "sampled": GenerationSettings(max_new_tokens=21, temperature=1.0, top_p=0.9, logprobs=True),
    "filtered": GenerationSettings(max_new_tokens=21, temperature=0.7, top_k=20, stop=("a", "e")),
}


def answered(
    backend: TransformersBackend, settings: GenerationSettings, count: int = 12
) -> dict[Any, Any]:
    found = {}
    for answer in backend.generate(asked(count, seed=6), settings):
        assert answer.error is None
        found[answer.request_id, answer.position] = answer
    return found


# Full, windowed and capped attention, a state a row, experts, a cache that holds one length only.
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gemma2", "lfm2", "gpt_oss", "rwkv"])
def test_the_answers_are_those_of_looking_after_each_token(name: str, tokenizer: Any) -> None:
    model = tiny_model(len(tokenizer)) if name == "llama" else tiny_family(name)
    backend = TransformersBackend(model, tokenizer, rows=13)
    seldom = TransformersBackend(model, tokenizer, rows=13, look=8)
    for settings in SETTINGS.values():
        expected, found = answered(backend, settings), answered(seldom, settings)
        assert found.keys() == expected.keys()
        for key, answer in found.items():
            wanted = expected[key]
            assert (answer.token_ids, answer.text) == (wanted.token_ids, wanted.text)
            assert (answer.finish_reason, answer.end_id) == (wanted.finish_reason, wanted.end_id)
            # Shapes that repeat sum up in another order.
            assert answer.logprobs == pytest.approx(wanted.logprobs, abs=1e-4)
    assert {a.finish_reason for a in expected.values()} <= {"stop", "length"}


def test_an_answer_never_outgrows_the_model_or_its_row(tokenizer: Any) -> None:
    model = tiny_model(len(tokenizer))
    prompt = tuple(range(50, 85))
    requests = [GenerationRequest("a", prompt, tuple(range(8)))]
    settings = GenerationSettings(max_new_tokens=50, temperature=1.0)
    for look in (1, 16):
        backend = TransformersBackend(model, tokenizer, max_length=40, look=look)
        answers = list(backend.generate(requests, settings))
        assert any(a.finish_reason == "length" and len(a.token_ids) == 5 for a in answers)
        assert all(len(a.token_ids) <= 5 for a in answers)


class Asking(TorchFunctionMode):
    """Notes what Python asks of a tensor, or gives to one, that no dispatched operation shows."""

    NAMES = frozenset(
        {
            "tolist", "numpy", "cpu", "item", "__bool__", "__int__", "__float__", "__index__",
            "tensor", "as_tensor", "from_numpy",
        }
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in self.NAMES:
            self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


class Watched:
    """The steps of a backend: what each was counted to ask, and how many steps a look has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[Counting] = []
        self.asked: list[str] = []
        self.looks: list[int] = []
        step_of, run = Stepper.step_of, Stepper.run

        def watched(stepper: Stepper, count: int) -> Callable[[], None]:
            step = step_of(stepper, count)

            def counted() -> None:
                with Asking() as asking, Counting() as counting:
                    step()
                self.asked += asking.names
                self.steps.append(counting)

            return counted

        def looked(stepper: Stepper, tokens: Sequence[int], draws: Any, steps: int) -> Any:
            self.looks.append(steps)
            return run(stepper, tokens, draws, steps)

        monkeypatch.setattr(Stepper, "step_of", watched)
        monkeypatch.setattr(Stepper, "run", looked)


OPERATIONS = {"llama": (85, 110), "gemma3_text": (140, 110), "deepseek_v3": (160, 110)}
"""At most so many operations a layer, and beside the layers: tokens chosen with top-p."""


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_a_step_asks_nothing_of_the_host_and_repeats_its_shapes(
    name: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(len(tokenizer)) if name == "llama" else tiny_family(name)
    layers = model.config.num_hidden_layers
    backend = TransformersBackend(model, tokenizer, rows=24, look=8)
    answered(backend, SETTINGS["sampled"], count=1)  # what is tried once is not counted
    seen = Watched(monkeypatch)
    answers = answered(backend, SETTINGS["sampled"], count=40)
    assert sum(step.copies for step in seen.steps) == 0
    assert sum(step.reads for step in seen.steps) == 0
    assert seen.asked == []
    most, beside = OPERATIONS[name]
    assert max(step.operations for step in seen.steps) <= most * layers + beside
    # Between two looks all steps are alike; in all there are few shapes, however many steps.
    first = 0
    for steps in seen.looks:
        some = seen.steps[first : first + steps]
        assert all(step.shapes == some[0].shapes for step in some)
        first += steps
    assert len({tuple(step.shapes) for step in seen.steps}) <= 12
    written = max(len(answer.token_ids) for answer in answers.values())
    assert first >= 3 * written
    assert len(seen.looks) * 4 <= first


def test_on_a_processor_the_host_looks_after_each_token(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a look costs nothing, and what is written behind an end does."""
    backend = TransformersBackend(tiny_model(len(tokenizer)), tokenizer)
    seen = Watched(monkeypatch)
    answered(backend, SETTINGS["sampled"])
    assert set(seen.looks) == {1}
    assert sum(step.copies for step in seen.steps) == 0


def test_rows_and_widths_are_in_few_buckets(tokenizer: Any) -> None:
    causal = Causal(tiny_model(len(tokenizer)), look=16)
    nothing: Any = None
    shapes = set()
    for rows in (700, 1024):
        memory = Rows(causal, rows=rows, length=2000, tokens=64, beginnings=nothing)
        for used in range(1, rows + 1, 7):
            for length in range(1, 1980, 97):
                memory.lengths = [length] * used
                count = memory.begin(16)
                assert used <= count <= -(-memory.rows // 16) * 16
                assert count % 16 == 0
                (_, wide) = memory.shape
                assert wide is not None
                assert length + 16 <= wide <= memory.length
                shapes.add(memory.shape)
    assert len({count for count, _ in shapes}) <= 15
    assert len({wide for _, wide in shapes}) <= 11


def counted(work: Callable[[], Any]) -> tuple[int, int]:
    with Counting() as seen:
        work()
    return seen.reads, seen.copies


def test_what_is_counted() -> None:
    table = torch.arange(12.0).view(3, 4)
    assert counted(lambda: table.sum().item()) == (1, 0)
    assert counted(lambda: bool((table > 3).any())) == (1, 0)
    assert counted(lambda: table[table > 3]) == (1, 0)
    assert counted(lambda: table.nonzero()) == (1, 0)
    assert counted(lambda: torch.tensor([1, 2])) == (0, 1)
    assert counted(lambda: table[torch.arange(2)] + table.argmax()) == (0, 0)
    with Counting() as seen:
        table.add_(1).mul_(2)
    assert seen.operations == 2


def up(count: torch.Tensor) -> None:
    count.add_(1)


class Graphs:
    """Stands where CUDA's graphs do: what was captured is done again when it is replayed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, held: Sequence[torch.Tensor]) -> None:
        self.captured = self.replayed = 0
        self.wrong = False
        self.step: Callable[[], None] = lambda: None
        graphs = self

        class Graph:
            def replay(self) -> None:
                graphs.replayed += 1
                graphs.step()
                if graphs.wrong:
                    held[0].add_(1)

        @contextlib.contextmanager
        def capturing(graph: Any, pool: Any) -> Iterator[None]:
            graphs.captured += 1
            before = [tensor.clone() for tensor in held]
            yield
            for tensor, earlier in zip(held, before, strict=True):
                tensor.copy_(earlier)

        @contextlib.contextmanager
        def beside(_: Any) -> Iterator[None]:
            yield

        class Stream:
            def wait_stream(self, _: Any) -> None:
                pass

        cuda: Any = captured.torch.cuda
        for name, stand_in in {
            "CUDAGraph": Graph, "graph": capturing, "stream": beside, "Stream": Stream,
            "current_stream": Stream, "graph_pool_handle": object, "synchronize": lambda: None,
        }.items():  # fmt: skip
            monkeypatch.setattr(cuda, name, stand_in)


def test_a_graph_is_used_where_its_step_does_as_the_step_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = torch.zeros(4)
    graphs = Graphs(monkeypatch, [count])
    graphs.step = partial(up, count)
    held = Captured([count])
    # What comes once is no graph.
    assert not held.run("wide", graphs.step, 3)
    assert (graphs.captured, count.tolist()) == (0, [0] * 4)
    assert held.run("wide", graphs.step, 3)
    assert count.tolist() == [3] * 4
    assert held.run("wide", graphs.step, 2)
    assert (graphs.captured, count.tolist()) == (1, [5] * 4)
    assert not held.run("narrow", graphs.step, 1)
    assert held.run("narrow", graphs.step, 1)
    assert (graphs.captured, count.tolist()) == (2, [6] * 4)


def test_a_step_that_is_no_graph_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = torch.zeros(4)
    graphs = Graphs(monkeypatch, [count])

    def reads() -> None:
        count.add_(float(count.sum()) + 1)

    def given() -> None:
        count.add_(torch.tensor([1.0, 1, 1, 1]))

    def fails() -> None:
        count.add_(1)
        raise RuntimeError("not while a graph is captured")

    for step in (reads, given, fails):
        held = Captured([count])
        assert not held.run("wide", step, 3)
        assert held.sound
        assert not held.run("wide", step, 3)
        assert not held.sound
        assert not held.run("wide", step, 3)
    assert (graphs.captured, count.tolist()) == (0, [0] * 4)
    graphs.wrong = True
    graphs.step = partial(up, count)
    held = Captured([count])
    assert not held.run("wide", graphs.step, 3)
    assert not held.run("wide", graphs.step, 3)
    assert (held.sound, count.tolist()) == (False, [0] * 4)


def test_memory_that_runs_out_in_a_trial_is_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.zeros(4)
    Graphs(monkeypatch, [count])

    def step() -> None:
        raise torch.OutOfMemoryError("no memory")

    held = Captured([count])
    assert not held.run("wide", step, 1)
    with pytest.raises(torch.OutOfMemoryError):
        held.run("wide", step, 1)
