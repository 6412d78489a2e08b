"""Which words: tokens that became less likely, and what changed in two answers."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console

from harness.cli.app import main
from harness.comparison.lost_words import Told, most_lost, told
from harness.comparison.wording import wording
from harness.core.types import Response
from harness.core.workspace import Workspace
from harness.store.store import Store
from tests.harness.suite_builders import verdict_between, write_jsonl
from tests.tiny import save_tiny_llama


def likely(tokens: tuple[int, ...], logprobs: tuple[float, ...], **more: Any) -> Response:
    given: dict[str, Any] = {"sample_id": "s", "kind": "reference", **more}
    name, kind = given["sample_id"], given["kind"]
    return Response("k", name, "t", kind, 0, 0, "x", tokens, logprobs)


def test_changes_are_of_the_same_tokens_alone() -> None:
    zero = -math.inf
    before = [
        likely((1, 2, 3), (-1.0, -2.0, zero)),
        likely((4,), (-1.0,), sample_id="other"),
        likely((5,), (zero,), sample_id="never"),
    ]
    after = [
        likely((1, 2, 3), (-1.5, zero, -1.0)),
        likely((9,), (-5.0,), sample_id="other"),
        likely((5,), (zero,), sample_id="never"),
        likely((5,), (-3.0,), sample_id="new"),
    ]
    [worst, never] = told(before, after)["t"][::-1]
    assert {worst, never} == {Told("s", (1, 2, 3), (-0.5, -50.0, 50.0)), Told("never", (5,), (0,))}


def world(seed: int, harm: float) -> list[Told]:
    """Sixty texts of twenty tokens, frequent ones more often; token 77 stands in eight of them."""
    chance = np.random.default_rng(seed)
    texts = []
    for n in range(60):
        tokens = np.minimum(chance.geometric(0.05, 20), 70)
        nats = chance.normal(-0.1, 0.5, 20)
        if n < 8:
            at = chance.integers(20)
            tokens[at] = 77
            nats[at] -= harm
        texts.append(Told(f"s{n}", tuple(tokens.tolist()), tuple(nats.tolist())))
    return texts


def test_a_planted_word_is_among_the_first_three() -> None:
    first = [[each.token for each in most_lost(world(seed, 2.0))[:3]] for seed in range(200)]
    assert sum(77 in found for found in first) >= 190


@pytest.mark.parametrize("together", [False, True])
def test_noise_names_no_word(together: bool) -> None:
    """Where a text loses as a whole, and a word stands in it several times, too."""
    named = 0
    for seed in range(200):
        texts = world(seed, 0.0)
        if together:
            chance = np.random.default_rng(seed)
            more = chance.normal(0, 1, len(texts)).tolist()
            texts = [
                Told(one.sample, (*one.tokens, 80, 80, 80), (*(x + by for x in one.nats), *[y] * 3))
                for one, by, y in zip(texts, more, chance.normal(0, 1, 60).tolist(), strict=True)
            ]
        named += bool(most_lost(texts))
    # Of 200 worlds at 5%, 18 or more come in 1 of 100 trials.
    assert named < 18


def test_what_lost_no_more_than_the_others_is_not_named() -> None:
    assert most_lost([Told("a", (1, 2), (-1.0, -1.0)), Told("b", (2, 1), (-1.0, -1.0))]) == []
    assert most_lost([Told("a", (1, 1, 2, 2), (0.0, 0.0, 1.0, 1.0))]) == []
    assert most_lost([]) == []


def said_of(tmp_path: Path, store: Store, good: str, bad: str) -> str:
    rows: list[Mapping[str, Any]] = [{"id": n, "q": f"refund {n}", "a": good} for n in range(40)]
    verdict = verdict_between(tmp_path, store, rows, {"refund": good}, {"refund": bad})
    heard = io.StringIO()
    wording(store, None, verdict, Console(file=heard, width=200))  # type: ignore[arg-type]
    return heard.getvalue()


def test_two_answers_differ_in_words_and_hostile_text_stays_text(
    tmp_path: Path, store: Store
) -> None:
    said = said_of(tmp_path, store, "The order is 7.", "The order is [red]\x1b[31m8\u202e[/red].")
    assert "anchor: The order is [-7-]." in said
    assert "{+[red]␛[31m8⟨U+202E⟩[/red]+}" in said.replace("+}{+", "")
    assert "\x1b" not in said
    assert said.count("candidate:") == 3


@pytest.mark.parametrize("gone", [False, True])
def test_a_verdict_of_two_models_names_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gone: bool
) -> None:
    """Read from what is stored: the anchor may be gone, and without a tokenizer it says so."""
    save_tiny_llama(tmp_path / "a")
    save_tiny_llama(tmp_path / "b", seed=8)
    rows: list[Mapping[str, Any]] = [
        {"id": f"q{n}", "q": f"Where {n}?", "a": f"in the 公园 {n}"} for n in range(12)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    task = {
        "data": "rows.jsonl",
        "prompt": {"user": "{{ q }}"},
        "reference": "{{ a }}",
        "metrics": ["reference_nll"],
    }
    suite = {"name": "s", "tasks": {"t": task}, "gate": {"metrics": {"t/reference_nll": {}}}}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    home = ["--home", str(tmp_path / "home")]
    words = ["gate", str(tmp_path / "b"), "--against", str(tmp_path / "a")]
    main([*home, *words, "--suite", str(tmp_path / "suite.yaml")])
    with Store(Workspace.at(tmp_path / "home")) as store:
        [row] = store.query("SELECT verdict_id FROM verdicts")
    verdict = row["verdict_id"]
    shutil.rmtree(tmp_path / "a")
    if gone:
        shutil.rmtree(tmp_path / "b")
    capsys.readouterr()
    assert main([*home, "explain", verdict]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Which words" in said
    assert ("tokenizer isn't here any more" in said) is gone
    assert ("over 12 texts that should be likely" in said) is not gone
    assert ("公园" in said) is not gone
