"""Quantized copies: smaller, close to the original, and judged by the gate like any model."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main
from harness.core.workspace import Workspace
from harness.models.resolve import quantisation_of, resolve
from tests.harness.suite_builders import suite_yaml, write_jsonl
from tests.tiny import save_tiny_llama

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.1,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("whole") / "model", **SHAPE)


def _export(tmp_path: Path, model: Path, *words: str) -> int:
    return main(["--home", str(tmp_path / "home"), "export-model", str(model), *words])


def test_eight_bits_pass_the_gate_against_the_whole_model(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchao")
    small = tmp_path / "int8"
    assert _export(tmp_path, whole, "--to", str(small), "--quantize", "int8") == 0
    said = capsys.readouterr().out
    assert "weights, MB" in said
    assert "loss, nats a token" in said
    files = resolve(str(small), Workspace.at(tmp_path / "home"))
    assert "torchao Int8WeightOnlyConfig" in (quantisation_of(files) or "")
    sizes = [p.stat().st_size for p in (whole / "model.safetensors", small / "model.safetensors")]
    assert sizes[1] < 0.6 * sizes[0]
    rows = [{"id": f"{n}", "text": f"The capital of France is number {n}."} for n in range(24)]
    write_jsonl(tmp_path / "texts.jsonl", rows)
    task = {"data": "texts.jsonl", "text": "{{ text }}", "metrics": ["perplexity"]}
    suite = str(suite_yaml(tmp_path, tasks={"read": task}))
    words = ["--home", str(tmp_path / "home"), "gate", str(small), "--against", str(whole)]
    assert main([*words, "--suite", suite, "--device", "cpu"]) == 0
    assert "quantisation: None -> torchao" in capsys.readouterr().out


def test_four_bits_cost_more_than_eight(
    tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torchao")
    from trainers.export.quantize import quantize

    workspace = Workspace.at(tmp_path / "home")
    files = resolve(str(whole), workspace)
    four, eight = (
        quantize(files, tmp_path / bits, bits, card="# m\n", workspace=workspace)
        for bits in ("int4", "int8")
    )
    assert four.before.nll == eight.before.nll
    assert abs(four.after.nll - four.before.nll) > abs(eight.after.nll - eight.before.nll)
    assert not list((tmp_path / "home" / "cache").glob("tmp*"))


@pytest.mark.parametrize("words", [("--quantize", "int3"), ("--quantize", "int8", "--adapter")])
def test_what_cannot_be_is_refused(tmp_path: Path, whole: Path, words: tuple[str, ...]) -> None:
    assert _export(tmp_path, whole, "--to", str(tmp_path / "out"), *words) == 3
    assert not (tmp_path / "out").exists()


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path,
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    assert _export(tmp_path, whole, "--to", str(tmp_path / "out"), "--quantize", "int8") == 3
    assert "ratchet-eval[quantize]" in capsys.readouterr().err
