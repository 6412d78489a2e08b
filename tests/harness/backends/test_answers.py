"""What stands around an answer: the same for who learns it, who scores it and who serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends import answers
from harness.backends import tokenization as tokens
from harness.core.thoughts import closing, without_thoughts
from tests.chat_templates import FAMILIES, QUESTION, ends_of, tokenizer_of
from tests.tiny import tiny_tokenizer

ROOT = Path(__file__).parents[3]
TEXTS = ["Wednesday", "  spaced\n", "7", "星期三。", '{"day": 3}', "a\n\nb", "'s", "\n\nlate", ""]
families = pytest.mark.parametrize("name", FAMILIES)


def _all(name: str) -> tuple[Any, Any, frozenset[int]]:
    family = FAMILIES[name]
    tokenizer = tokenizer_of(family)
    named = ends_of(tokenizer, family)

    class Config:
        eos_token_id = sorted(named)

    return family, tokenizer, tokens.end_tokens(tokenizer, Config())


@families
def test_prompt_answer_and_end_are_the_templates(name: str) -> None:
    family, tokenizer, ends = _all(name)
    prompt = tokens.encode_chat(tokenizer, QUESTION)
    assert tokens.as_read(tokenizer, prompt) == family.asked
    learned = [*answers.written(tokenizer, "It is Wednesday.", ends)]
    learned.append(tokens.turn_end(tokenizer, ends))
    said = f"{family.lead}It is Wednesday.{family.tail}{family.end}"
    assert tokens.as_read(tokenizer, learned) == said
    # What a tokenizer makes of the whole text is what was learned, cut where the prompt ends.
    assert [*prompt, *learned] == [*tokens.encode(tokenizer, family.asked + said)]


@families
def test_what_is_learned_is_what_the_whole_template_writes(name: str) -> None:
    family, tokenizer, ends = _all(name)
    if family.template is None or name == "deepseek-r1":
        return  # which never writes the thought that its prompts open
    turns = [*QUESTION, {"role": "assistant", "content": "So."}]
    whole = tokens.encode(tokenizer, tokenizer.apply_chat_template(turns, tokenize=False))
    learned = (*tokens.encode_chat(tokenizer, QUESTION), *answers.written(tokenizer, "So.", ends))
    begun = tokens.beginning(tokenizer)
    whole = whole if whole[: len(begun)] == begun else (*begun, *whole)
    assert whole[: len(learned)] == learned
    assert whole[len(learned) :][:1] in ((tokens.turn_end(tokenizer, ends),), ())


@families
@pytest.mark.parametrize("text", TEXTS)
def test_a_given_answer_is_read_where_it_is_learned(name: str, text: str) -> None:
    _, tokenizer, ends = _all(name)
    before, words = answers.read(tokenizer, text)
    learned = answers.written(tokenizer, text, ends)
    close = learned[len(before) + len(words) :]
    if close != tokens.encode(tokenizer, FAMILIES[name].tail):
        # A space behind the words is one token with what they end in.
        assert tokens.as_read(tokenizer, learned) == (
            FAMILIES[name].lead + text + FAMILIES[name].tail
        )
    else:
        assert (*before, *words) == learned[: len(learned) - len(close)]
    shown = tokens.as_read(tokenizer, [*before, *words])
    assert shown == FAMILIES[name].lead + text


@families
@pytest.mark.parametrize("text", TEXTS)
def test_scoring_reads_the_words_that_training_wrote(name: str, text: str) -> None:
    _, tokenizer, ends = _all(name)
    ids = answers.written(tokenizer, text, ends)
    said = tokens.text_of(tokenizer, ids, tokens.frame_of(tokenizer, ends))
    assert answers.words_of(tokenizer, said, ends) == text


@families
def test_an_answer_cut_before_its_first_word_says_nothing(name: str) -> None:
    family, tokenizer, ends = _all(name)
    frame = tokens.frame_of(tokenizer, ends)
    ids = tokens.encode(tokenizer, family.lead)
    for end in range(1, len(ids) + 1):
        said = tokens.text_of(tokenizer, ids[:end], frame)
        said = answers.words_of(tokenizer, said, ends)
        assert not without_thoughts(said) or not said.strip() or "final".startswith(said[:5])


@pytest.mark.parametrize(
    ("name", "text", "learned"),
    [
        ("qwen3", "<think>\nHm.\n</think>\n\nSo.", "<think>\nHm.\n</think>\n\nSo."),
        ("qwen3", "Say `<think>`.", "<think>\n\n</think>\n\nSay `<think>`."),
        ("qwen3-thinking", "<think>\nHm.\n</think>\n\nSo.", "Hm.\n</think>\n\nSo."),
        ("qwen3-thinking", "Hm.\n</think>\n\nSo.", "Hm.\n</think>\n\nSo."),
        ("deepseek-r1", "<think>\nHm.\n</think>\n\nSo.", "Hm.\n</think>\n\nSo."),
        ("deepseek-r1", "<think>\n\n</think>\n\nSo.", "\n</think>\n\nSo."),
        ("glm-4.5", "\n<think>Hm.</think>\nSo.", "\n<think>Hm.</think>\nSo."),
        (
            "gpt-oss",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A",
        ),
        ("command-a", "<|START_RESPONSE|>So.<|END_RESPONSE|>", None),
        ("chatml", "<think>Hm.</think>So.", "<think>Hm.</think>So."),
    ],
)
def test_an_answer_that_brings_its_own_marks_gets_no_others(
    name: str, text: str, learned: str | None
) -> None:
    _, tokenizer, ends = _all(name)
    ids = answers.written(tokenizer, text, ends)
    assert tokens.as_read(tokenizer, ids) == (text if learned is None else learned)
    before, words = answers.read(tokenizer, text)
    assert (*before, *words) == ids


def test_a_tokenizer_that_begins_texts_with_a_space_is_read_behind_its_prompt() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Split("\n", behavior="isolated"),
        ]
    )
    made.decoder = decoders.Metaspace(prepend_scheme="first")
    made.train_from_iterator(
        ["Which day? Wednesday", "day\nWednesday :;"] * 9,
        trainers.BpeTrainer(vocab_size=200, special_tokens=["</s>"], show_progress=False),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    alone = tokens.encode(tokenizer, "Wednesday")
    assert tokens.as_read(tokenizer, tokens.encode(tokenizer, "Which day?\n")).endswith("\n")
    before, words = answers.read(tokenizer, "Wednesday")
    prompt = tokens.encode_chat(tokenizer, QUESTION)
    assert before == ()
    assert (*prompt, *words) == tokens.encode(tokenizer, "Which day?\nWednesday")
    assert words != alone  # which would have been "\n Wednesday"
    assert answers.noted(tokenizer)


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("<think>\n", "\n</think>\n\n"),
        ("<thinking>", "</thinking>\n\n"),
        ("<seed:think>\n", "\n</seed:think>\n\n"),
        ("[THINK]", "[/THINK]\n\n"),
        ("<|begin_of_thought|>\n", "\n<|end_of_thought|>\n\n"),
        ("\u25c1think\u25b7", "\u25c1/think\u25b7\n\n"),
        ("<|channel|>analysis<|message|>", ""),
        ("", ""),
    ],
)
def test_a_thought_is_closed_by_its_own_mark(opened: str, closed: str) -> None:
    assert closing(opened) == closed
    if closed:
        assert without_thoughts(f"{opened}{closed}So.") == "So."


def test_most_models_note_nothing() -> None:
    for name in ("none", "chatml", "llama-3", "mistral", "gemma", "phi", "deepseek-v3", "exaone"):
        assert answers.noted(tokenizer_of(FAMILIES[name])) == "", name
    assert answers.noted(tokenizer_of(FAMILIES["gpt-oss"])) == "<|channel|>final<|message|>…"
    assert answers.noted(tokenizer_of(FAMILIES["command-a"])) == (
        "<|START_RESPONSE|>…<|END_RESPONSE|>"
    )


def test_a_template_that_fails_leaves_an_answer_as_it_is() -> None:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    for template in ("{{ raise_exception('no') }}", "{{ oops.a }}", "{{ messages[0].content }}"):
        tokenizer.chat_template = template
        assert answers.read(tokenizer, "So.") == ((), tokens.encode(tokenizer, "So."))


def test_the_docs_have_this_table() -> None:
    def code(text: str) -> str:
        if not text.strip():
            return {" ": "a space", "\n": "a line break"}.get(text, "")
        return "`" + text.replace("\n", "\\n").replace("|", "\\|") + "`"

    written = (ROOT / "docs" / "backends.md").read_text("utf-8")
    for name, family in FAMILIES.items():
        last = family.asked.rpartition("day?")[2]
        cells = [name, *map(code, (last, family.lead, family.tail, family.end))]
        assert f"| {' | '.join(cells)} |" in written, name


@pytest.mark.parametrize("name", ["qwen3", "gpt-oss", "glm-4.5", "deepseek-r1", "llama-2"])
@pytest.mark.parametrize(
    "more", ["<think>\n\n</think>\n\n", "<|channel|>final<|message|>", "Sure: ", "```python\n"]
)
def test_a_prompt_that_ends_otherwise_has_nothing_before_its_answer(name: str, more: str) -> None:
    """Its template was told to close the thought, or the answer has been begun in it."""
    _, tokenizer, ends = _all(name)
    asked = tokens.encode_chat(tokenizer, QUESTION)
    other = tokens.encode_chat(tokenizer, [{"role": "user", "content": "What of 12 + 7, 你好?"}])
    for prompt in (asked, other):
        assert answers.read(tokenizer, "So.", prompt) == answers.read(tokenizer, "So.")
        assert answers.written(tokenizer, "So.", ends, prompt) == (
            answers.written(tokenizer, "So.", ends)
        )
        longer = (*prompt, *tokens.encode(tokenizer, more))
        before, words = answers.read(tokenizer, "So.", longer)
        assert before == ()
        assert tokens.as_read(tokenizer, words) == "So."


def test_a_template_that_asks_for_no_answer_leaves_its_beginning_to_the_model() -> None:
    """What begins the answer is BOS here, which frames an answer and is no text."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("add_generation_prompt", "false")
    ends = tokens.end_tokens(tokenizer)
    ids = answers.written(tokenizer, "So.", ends)
    assert tokens.as_read(tokenizer, ids) == "<|im_start|>assistant\nSo."
    said = tokens.text_of(tokenizer, ids, tokens.frame_of(tokenizer, ends))
    assert said == "assistant\nSo."
    assert answers.words_of(tokenizer, said, ends) == "So."
