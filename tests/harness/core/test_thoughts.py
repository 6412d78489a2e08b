"""What a model only thought is taken out of its answer, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.thoughts import cut_in_thought, opened_by, without_thoughts

F = "```"
FINAL = "<|start|>assistant<|channel|>final<|message|>"
ANSWERS = [
    ("<think>x</think>Paris", "Paris"),
    ("<think>\n\n</think>\n\nHi", "Hi"),
    ("<THINK>x</Think>P", "P"),
    ("<thinking type='a'>x</thinking>\n\nP", "P"),
    ("<thought>x</thought>P", "P"),
    ("<reasoning>r</reasoning><answer>5</answer>", "<answer>5</answer>"),
    ("[THINK]x[/THINK]P", "P"),
    ("\u25c1think\u25b7x\u25c1/think\u25b7P", "P"),
    ("<|begin_of_thought|>x<|end_of_thought|>P", "P"),
    ("<|START_THINKING|>x<|END_THINKING|>P", "P"),
    ("<seed:think>x</seed:think>P", "P"),
    ("<|channel>thought\nhm<channel|>P", "P"),
    ("<|im_start|>think\nhm\n<|im_start|>answer\nP", "P"),
    # nested, and marks that the thought only speaks of
    ("<think>a <think>b</think> c</think>Paris", "Paris"),
    ("<think>a <think> b</think>Paris", "Paris"),
    ("<think>a</think> b</think>Paris", "Paris"),
    ("<think>say '</think>' at the end</think>Paris", "Paris"),
    # several, in between, after
    ("<think>a</think><think>b</think>P", "P"),
    ("Paris <think>sure?</think>", "Paris"),
    ("Paris<think>or", "Paris"),
    # opened by the prompt, or cut off
    ("hm, Paris</think>Paris", "Paris"),
    ("hm, Paris</think>", ""),
    ("<think>hm", ""),
    ("<think>", ""),
    # channels
    ("<|channel|>analysis<|message|>hm<|end|>" + FINAL + "Paris<|return|>", "Paris"),
    ("<|channel|>analysis<|message|>hm<|end|>", ""),
    ('<|channel|>final<|message|>{"a": 1}', '{"a": 1}'),
    ("<|channel|>commentary to=f<|constrain|>json<|message|>{}<|call|>" + FINAL + "ok", "ok"),
    ("analysisWe need the capital.assistantfinalParis", "Paris"),
    ("analysisWe need to", ""),
    # thoughts with fences in them
    (f"<think>so {F}py\na\n</think>\n{F}py\nb\n{F}", f"{F}py\nb\n{F}"),
    (f"so\n{F}py\na\n</think>\n{F}py\nb\n{F}", f"{F}py\nb\n{F}"),
]
SPOKEN_OF = [
    "Paris",
    "think hard",
    "a < b > c",
    "analysis of variance: see below",
    "Use `</think>` to end a thought.",
    'The tag "<think>" opens one.',
    f"{F}python\nx = text.split('</think>')[-1]\n{F}",
    f"{F}python\nx = re.sub(r'<think>.*?</think>', '', text)\n{F}",
    f"{F}xml\n<think>\na\n</think>\n{F}",
    "  spaces stay  ",
]


@pytest.mark.parametrize(("text", "answer"), ANSWERS)
def test_thoughts_are_taken_out(text, answer):
    assert without_thoughts(text) == answer
    assert without_thoughts(answer) == answer


@pytest.mark.parametrize("text", SPOKEN_OF)
def test_what_an_answer_speaks_of_stays(text):
    assert without_thoughts(text) == text


PART = st.sampled_from(["<think>", "</think>", "a", "\n", f"\n{F}\n", "`", "[THINK]", "[/THINK]"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PART, max_size=12).map("".join), st.text("abc ", max_size=8))
def test_whatever_was_thought_the_answer_after_it_is_what_counts(thought, answer):
    text = f"<think>{thought.replace('</think>', '')}</think>{answer}"
    assert without_thoughts(text) == answer.strip()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.lists(PART, max_size=12).map("".join))
def test_any_text_has_an_answer_that_is_part_of_it(text, marks):
    found = without_thoughts(marks + text)
    assert len(found) <= len(marks + text)
    assert (
        without_thoughts(text) == text
        or any(mark in text for mark in "<[\u25c1")
        or text == "analysis"
    )


OPENED = [
    ("<|im_start|>assistant\n<think>\n", "<think>\n"),
    ("<|im_start|>assistant\n<think>", "<think>"),
    ("<|Assistant|><think>\n\n", "<think>\n\n"),
    ("model\n<thinking type='x'>\n", "<thinking type='x'>\n"),
    ("[/INST][THINK]", "[THINK]"),
    ("assistant\u25c1think\u25b7\n", "\u25c1think\u25b7\n"),
    ("<|CHATBOT_TOKEN|><|START_THINKING|>", "<|START_THINKING|>"),
    ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
    ("<|im_start|>assistant\n", ""),
    ("What does <think> mean?<|im_start|>assistant\n", ""),
    ("<|channel|>analysis<|message|>", "<|channel|>analysis<|message|>"),
    ("<|channel|>final<|message|>", ""),
    ("", ""),
]


@pytest.mark.parametrize(("prompt", "mark"), OPENED)
def test_a_prompt_may_end_with_the_beginning_of_a_thought(prompt: str, mark: str) -> None:
    assert opened_by(prompt) == mark
    cut = cut_in_thought(prompt, "so, Paris is the")
    assert without_thoughts(cut) == ("" if mark else "so, Paris is the")
    for ended in ("so</think>Paris", "<think>so</think>Paris"):
        assert cut_in_thought(prompt, ended) == ended


@given(st.text(max_size=60), st.text(alphabet="ab <>/think\n", max_size=60))
def test_what_answers_another_prompt_is_left_as_it_is(prompt: str, answer: str) -> None:
    if not opened_by(prompt):
        assert cut_in_thought(prompt, answer) == answer
