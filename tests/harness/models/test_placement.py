"""Weights are read to where they will stay: one card, several, or none that would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends.openers import Hardware
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.adapter import exchanged
from harness.models.kept_base import KeptBase
from harness.models.placement import spread, weight_bytes
from harness.models.resolve import load, resolve

GIB = 2**30
CARD = 79 * GIB


@pytest.mark.parametrize(
    ("billions", "size", "free", "found"),
    [
        (1.07, 2, [CARD], {"": "cuda:0"}),
        (7.6, 4, [CARD], {"": "cuda:0"}),
        (7.6, 4, [24 * GIB], None),
        (7.6, 2, [24 * GIB], {"": "cuda:0"}),
        (32.8, 2, [CARD], {"": "cuda:0"}),
        (32.8, 2, [48 * GIB, 48 * GIB], "auto"),
        (70.6, 2, [CARD], None),
        (70.6, 2, [CARD, CARD], "auto"),
        (70.6, 2, [CARD, 10 * GIB], None),
        (405.0, 2, [CARD] * 8, None),
    ],
)
def test_on_paper_it_fits_one_card_or_all_or_vllm_is_named(
    billions: float, size: int, free: list[int], found: Any
) -> None:
    needed = int(billions * 1e9 * size)
    if found is not None:
        assert spread(needed, free, "cuda:0") == found
        return
    with pytest.raises(UserError, match="GiB free") as caught:
        spread(needed, free, "cuda:0")
    assert "vllm:MODEL" in str(caught.value.hint)
    assert caught.value.field == "--device"


def test_what_weights_will_take_is_read_off_their_files(tmp_path: Path, tiny_llama: Path) -> None:
    files = resolve(str(tiny_llama), Workspace.at(tmp_path))
    model, _ = load(files)
    numbers = sum(p.numel() for p in model.parameters())
    for dtype, size in (("float32", 4), ("bfloat16", 2), ("auto", 4)):
        assert weight_bytes(files.folder, dtype) == size * numbers
    assert weight_bytes(tmp_path, "float32") == 0


def test_weights_go_straight_to_their_device(tmp_path: Path, tiny_llama: Path) -> None:
    """On `meta` there is no memory: whatever was read here first would show."""
    files = resolve(str(tiny_llama), Workspace.at(tmp_path))
    model, _ = load(files, device="meta", dtype="bfloat16")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert {str(p.dtype) for p in model.parameters()} == {"torch.bfloat16"}


def adapters(base: Path, folder: Path, **config: Any) -> list[Path]:
    """Two adapters on the model in `base`, with weights of their own."""
    import torch
    from peft import LoraConfig, get_peft_model

    found = []
    for seed in (1, 2):
        model, _ = load(resolve(str(base), Workspace.at(folder)))
        settings = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
        made = get_peft_model(model, LoraConfig(**settings, **config))
        with torch.no_grad():
            for name, weight in made.named_parameters():
                if "lora_B" in name or (weight.requires_grad and "lora_" not in name):
                    weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(seed))
        made.save_pretrained(folder / f"a{seed}")
        found.append(folder / f"a{seed}")
    return found


def test_a_base_is_kept_while_adapters_change(tmp_path: Path, tiny_llama: Path) -> None:
    import torch

    workspace = Workspace.at(tmp_path)
    first, second = adapters(tiny_llama, tmp_path)
    ids = torch.arange(3, 20)[None]
    held, _ = load(resolve(str(first), workspace, base=str(tiny_llama)))
    with torch.no_grad():
        before = held(ids).logits
        kept = {p.data_ptr() for n, p in held.named_parameters() if "lora_" not in n}
        for folder in (second, first):
            held = exchanged(held, folder)
            fresh, _ = load(resolve(str(folder), workspace, base=str(tiny_llama)))
            assert torch.equal(held(ids).logits, fresh(ids).logits)
            assert not held.training
        assert torch.equal(held(ids).logits, before)
    assert {p.data_ptr() for n, p in held.named_parameters() if "lora_" not in n} == kept


def test_a_gate_of_two_adapters_and_their_base_reads_the_base_once(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from harness.models import kept_base

    workspace = Workspace.at(tmp_path)
    places = [tiny_llama, *adapters(tiny_llama, tmp_path)]
    files = [
        resolve(str(p), workspace, base=None if p == tiny_llama else str(tiny_llama))
        for p in places
    ]
    ids = torch.arange(3, 20)[None]
    reads: list[str] = []

    def counted(files: Any, **named: Any) -> Any:
        reads.append(files.name)
        return load(files, **named)

    monkeypatch.setattr(kept_base, "load", counted)
    kept = KeptBase()
    with torch.no_grad():
        fresh = [load(each)[0](ids).logits for each in files]
        for number in (1, 2, 2, 0, 1, 0, 0, 2):
            model, _ = kept.load(files[number], dtype="float32", device="cpu")
            assert torch.equal(model(ids).logits, fresh[number])
    assert len(reads) == 1
    kept.load(files[0], dtype="bfloat16", device="cpu")
    assert len(reads) == 2


@pytest.mark.parametrize(
    "config",
    [
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
    ],
)
def test_an_adapter_that_changed_its_base_is_not_exchanged(
    tmp_path: Path, tiny_llama: Path, config: dict[str, Any]
) -> None:
    first, second = adapters(tiny_llama, tmp_path, **config)
    held, _ = load(resolve(str(first), Workspace.at(tmp_path), base=str(tiny_llama)))
    assert exchanged(held, second) is None
    assert exchanged(held.get_base_model(), second) is None


@pytest.mark.parametrize(
    ("cuda", "xpu", "mps", "said"),
    [
        (False, False, False, "float32 on cpu"),
        (False, True, True, "bfloat16 on xpu; never tried there"),
        (False, False, True, "float32 on mps; never tried there"),
    ],
)
def test_a_device_is_found_and_one_that_nobody_tried_says_so(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, xpu: bool, mps: bool, said: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("torch.xpu.is_available", lambda: xpu)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)
    assert str(Hardware.choose()) == said
