"""What is learned of a conversation is what the model would write where it is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.backends import tokenization as tokens
from harness.core.types import PromptOptions
from tests.tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer
from tests.trainers.method_builders import job_of, write_method_world
from trainers.config.recipe import Example
from trainers.methods.conversations import IGNORED, TurnsError, learned

MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED_WITHOUT_END = MARKED.replace(
    "{{ m['content'] + '<|im_end|>' }}{% endgeneration %}",
    "{{ m['content'] }}{% endgeneration %}{{ '<|im_end|>' }}",
)
# As Qwen 3 has it: a thought in the last answer alone, and an empty one where none is given.
THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
# As DeepSeek R1 has it: the prompt opens a thought, and a given answer loses its own.
OPENING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{{ m['content'].split('</think>')[-1] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
# As GLM 4 has it: what begins the next turn ends an answer.
NEXT_ENDS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
NO_END = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}" + (
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' + (tools | tojson) + '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}"
    "{% for c in m.tool_calls or [] %}{{ '<tool_call>' + c.function.name }}"
    "{{ c.function.arguments | tojson }}{{ '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPELLED = TOOLS.replace("c.function.arguments | tojson", "c.function.arguments")
JOINED = TOOLS.replace("c.function.arguments | tojson", "'' + c.function.arguments")

CHAT = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "fox?"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "dog?"},
    {"role": "assistant", "content": "no"},
)
CALL = {"type": "function", "function": {"name": "book", "arguments": {"n": 2, "name": "李"}}}
CALLED = (
    {"role": "user", "content": "a table"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "ok"},
    {"role": "assistant", "content": "Booked."},
)
BOOK = {"type": "function", "function": {"name": "book", "parameters": {"type": "object"}}}


def of(
    written: str | None,
    turns: tuple[dict[str, Any], ...],
    which: tuple[int, ...],
    *,
    special: tuple[str, ...] = (),
    bos: bool = False,
    **options: Any,
) -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = written
    if bos:
        from tokenizers.processors import TemplateProcessing

        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|pad|> $A", special_tokens=[("<|pad|>", 0)]
        )
    turns = turns[: which[-1] + 1]
    example = Example(
        0, "r", turns[:-1], "", turns=turns, learned=which, options=PromptOptions(**options)
    )
    ends = frozenset({tokenizer.eos_token_id, *tokenizer.convert_tokens_to_ids(list(special))})
    found = learned(
        tokenizer,
        example,
        ends=ends,
        end=tokens.turn_end(tokenizer, ends),
        written=lambda text, asked: tokens.encode(tokenizer, text),
    )
    assert len(found.ids) == len(found.labels)
    assert all(label in (IGNORED, token) for token, label in zip(*_both(found), strict=True))
    return tokenizer, found


def _both(found: Any) -> tuple[Any, Any]:
    return found.ids, found.labels


def stretches(tokenizer: Any, found: Any) -> list[str]:
    """The texts that are learned, one for each unbroken run of labels."""
    runs: list[list[int]] = [[]]
    for label in found.labels:
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return [tokens.as_read(tokenizer, run) for run in runs if run]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, MARKED, MARKED_WITHOUT_END])
@pytest.mark.parametrize("bos", [False, True])
def test_each_turn_is_learned_behind_the_prompt_that_is_asked(template: str, bos: bool) -> None:
    tokenizer, found = of(template, CHAT, (2, 4), bos=bos)
    assert stretches(tokenizer, found) == ["yes<|im_end|>", "no<|im_end|>"]
    for turn in (2, 4):
        asked = tokens.encode_chat(tokenizer, CHAT[:turn])
        assert found.ids[: len(asked)] == asked
        assert found.labels[len(asked) - 1] == IGNORED != found.labels[len(asked)]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, MARKED])
def test_only_the_turns_that_are_named_are_learned(template: str) -> None:
    assert stretches(*of(template, CHAT, (4,))) == ["no<|im_end|>"]
    assert stretches(*of(template, CHAT, (2,))) == ["yes<|im_end|>"]


def test_a_past_that_the_template_rewrites_is_refused_and_each_turn_is_learned_by_itself() -> None:
    with pytest.raises(TurnsError, match="otherwise once more follows"):
        of(THINKING, CHAT, (2, 4))
    for turn in (2, 4):
        tokenizer, found = of(THINKING, CHAT, (turn,))
        asked = tokens.encode_chat(tokenizer, CHAT[:turn])
        assert found.ids[: len(asked)] == asked
        said = f"<think>\n\n</think>\n\n{CHAT[turn]['content']}<|im_end|>"
        assert stretches(tokenizer, found) == [said]


def test_with_thinking_switched_off_the_prompt_holds_the_empty_thought() -> None:
    off = {"enable_thinking": False}
    tokenizer, found = of(THINKING, CHAT, (4,), template=off)
    assert stretches(tokenizer, found) == ["no<|im_end|>"]
    asked = tokens.encode_chat(tokenizer, CHAT[:4], PromptOptions(template=off))
    assert found.ids[: found.answer] == asked


def test_a_thought_is_learned_or_said_to_be_lost() -> None:
    thought = (*CHAT[:4], {**CHAT[4], "reasoning_content": "a dog is no fox"})
    assert stretches(*of(THINKING, thought, (4,))) == [
        "<think>\na dog is no fox\n</think>\n\nno<|im_end|>"
    ]
    with pytest.raises(TurnsError, match="leaves out the thought of turn 5: write `thoughts: drop"):
        of(CHAT_TEMPLATE, thought, (4,))


def test_a_prompt_that_opens_a_thought_is_followed_by_what_the_row_says() -> None:
    tokenizer, found = of(OPENING, CHAT, (4,))
    assert found.ids[: found.answer] == tokens.encode_chat(tokenizer, CHAT[:4])
    with pytest.raises(TurnsError, match="`each` turn"):
        of(OPENING, CHAT, (2, 4))


def test_what_begins_the_next_turn_ends_an_answer() -> None:
    special = ("<|user|>", "<|assistant|>", "<|system|>")
    tokenizer, found = of(NEXT_ENDS, CHAT, (2, 4), special=special)
    first, last = stretches(tokenizer, found)
    assert first == "yes<|user|>"
    assert last.startswith("no<|")


def test_a_turn_that_nothing_ends_is_refused_but_for_the_last() -> None:
    assert stretches(*of(NO_END, CHAT, (4,))) == ["no<|im_end|>"]
    with pytest.raises(TurnsError, match=r"ends turn 3 with no token|joins an answer"):
        of(NO_END, CHAT, (2, 4))


def test_a_base_without_a_template_learns_the_last_answer() -> None:
    tokenizer, found = of(None, CHAT[1:3], (1,))
    assert stretches(tokenizer, found) == ["yes<|im_end|>"]
    assert found.ids[: found.answer] == tokens.encode_chat(tokenizer, CHAT[1:2])


@pytest.mark.parametrize("template", [TOOLS, JOINED, SPELLED])
def test_a_call_is_learned_as_the_template_writes_it(template: str) -> None:
    tokenizer, found = of(template, CALLED, (1, 3), tools=(BOOK,))
    call, said = stretches(tokenizer, found)
    assert call.startswith('<tool_call>book{"n": 2')
    assert call.endswith("}</tool_call><|im_end|>")
    assert "李" in call
    assert said == "Booked.<|im_end|>"
    assert '"name": "book"' in tokens.as_read(tokenizer, found.ids[: found.answer])


def test_tools_and_calls_that_the_template_leaves_out_are_said() -> None:
    with pytest.raises(TurnsError, match="writes nothing of the row's tools"):
        of(CHAT_TEMPLATE, CHAT, (4,), tools=(BOOK,))
    with pytest.raises(TurnsError, match="leaves out the call of turn 2"):
        of(CHAT_TEMPLATE, CALLED, (1,))


def test_words_that_the_template_leaves_out_are_said() -> None:
    mute = CHAT_TEMPLATE.replace("message['content']", "message['content'][:1]")
    with pytest.raises(TurnsError, match="leaves out or changes the words of turn 3"):
        of(mute, CHAT, (2,))
    split = CHAT_TEMPLATE.replace("message['content']", "message['content'].split('</think>')[-1]")
    thinks = (CHAT[1], {"role": "assistant", "content": "<think>hm</think>yes"})
    with pytest.raises(TurnsError, match="the thought of turn 2"):
        of(split, thinks, (1,))


@pytest.mark.parametrize("family", ["llama-3", "phi", "exaone", "chatml", "gemma", "mistral"])
def test_a_familys_turns_end_with_what_its_template_writes_once(family: str) -> None:
    from tests.chat_templates import FAMILIES, ends_of, tokenizer_of

    tokenizer = tokenizer_of(FAMILIES[family])
    ends = ends_of(tokenizer, FAMILIES[family])
    turns = CHAT[1:]
    example = Example(0, "r", turns[:-1], "", turns=turns, learned=(1, 3))
    found = learned(
        tokenizer,
        example,
        ends=ends,
        end=tokens.turn_end(tokenizer, ends),
        written=lambda text, _: tokens.encode(tokenizer, text),
    )
    end = FAMILIES[family].end
    assert stretches(tokenizer, found) == [f"yes{end}", f"no{end}"]


@pytest.mark.parametrize("trainer", ["dpo", "kto"])
@pytest.mark.parametrize("offered", [True, False])
def test_a_call_of_a_tool_is_an_answer_to_be_judged(
    tmp_path: Path, trainer: str, offered: bool
) -> None:
    """Good where the tool is called, bad where it is talked about, and each as it is written."""
    asked = {"role": "user", "content": "a table"}
    called, talked = CALLED[1], {"role": "assistant", "content": "I would book."}
    pairs = [[asked, called], [asked, talked]]
    if trainer == "dpo":
        rows = [{"c": pairs[0], "r": pairs[1]}] * 4
        source = {"prompt": None, "chosen": "{{ c }}", "rejected": "{{ r }}"}
    else:
        rows = [{"m": turns, "ok": turns[1] is called} for turns in pairs * 2]
        source = {"prompt": None, "completion": None, "messages": "{{ m }}", "label": "{{ ok }}"}
    (tmp_path / "calls.jsonl").write_text(
        "".join(json.dumps({**row, "t": [BOOK]}) + "\n" for row in rows), "utf-8"
    )
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TOOLS
    tiny_model(len(tokenizer)).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    tools = {"tools": "{{ t }}"} if offered else {}
    recipe = write_method_world(
        tmp_path, tmp_path / "m", trainer, source={"source": "calls.jsonl", **source, **tools}
    )
    job, method = job_of(recipe, tmp_path / "w")
    data = method.make(job).train_dataset
    row = data[0, 0] if trainer == "kto" else data[0]
    said = [row[name] for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in row]
    given = [dict(tool) for tool in job.stage.examples[0].options.tools] or None
    assert bool(given) == offered
    for answer, turn in zip(said, (called, talked), strict=False):
        whole = tokens.encode(
            job.tokenizer,
            job.tokenizer.apply_chat_template([asked, turn], tools=given, tokenize=False),
        )
        ids = [*row["prompt_ids"], *answer]
        assert ids == list(whole[: len(ids)])
        assert ids[-1] == job.tokenizer.eos_token_id
    assert "<tool_call>book" in tokens.as_read(job.tokenizer, said[0])
