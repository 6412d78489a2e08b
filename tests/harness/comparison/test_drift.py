"""`ratchet drift`: its mathematics against plain numpy, and the verb on tiny real models."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.workspace import Workspace
from harness.statistics.drift import distance, perplexity
from harness.store.store import Store
from tests.harness.suite_builders import Ratchet, suite_yaml
from tests.tiny import save_tiny_llama

TEXTS = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 40)), min_size=2, max_size=30)


@settings(deadline=None)
@given(TEXTS)
def test_perplexity_is_that_of_all_tokens_together(texts: list[tuple[float, int]]) -> None:
    nats, tokens = zip(*texts, strict=True)
    found = perplexity(nats, tokens)
    assert found.value == pytest.approx(math.exp(sum(nats) / sum(tokens)))
    if found.low is None or found.high is None:
        # No spread was seen, but for rounding: no width is claimed.
        assert np.ptp(np.array(nats) / np.array(tokens)) <= 1e-9
    else:
        assert found.low <= found.value * (1 + 1e-12)
        assert found.value <= found.high * (1 + 1e-12)
    assert perplexity(nats * 4, tokens * 4).value == pytest.approx(found.value)


def test_the_interval_of_equally_long_texts_is_students_on_the_log_scale() -> None:
    from scipy.stats import t

    nats = np.random.default_rng(1).gamma(20, 0.5, size=12)
    per_token = nats / 5
    low, high = t.interval(
        0.95, 11, loc=per_token.mean(), scale=per_token.std(ddof=1) / math.sqrt(12)
    )
    found = perplexity(nats, np.full(12, 5))
    assert (found.low, found.high) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))


def test_the_interval_of_perplexity_covers() -> None:
    """Texts of very unequal length: 95% nominal, measured over 2,000 draws of 60 texts."""
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(2_000):
        tokens = rng.integers(3, 60, size=60)
        nats = tokens * (2.0 + rng.normal(0, 0.4, size=60))
        found = perplexity(np.clip(nats, 0, None), tokens)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= math.exp(2.0) <= found.high
    assert 0.93 <= hits / 2_000 <= 0.97


def test_the_distance_of_the_same_is_0_and_of_opposites_2() -> None:
    rows = np.random.default_rng(2).normal(size=(9, 4))
    assert distance(rows, rows).value == pytest.approx(0, abs=1e-12)
    assert distance(rows, -3 * rows).value == pytest.approx(2)
    assert distance(rows[:1], rows[:1]).low is None
    for wrong in (rows[:, :2], rows[:3], np.zeros((9, 4))):
        with pytest.raises(ValueError, match=r"embedding"):
            distance(rows, wrong)


@pytest.mark.parametrize("tokens", [[1.0], [1.0, 0.0]])
def test_texts_without_tokens_are_refused(tokens: list[float]) -> None:
    with pytest.raises(ValueError, match="tokens"):
        perplexity([1.0, 1.0], tokens)


@pytest.fixture
def scored(home: Workspace, tiny_llama: Path, tmp_path: Path, ratchet: Ratchet) -> list[str]:
    """The runs of the anchor and of another model on one suite, by the real command."""
    other = save_tiny_llama(tmp_path / "other", seed=11)
    suite = suite_yaml(tmp_path)
    for model in (tiny_llama, other):
        code, said = ratchet("score", model, "--suite", suite)
        assert code == 0, said
    with Store(home) as store:
        return [row["run_id"] for row in store.query("SELECT run_id FROM runs ORDER BY seq")]


def test_the_anchors_own_model_reads_both(
    home: Workspace, scored: list[str], ratchet: Ratchet, tiny_llama: Path
) -> None:
    anchor, run = scored
    code, said = ratchet("drift", f"run:{run}", "--against", f"run:{anchor}")
    assert code == 0, said
    assert "perplexity under the anchor" in said
    with Store(home) as store:
        rows = store.query("SELECT * FROM drifts ORDER BY seq")
        found = {(row["task"], row["measure"]): row for row in rows}
        assert set(found) <= {(t, m) for t in ("ask", "talk") for m in ("perplexity", "meaning")}
        greedy = found["ask", "perplexity"]
        assert greedy["value"] == pytest.approx(_by_hand(store, tiny_llama, run, "ask"), rel=1e-4)
        assert greedy["own"] == pytest.approx(_by_hand(store, tiny_llama, anchor, "ask"), rel=1e-4)
        # Greedy answers are the likeliest at each step, and another model's are not.
        assert greedy["own"] < greedy["value"]
        assert found["ask", "meaning"]["own"] is None
        assert 0 < found["talk", "meaning"]["own"] < 2
        assert found["talk", "meaning"]["low"] <= found["talk", "meaning"]["value"]


def test_against_itself_nothing_has_moved(
    home: Workspace, scored: list[str], ratchet: Ratchet
) -> None:
    code, said = ratchet("drift", scored[0], "--against", scored[0], "--limit", "3")
    assert code == 0, said
    with Store(home) as store:
        for row in store.query("SELECT * FROM drifts"):
            assert row["samples"] <= 3
            if row["measure"] == "meaning":
                assert row["value"] == pytest.approx(0, abs=1e-9)
            else:
                assert row["value"] == pytest.approx(row["own"])


def test_another_models_bytes_are_refused(
    scored: list[str], ratchet: Ratchet, tmp_path: Path
) -> None:
    anchor, run = scored
    code, said = ratchet("drift", run, "--against", anchor, "--model", tmp_path / "other")
    assert (code, "its weights differ" in said) == (3, True)
    code, said = ratchet("drift", run, "--against", "line:nobody")
    assert (code, "no promoted checkpoint" in said) == (3, True)


def _by_hand(store: Store, folder: Path, run: str, task: str) -> float:
    """Perplexity of a run's answers by transformers' own loss, text by text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    rows = store.query(
        "SELECT s.prompt, r.text FROM run_responses l JOIN responses r USING (key) "
        "JOIN samples s ON s.sample_id = l.sample_id AND s.task = l.task "
        "WHERE l.run_id = ? AND l.task = ? AND l.kind = 'generation'",
        [run, task],
    )
    nats, tokens = 0.0, 0
    for row in rows:
        before = tokenizer.apply_chat_template(
            row["prompt"], add_generation_prompt=True, tokenize=False
        )
        context = tokenizer(before, add_special_tokens=False).input_ids
        answer = tokenizer(row["text"], add_special_tokens=False).input_ids
        ids = torch.tensor([[*context, *answer]])
        labels = torch.tensor([[-100] * len(context) + answer])
        with torch.no_grad():
            nats += float(model(ids, labels=labels).loss) * len(answer)
        tokens += len(answer)
    return math.exp(nats / tokens)
