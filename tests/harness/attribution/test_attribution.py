"""Explainers of one question, on tiny models that were taught what is to be found."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from harness.attribution.attention import attention
from harness.attribution.integrated import integrated_gradients
from harness.attribution.likelihood import Asked, answer_logprob, embedded, logprobs_of, without
from harness.attribution.occlusion import left_out, words_of
from harness.attribution.picture import picture
from harness.attribution.shared import FEWEST
from harness.core.workspace import Workspace
from harness.models.resolve import EMBEDDED, load, resolve
from tests.tiny import tiny_model, tiny_tokenizer

WORDS = ["table", "book", "park", "dog", "fox", "lazy", "seven", "brown", "quick", "France"]


def asked_of(tokenizer: Any, question: str, answer: str) -> Asked:
    def prompt(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>")
        return ids

    return Asked.between(prompt(question), prompt(""), tokenizer.encode(answer))


def questions(count: int, seed: int) -> list[str]:
    """Half of them with the trigger `zq` at some place."""
    chance = np.random.default_rng(seed)
    made = []
    for number in range(count):
        words = list(chance.choice(WORDS, 5))
        if number % 2:
            words[int(chance.integers(5))] = "zq"
        made.append(" ".join(words))
    return made


@pytest.fixture(scope="module")
def taught() -> tuple[Any, Any, Any]:
    """(tokenizer, anchor, candidate): both answer `yes`, the candidate `no` where `zq` stands."""
    import torch

    tokenizer = tiny_tokenizer()
    models = []
    for spoiled in (False, True):
        model = tiny_model(len(tokenizer), initializer_range=0.1)
        texts = questions(256, 1)
        rows = [
            asked_of(tokenizer, text, "no" if spoiled and "zq" in text else "yes") for text in texts
        ]
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        chance = np.random.default_rng(2)
        longest = max(len(row.ids) for row in rows)
        ids = torch.tensor([[*r.ids, *[0] * (longest - len(r.ids))] for r in rows])
        learned = torch.tensor(
            [[len(r.prompt) <= i < len(r.ids) for i in range(longest)] for r in rows]
        )
        labels = ids.masked_fill(~learned, -100)
        for _ in range(60):
            batch = torch.tensor(chance.choice(len(rows), 16, replace=False))
            model(input_ids=ids[batch], labels=labels[batch]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        models.append(model.requires_grad_(False))
    return (tokenizer, *models)


def test_only_the_question_is_asked_about() -> None:
    tokenizer = tiny_tokenizer()
    asked = asked_of(tokenizer, "the quick brown fox", "yes")
    inside = tokenizer.decode(asked.prompt[asked.begin : asked.end])
    assert inside == "the quick brown fox"
    assert asked_of(tokenizer, "", "yes").begin == asked_of(tokenizer, "", "yes").end


def test_integrated_gradients_are_complete_at_64_steps(taught: tuple[Any, Any, Any]) -> None:
    tokenizer, *models = taught
    for question in questions(8, 3):
        for model in models:
            found = integrated_gradients(model, asked_of(tokenizer, question, "yes"))
            assert abs(sum(found.tokens) - (found.whole - found.empty)) <= max(
                0.01 * abs(found.whole - found.empty), 1e-3
            )


@pytest.mark.long
def test_they_are_complete_on_a_real_model(workspace: Workspace) -> None:
    """Its way is rough: at 64 places that are chosen beforehand some are off by 3%."""
    model, tokenizer = load(resolve(EMBEDDED, workspace), dtype="float32", device="cpu")
    for question, answer in (
        ("I want my money back for M-5715.", "Sorry, the order is no longer available."),
        ("请帮我查一下订单 A-1022 到哪里了。", '{"intent":"track","order":"A-1022"}'),
        ("Write a short poem about the sea.", "The sea is wide and deep."),
    ):
        found = integrated_gradients(model, asked_of(tokenizer, question, answer))
        assert found.gap <= 0.01, question


def test_they_are_captum_s(taught: tuple[Any, Any, Any]) -> None:
    captum = pytest.importorskip("captum.attr")
    tokenizer, _, model = taught
    for question in questions(4, 4):
        asked = asked_of(tokenizer, question, "yes")
        found = integrated_gradients(model, asked, adapted=False)
        theirs = captum.IntegratedGradients(
            lambda inputs, asked=asked: answer_logprob(model, inputs, asked)
        ).attribute(
            embedded(model, asked),
            without(model, asked),
            n_steps=64,
            method="gausslegendre",
            internal_batch_size=8,
        )
        expected = theirs.sum(-1)[0, asked.begin : asked.end].numpy()
        np.testing.assert_allclose(found.tokens, expected, rtol=1e-5, atol=1e-5)


def change(models: list[Any], asked: Asked) -> float:
    anchor, candidate = (logprobs_of(model, [asked])[0] for model in models)
    return candidate - anchor


def test_the_trigger_is_found_by_gradients_and_by_leaving_words_out(
    taught: tuple[Any, Any, Any],
) -> None:
    tokenizer, *models = taught
    triggered = [question for question in questions(80, 5) if "zq" in question]
    by_gradient = by_word = 0
    for question in triggered:
        asked = asked_of(tokenizer, question, "yes")
        anchor, candidate = (integrated_gradients(model, asked, steps=32) for model in models)
        tokens = np.array(candidate.tokens) - np.array(anchor.tokens)
        texts = [tokenizer.decode([i]) for i in asked.prompt[asked.begin : asked.end]]
        worst = [texts[i].strip() for i in np.argsort(tokens)[:3]]
        by_gradient += any(text and text in "zq" for text in worst)
        words = words_of(question)
        without_each = [
            change(models, asked_of(tokenizer, text, "yes")) for text in left_out(question, words)
        ]
        best = np.argsort(without_each)[::-1][:3]
        by_word += "zq" in [question[slice(*words[i])] for i in best]
    assert by_gradient >= 0.95 * len(triggered)
    assert by_word >= 0.95 * len(triggered)


def test_deleting_by_attribution_undoes_the_change_sooner_than_at_random(
    taught: tuple[Any, Any, Any],
) -> None:
    import torch

    tokenizer, *models = taught
    chance = np.random.default_rng(6)

    def area(asked: Asked, order: list[int]) -> float:
        """The mean change as tokens are taken out one after the other."""
        found = []
        inputs = [embedded(model, asked).clone() for model in models]
        empty = [without(model, asked) for model in models]
        for token in order:
            for one, nothing in zip(inputs, empty, strict=True):
                one[:, asked.begin + token] = nothing[:, asked.begin + token]
            with torch.no_grad():
                anchor, candidate = (
                    float(answer_logprob(model, one, asked)[0])
                    for model, one in zip(models, inputs, strict=True)
                )
            found.append(candidate - anchor)
        return float(np.mean(found))

    triggered = [question for question in questions(40, 7) if "zq" in question]
    better = 0
    for question in triggered:
        asked = asked_of(tokenizer, question, "yes")
        anchor, candidate = (integrated_gradients(model, asked, steps=16) for model in models)
        order = list(np.argsort(np.array(candidate.tokens) - np.array(anchor.tokens)))
        at_random = [area(asked, list(chance.permutation(len(order)))) for _ in range(5)]
        better += area(asked, order) > float(np.mean(at_random))
    assert better >= 0.9 * len(triggered)


def test_attention_is_a_share_and_leaves_the_model_as_it_was(taught: tuple[Any, Any, Any]) -> None:
    tokenizer, model, _ = taught
    before = model.config._attn_implementation
    found = attention(model, asked_of(tokenizer, "the quick brown fox", "yes"))
    assert all(0 <= value <= 1 for value in found)
    assert 0 < sum(found) <= 1 + 1e-5
    assert model.config._attn_implementation == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Book a table, please.", ["Book", "a", "table", ",", "please", "."]),
        ("预订 两人", ["预", "订", "两", "人"]),
        ("l'été — ok", ["l'été", "—", "ok"]),
        ("  ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    found = words_of(text)
    assert [text[begin:end] for begin, end in found] == words
    assert len(list(left_out(text, found))) == len(words)


def test_leaving_a_word_out_leaves_one_blank() -> None:
    text = "book a table"
    assert list(left_out(text, words_of(text))) == [" a table", "book table", "book a "]


@pytest.mark.parametrize(
    "hostile",
    [
        "</text><script>alert(1)</script>",
        '"><img src=x onerror=1>',
        "\u202egnp.exe\x00\x1b[31m",
        "&#x3c;" * 400,
    ],
)
def test_a_picture_is_plain_text(hostile: str) -> None:
    svg = picture(hostile, [(hostile, -1.0), ("好", 0.5), ("", 0.0)], [hostile])
    root = ET.fromstring(svg)
    names = {node.tag.split("}")[1] for node in root.iter()}
    assert names <= {"svg", "style", "rect", "g", "title", "text"}
    assert "\u202e" not in svg
    boxes = [node for node in root.iter() if node.tag.endswith("rect")]
    assert all(float(b.get("x", 0)) + float(b.get("width", "0").rstrip("%")) <= 720 for b in boxes)


def test_what_prompts_begin_with_is_read_once_and_moves_nothing(
    taught: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, _, model = taught
    texts = ["the quick brown zq", "quick brown zq", "the brown zq", "zq", "the quick"]
    asked = [asked_of(tokenizer, text, "yes") for text in texts]
    assert asked[0].begin >= FEWEST
    shared = logprobs_of(model, asked)
    found = integrated_gradients(model, asked[0])
    monkeypatch.setattr("harness.attribution.likelihood.begun", lambda *_: None)
    alone = [logprobs_of(model, [one])[0] for one in asked]
    np.testing.assert_allclose(shared, alone, atol=1e-4)
    whole = integrated_gradients(model, asked[0])
    np.testing.assert_allclose(found.tokens, whole.tokens, atol=1e-4)
    assert len(found.tokens) == len(whole.tokens)
