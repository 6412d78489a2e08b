"""Whole checkpoints of other tools' folders are found, and no other."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from harness.core.errors import UserError
from trainers.wrap.layouts import LAYOUTS, Scan, planned_by, require_layout

Files = list[tuple[str, bytes]]
CHANCE = random.Random(20261130)
CUTS = 40
"""Of each of five layouts: 200 writers that end at a random byte."""


def weights(name: str = "model.safetensors") -> Files:
    return [(name, save({"w": np.ones((8, 8), np.float32), "v": np.zeros(16, np.float32)}))]


def model() -> Files:
    """In the order in which transformers saves a model and its tokenizer."""
    config = [
        ("config.json", b'{"model_type": "llama"}'),
        ("generation_config.json", b'{"eos_token_id": 2}'),
    ]
    return [*config, *weights(), *tokenizer()]


def tokenizer() -> Files:
    return [
        ("chat_template.jinja", b"{{ messages }}"),
        ("tokenizer_config.json", b'{"eos_token": "</s>"}'),
        (
            "tokenizer.json",
            json.dumps({"model": {"vocab": {str(n): n for n in range(50)}}}).encode(),
        ),
    ]


def below(folder: str, files: Files) -> Files:
    return [(f"{folder}/{name}", content) for name, content in files]


def hf(step: int) -> Files:
    state = json.dumps({"global_step": step, "max_steps": 40, "save_steps": 10}).encode()
    files = [*model(), ("optimizer.pt", b"o" * 99), ("trainer_state.json", state)]
    return below(f"checkpoint-{step}", files)


def verl(step: int) -> Files:
    actor = [*below("huggingface", model()), ("model_world_size_1_rank_0.pt", b"w" * 99)]
    return [
        *below(f"global_step_{step}/actor", actor),
        (f"global_step_{step}/data.pt", b"d" * 9),
        ("latest_checkpointed_iteration.txt", str(step).encode()),
    ]


def openrlhf(step: int) -> Files:
    return below(f"global_step{step}_hf", model())


def prime_rl(step: int) -> Files:
    return below(f"weights/step_{step}", [*weights(), *model()[:2], *tokenizer(), ("STABLE", b"")])


def nemo_rl(step: int) -> Files:
    inside = [
        ("training_info.json", b'{"step": 1}'),
        ("config.yaml", b"policy: {}\n"),
        *below("policy/weights/model/consolidated", model()[:3]),
        *below("policy/tokenizer", tokenizer()),
    ]
    return below(f"tmp_step_{step}", inside)


WRITERS: dict[str, Callable[[int], Files]] = {
    "hf": hf,
    "verl": verl,
    "openrlhf": openrlhf,
    "prime-rl": prime_rl,
    "nemo-rl": nemo_rl,
}


def write(folder: Path, files: Files, until: int | None = None) -> bool:
    """Write the files in their order, up to a number of bytes; whether that was all of them. A
    file is opened before its first byte is written.
    """
    left = sum(len(content) for _, content in files) + 1 if until is None else until
    for name, content in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[:left])
        if left < len(content):
            return False
        left -= len(content)
    if (folder / files[0][0]).relative_to(folder).parts[0].startswith("tmp_"):
        made = folder / files[0][0].split("/")[0]
        made.rename(made.with_name(made.name.removeprefix("tmp_")))
    return True


def scan(folder: Path, wanted: str = "auto") -> Scan:
    """A day later, so that every file has rested."""
    return Scan(folder, wanted, 60.0, now=lambda: folder.stat().st_mtime + 86_400)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("wanted", ["auto", "named"])
def test_whole_checkpoints_are_found_by_their_step(tmp_path: Path, name: str, wanted: str) -> None:
    for step in (20, 10):
        write(tmp_path, WRITERS[name](step))
    if name == "verl":
        (tmp_path / "latest_checkpointed_iteration.txt").write_text("20")
    looked = scan(tmp_path, wanted if wanted == "auto" else name)
    layout = looked.layout()
    assert layout is not None
    assert layout.name == name
    found = looked.whole()
    assert [one.step for one in found] == [10, 20]
    assert all((one.model / "model.safetensors").is_file() for one in found)
    assert (found[0].tokenizer is not None) == (name == "nemo-rl")
    assert list(looked.unusable()) == []


def cuts() -> Iterator[tuple[str, int]]:
    for name, writer in WRITERS.items():
        size = sum(len(content) for _, content in writer(20))
        ends = {len(content) for _, content in writer(20)}
        yield from ((name, CHANCE.randrange(size)) for _ in range(CUTS - len(ends)))
        # And between two files, each time.
        total = 0
        for _, content in writer(20)[: len(ends)]:
            total += len(content)
            yield name, min(total, size - 1)


def test_a_writer_that_was_cut_off_leaves_nothing_that_is_taken_for_whole(tmp_path: Path) -> None:
    tried = 0
    for number, (name, until) in enumerate(cuts()):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder, WRITERS[name](10))
        assert not write(folder, WRITERS[name](20), until)
        found = [one.step for one in scan(folder, name).whole()]
        # Where verl had just opened its tracker to write the new number, it says nothing at all.
        assert found in ([10], [] if name == "verl" else [10]), (name, until)
        tried += 1
    assert tried == 200


def test_files_that_are_still_written_must_rest_where_nobody_says_when_they_are_done(
    tmp_path: Path,
) -> None:
    write(tmp_path, openrlhf(10))
    assert Scan(tmp_path, "openrlhf", 3600.0).whole() == []
    assert [one.step for one in Scan(tmp_path, "openrlhf", 0.0).whole()] == [10]


def test_a_pattern_of_ones_own(tmp_path: Path) -> None:
    write(tmp_path, below("run-a/step_00030/model", model()))
    [found] = scan(tmp_path, "run-a/step_{step}/model").whole()
    assert found.step == 30
    assert require_layout("x/{step}") == "x/{step}"
    with pytest.raises(UserError, match="no layout 'swift'") as caught:
        require_layout("swift")
    assert all(name in str(caught.value.hint) for name in LAYOUTS)


def test_what_is_finished_and_cannot_be_loaded_is_told_once(tmp_path: Path) -> None:
    files = [each for each in verl(10) if "safetensors" not in each[0]]
    write(tmp_path, files)
    looked = scan(tmp_path)
    [(place, why)] = looked.unusable()
    assert place.name == "global_step_10"
    assert "no weights" in why
    assert "hf_model" in why
    assert list(looked.unusable()) == []
    assert looked.whole() == []


def test_an_adapter_and_a_tokenizer_from_elsewhere(tmp_path: Path) -> None:
    adapter = [("adapter_config.json", b"{}"), *weights("adapter_model.safetensors")]
    state = ("trainer_state.json", b'{"global_step": 7}')
    write(tmp_path, below("checkpoint-7", [*adapter, state]))
    [found] = scan(tmp_path).whole()
    assert found.tokenizer is None
    assert planned_by(found.place) is None
    bare = tmp_path / "bare"
    write(
        bare, below("checkpoint-8", [*model()[:3], ("trainer_state.json", b'{"global_step": 8}')])
    )
    [(_, why)] = scan(bare).unusable()
    assert "--tokenizer" in why
    write(tmp_path / "tokens", tokenizer())
    looked = Scan(bare, "hf", 0.0, tmp_path / "tokens")
    assert [one.tokenizer for one in looked.whole()] == [tmp_path / "tokens"]
    write(tmp_path / "planned", hf(10))
    assert planned_by(tmp_path / "planned" / "checkpoint-10") == 4
