"""Rewards: mixed by weight, each checked and named; and the safety layer of sampling."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.core.errors import UserError
from tests.tiny import tiny_tokenizer
from trainers.rewards.mixture import (
    RewardMixture,
    RewardModelSpec,
    checked,
    length_reward,
    load_rewards,
)
from trainers.rewards.safety import Safety, SafetyModel, rejection_sampled

ASKED = [[{"role": "user", "content": "Please book a table for me."}]] * 3
SAID = ['{"intent": "book"}', "This is a table", "you fucking idiot"]


def mixture(folder: Path, *specs: dict[str, Any], **stage: Any) -> RewardMixture:
    rewards = tuple(RewardModelSpec.model_validate(spec) for spec in specs)
    model = SimpleNamespace(trainer="ppo", rewards=rewards, **stage)
    return load_rewards(SimpleNamespace(path=folder / "r.yaml"), SimpleNamespace(model=model))


def test_a_weighted_sum_of_named_components(tmp_path: Path) -> None:
    made = mixture(
        tmp_path,
        {"kind": "json_valid", "weight": 0.4},
        {"kind": "toxicity", "weight": 0.3, "name": "kind"},
        {"kind": "length", "weight": 0.3, "longest": 20},
    )
    table = made.score(ASKED, SAID)
    assert made.names == ("json_valid", "kind", "length")
    assert [f.__name__ for f in made.functions] == list(made.names)
    assert table.parts["json_valid"] == (1.0, 0.0, 0.0)
    kind = table.parts["kind"]
    assert kind[1] is not None
    assert kind[2] is not None
    assert kind[2] < 0.3 < 0.7 < kind[1]
    for row, total in enumerate(table.total):
        parts = [table.parts[name][row] for name in made.names]
        assert None not in parts
        assert total == pytest.approx(
            sum(w * v for w, v in zip((0.4, 0.3, 0.3), parts, strict=True))
        )
    figures = table.figures()
    assert figures["rewards/json_valid/mean"] == pytest.approx(1 / 3)
    assert figures["reward"] == pytest.approx(sum(table.total) / 3)


def test_trl_calls_the_same_functions(tmp_path: Path) -> None:
    [function] = mixture(tmp_path, {"kind": "json_valid"}).functions
    as_messages = [[{"role": "assistant", "content": text}] for text in SAID]
    plain = function(prompts=ASKED, completions=SAID)
    chat = function(
        prompts=ASKED, completions=as_messages, completion_ids=[[1]] * 3, trainer_state=None
    )
    assert plain == chat == [1.0, 0.0, 0.0]


def test_comparing_metrics_take_their_reference_from_a_column(tmp_path: Path) -> None:
    spec = {"kind": "json_match", "reference": "{{ intent }}"}
    wanted = [{"intent": "book"}, {"intent": "book"}, {"intent": "x"}]
    table = mixture(tmp_path, spec).score(ASKED, SAID, intent=wanted)
    assert table.total == (1.0, 0.0, 0.0)
    with pytest.raises(UserError, match="reference of the reward 'json_match'"):
        mixture(tmp_path, spec).score(ASKED, SAID, other=wanted)


def test_programs_are_rewarded_where_they_pass_their_tests(tmp_path: Path) -> None:
    said = ["def add(a, b):\n    return a + b\n", "def add(a, b):\n    return a - b\n", "I can't."]
    made = mixture(tmp_path, {"kind": "code_tests", "options": {"minimum": "C"}})
    tests = ["assert add(2, 2) == 4\nassert add(1, 3) == 4\n"] * 3
    assert made.score(ASKED, said, tests=tests, entry_point=["add"] * 3).total == (1.0, 0.0, 0.0)


def test_a_metric_that_cannot_read_an_answer_takes_no_part(tmp_path: Path) -> None:
    said = ["你好，世界", "hello there"]
    both = mixture(tmp_path, {"kind": "toxicity"}, {"kind": "length", "longest": 99})
    table = both.score(ASKED[:2], said)
    assert table.parts["toxicity"][0] is None
    assert table.total[0] == 1.0
    alone = mixture(tmp_path, {"kind": "toxicity"}).score(ASKED[:2], said)
    assert alone.total[0] is None
    assert alone.total[1] == alone.figures()["reward"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, math.nan, 0.0], "the reward 'mine' is nan"),
        ([1.0, math.inf, 0.0], "the reward 'mine' is inf"),
        ([1.0], "the reward 'mine' gave 1 values for 3 answers"),
    ],
)
def test_a_reward_that_is_no_number_is_named(values: list[float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        checked("mine", lambda _: values)(prompts=ASKED, completions=SAID)


def test_a_function_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def vowels(prompts, completions, topic=None, **columns):\n"
        "    return [len(t) + len(c) for t, c in zip(topic, completions)]\n"
        "def broken(prompts, completions, **columns):\n    return 1 / 0\n",
        encoding="utf-8",
    )
    made = mixture(tmp_path, {"kind": "function", "name": "v", "path": "mine.py:vowels"})
    assert made.score(ASKED, SAID, topic=["a", "bb", ""]).total == (19.0, 17.0, 17.0)
    broken = mixture(tmp_path, {"kind": "function", "name": "v", "path": "mine.py:broken"})
    with pytest.raises(UserError, match="the reward 'v' failed: ZeroDivisionError"):
        broken.score(ASKED, SAID)
    for path, message in (("gone.py:f", "has no file"), ("mine.py:none", "can't be loaded")):
        with pytest.raises(UserError, match=message):
            mixture(tmp_path, {"kind": "function", "path": path})


@given(st.text(max_size=80), st.integers(0, 30), st.integers(0, 30))
def test_length_is_rewarded_within_its_bounds(text: str, shortest: int, more: int) -> None:
    spec = RewardModelSpec(kind="length", shortest=shortest, longest=shortest + more + 1)
    assert spec.longest is not None
    value = length_reward(text, spec)
    assert 0 <= value <= 1
    assert (value == 1) == (shortest <= len(text) <= spec.longest)


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("rm")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=0,
        initializer_range=0.3,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_reward_model_reads_the_conversation(tmp_path: Path, reward_model: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    spec = {"kind": "model", "path": str(reward_model)}
    raw = mixture(tmp_path, {**spec, "scale": "none"}).score(ASKED, SAID).total
    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model).eval()
    for prompt, answer, value in zip(ASKED, SAID, raw, strict=True):
        chat = [*prompt, {"role": "assistant", "content": answer}]
        ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt")
        with torch.no_grad():
            assert model(**ids).logits.item() == pytest.approx(value, abs=1e-5)
    squeezed = mixture(tmp_path, spec).score(ASKED, SAID).total
    assert squeezed == pytest.approx([1 / (1 + math.exp(-v)) for v in raw])


def test_a_reward_model_is_a_metric_that_can_be_gated(reward_model: Path) -> None:
    from harness.core.types import Response, Sample
    from harness.metrics import get_metric
    from harness.metrics.base import MetricItem
    from harness.metrics.reward_model import reward

    metric = get_metric("reward_model", {"model": str(reward_model)})
    sample = Sample("a", "t", {}, ASKED[0])
    item = MetricItem(sample, (Response("k", "a", "t", "generation", 0, 0, SAID[0]),))
    [[evidence]] = metric.score([item])
    assert evidence.value == pytest.approx(reward(ASKED[:1], SAID[:1], model=str(reward_model))[0])
    assert metric.spec.scale == "interval"


def test_an_adapter_of_a_reward_model(
    tmp_path: Path, reward_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from harness.metrics.reward_model import reward

    base = AutoModelForSequenceClassification.from_pretrained(reward_model)
    config = LoraConfig(
        r=2, target_modules=["q_proj"], task_type="SEQ_CLS", modules_to_save=["score"]
    )
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "score.modules_to_save" in name:
            parameter.data *= -1
    folder = tmp_path / "adapter"
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    before = reward(ASKED, SAID, model=str(reward_model))
    assert reward(ASKED, SAID, model=str(folder)) == pytest.approx(-before, abs=1e-5)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "has no rewards"),
        ([{"kind": "rouge_l"}], "compares answers with a reference, and has none"),
        ([{"kind": "json_vlaid"}], "no metric named"),
        ([{"kind": "latency"}], "no smallest and largest value"),
        ([{"kind": "self_bleu"}], "judges no single answer"),
        ([{"kind": "perplexity"}], "judges no single answer"),
        ([{"kind": "model", "path": "no/such/folder/here"}], "no model folder"),
        ([{"kind": "model", "path": "stage:rm"}], "no stage's model"),
        ([{"kind": "model", "path": "LANGUAGE_MODEL"}], "has 2 outputs; a reward model has one"),
    ],
)
def test_a_mixture_that_cannot_be_had(
    tmp_path: Path, tiny_llama: Path, specs: list[dict[str, Any]], message: str
) -> None:
    specs = [
        spec | {"path": str(tiny_llama)} if spec.get("path") == "LANGUAGE_MODEL" else spec
        for spec in specs
    ]
    with pytest.raises(UserError, match=message):
        mixture(tmp_path, *specs)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "model"},
        {"kind": "length"},
        {"kind": "length", "shortest": 5, "longest": 3},
        {"kind": "json_valid", "longest": 3},
        {"kind": "length", "longest": 3, "options": {"a": 1}},
        {"kind": "json_valid", "weight": math.inf},
        {"kind": "json_valid", "weight": 0},
        {"kind": "json_valid", "wieght": 1},
    ],
)
def test_a_component_lacks_what_its_kind_needs(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RewardModelSpec.model_validate(spec)


def test_the_safety_layer_turns_down_words_and_toxicity(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("pineapple  # not on pizza\n", encoding="utf-8")
    safety = Safety(SafetyModel(file="words.txt", words=("禁语",)), tmp_path)
    texts = ["A table for two.", "you fucking idiot", "Pine\u200bapple pizza", "这是禁语。", "你好"]
    assert safety.accepts(texts) == [True, False, False, False, True]
    lax = Safety(SafetyModel(shipped=False, toxicity_below=None, words=("x",)), tmp_path)
    assert lax.accepts(texts) == [True] * 5
    nothing = Safety(SafetyModel(shipped=False, toxicity_below=None), tmp_path)
    with pytest.raises(UserError, match="turns nothing down"):
        nothing.accepts(texts)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 5))
def test_rejection_sampling_is_bounded(needed: list[int], tries: int) -> None:
    """Draw number n of an index is good from n = needed[index] on."""
    calls: list[list[int]] = []

    def draw(indices: Any, attempt: int) -> list[tuple[int, int]]:
        calls.append(list(indices))
        return [(index, attempt) for index in indices]

    def accepts(drawn: Any) -> list[bool]:
        return [attempt >= needed[index] for index, attempt in drawn]

    found = rejection_sampled(draw, len(needed), accepts, tries)
    assert len(calls) <= tries
    for index, ((of, attempt), good) in enumerate(found):
        assert of == index
        assert good == (needed[index] < tries)
        assert attempt == min(needed[index], tries - 1)
