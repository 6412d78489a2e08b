"""Rows of conversations, pairs and labels as they lie there become what is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.core.errors import UserError
from tests.tiny import save_tiny_llama
from tests.trainers.method_builders import write_method_world
from trainers.config.load import load_recipe
from trainers.config.recipe import Example

U, A = "user", "assistant"


def turn(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CHAT = [
    turn("system", "Be brief."),
    turn(U, "fox?"),
    turn(A, "yes"),
    turn(U, "dog?"),
    turn(A, "no"),
]
SHARED = [
    {"from": "human", "value": "fox?"},
    {"from": "gpt", "value": "yes"},
    {"from": "human", "value": "dog?"},
    {"from": "gpt", "value": "no"},
]
REPLY = [turn(A, "no")]


def world(
    folder: Path,
    rows: list[dict[str, Any]],
    source: dict[str, Any],
    *,
    trainer: str = "sft",
    base: Path = Path("nowhere"),
    **data: Any,
) -> Path:
    path = write_method_world(folder, base, trainer)
    raw = yaml.safe_load(path.read_text("utf-8"))
    name = "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    raw["data"] = {"seed": 3, "mix": [{"source": name, "weight": 1, **source}], **data}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def examples(*args: Any, **named: Any) -> tuple[Example, ...]:
    return load_recipe(world(*args, **named)).stages[0].examples


@pytest.mark.parametrize(
    ("learn", "learned"), [("last", [(4,)]), ("all", [(2, 4)]), ("each", [(2,), (4,)])]
)
def test_the_turns_that_are_learned_are_said(
    tmp_path: Path, learn: str, learned: list[tuple[int, ...]]
) -> None:
    found = examples(tmp_path, [{"m": CHAT}], {"messages": "{{ m }}", "learn": learn})
    assert [example.learned for example in found] == learned
    for example in found:
        last = example.learned[-1]
        assert list(example.prompt) == CHAT[:last]
        assert example.completion == CHAT[last]["content"]
        assert list(example.turns) == CHAT[: last + 1]


@pytest.mark.parametrize("key", ["weight", "train", "training", "loss"])
def test_weights_say_which_turns_are_learned(tmp_path: Path, key: str) -> None:
    for weights, learned in (((0, 1), (4,)), ((True, False), (2,)), ((None, 0), (2,))):
        chat = [dict(one) for one in CHAT]
        chat[2][key], chat[4][key] = weights
        (found,) = examples(tmp_path, [{"m": chat}], {"messages": "{{ m }}", "learn": "weights"})
        assert found.learned == learned
        assert all(key not in one for one in found.turns)


def test_sharegpt_alpacas_history_and_a_system_column_are_the_same_turns(tmp_path: Path) -> None:
    history = {
        "instruction": "dog?",
        "output": "no",
        "history": [["fox?", "yes"]],
        "sys": "Be brief.",
    }
    system = "[{'role': 'system', 'content': sys}] + "
    for row, messages in (
        ({"m": CHAT}, "m"),
        ({"m": json.dumps(CHAT)}, "m"),
        ({"sys": "Be brief.", "m": SHARED}, system + "m"),
        ({**history, "sys": "Be brief."}, system + "history + [[instruction, output]]"),
    ):
        (found,) = examples(tmp_path, [row], {"messages": f"{{{{ {messages} }}}}"})
        assert list(found.turns) == CHAT


def test_an_empty_system_turn_is_none_and_what_follows_the_last_answer_is_not_read(
    tmp_path: Path,
) -> None:
    chat = [turn("system", ""), *CHAT[1:], turn(U, "and?")]
    (found,) = examples(tmp_path, [{"m": chat}], {"messages": "{{ m }}"})
    assert list(found.turns) == CHAT[1:]


def test_thoughts_are_kept_or_taken_out(tmp_path: Path) -> None:
    for said in (
        turn(A, "<think>\nhm\n</think>\n\nno"),
        turn(A, "no", reasoning_content="hm"),
        turn(A, "no", reasoning="hm"),
        turn(A, "no", thinking="hm"),
    ):
        row = {"m": [*CHAT[:4], said]}
        (kept,) = examples(tmp_path, [row], {"messages": "{{ m }}"})
        answer = kept.turns[-1]
        assert "hm" in (answer.get("reasoning_content") or answer["content"])
        source = {"messages": "{{ m }}", "thoughts": "drop"}
        (dropped,) = examples(tmp_path, [row], source)
        assert list(dropped.turns) == CHAT


def test_tools_calls_and_results_are_read_also_as_tables_have_them(tmp_path: Path) -> None:
    properties = {"n": {"type": "integer"}, "q": None}
    tool = {"name": "book", "description": None, "parameters": {"properties": properties}}
    call = {"id": "1", "function": {"name": "book", "arguments": '{"n": 2}'}}
    chat = [
        turn(U, "a table", tool_calls=None),
        turn(A, None, tool_calls=[call]),
        turn("tool", "ok", tool_call_id="1"),
        turn(A, "Booked."),
    ]
    (found,) = examples(
        tmp_path, [{"m": chat, "t": [tool]}], {"messages": "{{ m }}", "tools": "{{ t }}"}
    )
    (kept,) = found.options.tools
    assert kept["function"]["parameters"]["properties"] == {"n": {"type": "integer"}}
    assert found.turns[1]["tool_calls"][0]["function"]["arguments"] == {"n": 2}


@pytest.mark.parametrize(
    ("row", "source"),
    [
        ({"c": [*CHAT[:4], turn(A, "no")], "r": [*CHAT[:4], turn(A, "yes")]}, {}),
        ({"p": CHAT[:4], "c": [turn(A, "no")], "r": [turn(A, "yes")]}, {"messages": "{{ p }}"}),
        ({"p": CHAT[:4], "c": "no", "r": "yes"}, {"messages": "{{ p }}"}),
        (
            {"p": CHAT[:4], "c": [*CHAT[1:4], turn(A, "no")], "r": [*CHAT[1:4], turn(A, "yes")]},
            {"messages": "{{ p }}"},
        ),
        (
            {"c": SHARED, "r": [*SHARED[:3], SHARED[1]]},
            {},
        ),
    ],
)
def test_of_a_pair_the_prompt_is_taken_once(
    tmp_path: Path, row: dict[str, Any], source: dict[str, Any]
) -> None:
    source = {"chosen": "{{ c }}", "rejected": "{{ r }}", **source}
    (found,) = examples(tmp_path, [row], source, trainer="dpo")
    assert list(found.prompt) in (CHAT[:4], CHAT[1:4])
    assert (found.chosen, found.rejected) == ("no", "yes")


def test_a_label_judges_the_last_turn_of_a_conversation(tmp_path: Path) -> None:
    rows = [{"m": CHAT, "ok": True}, {"m": CHAT[:3], "ok": False}]
    source = {"messages": "{{ m }}", "label": "{{ ok }}"}
    good, bad = examples(tmp_path, rows, source, trainer="kto")
    assert (list(good.prompt), good.completion, good.label) == (CHAT[:4], "no", True)
    assert (list(bad.prompt), bad.completion, bad.label) == (CHAT[:2], "yes", False)
    rows = [{"p": CHAT[:4], "c": REPLY, "ok": n == 1} for n in range(2)]
    source = {"messages": "{{ p }}", "completion": "{{ c }}", "label": "{{ ok }}"}
    assert [e.completion for e in examples(tmp_path, rows, source, trainer="kto")] == ["no", "no"]


def test_a_conversation_is_a_prompt_where_answers_are_drawn(tmp_path: Path) -> None:
    (found,) = examples(tmp_path, [{"m": CHAT[:4]}], {"messages": "{{ m }}"}, trainer="grpo")
    assert list(found.prompt) == CHAT[:4]
    assert not found.learned


def test_ids_that_repeat_get_numbers_and_move_no_digest(tmp_path: Path) -> None:
    rows = [
        {"id": "identity_0", "m": CHAT},
        {"id": "b", "m": CHAT},
        {"id": "identity_0", "m": CHAT},
    ]
    found = examples(tmp_path, rows, {"messages": "{{ m }}"})
    assert [example.name for example in found] == ["identity_0", "b", "identity_0/2"]
    assert [example.row for example in found] == ["identity_0", "b", "identity_0"]


BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("sft", {"m": CHAT[:2]}, {}, "no turn of the assistant to learn from"),
    ("sft", {"m": []}, {}, "no turn"),
    ("sft", {"m": "hello"}, {}, "a text that is no JSON"),
    ("sft", {"m": 3}, {}, "a conversation is a list of turns"),
    ("sft", {"m": [turn(U, "a"), turn("narrator", "b")]}, {}, "has the role 'narrator'"),
    ("sft", {"m": [turn(U, "a"), turn(A, "")]}, {}, r"turn 2 \(assistant\) is empty"),
    ("sft", {"m": [turn(U, None), turn(A, "b")]}, {}, r"turn 1 \(user\) has no content"),
    ("sft", {"m": [turn(U, "a"), turn(A, "b", weight=0.5)]}, {"learn": "weights"}, "weight 0.5"),
    ("sft", {"m": [turn(U, "a"), turn(A, "b", weight=0)]}, {"learn": "weights"}, "weight 0: nothi"),
    ("sft", {"m": CHAT}, {"learn": "weights"}, "no turn of this row has a `weight`"),
    ("sft", {"m": [turn(U, [{"type": "image_url"}]), turn(A, "b")]}, {}, "no text: image_url"),
    ("sft", {"m": CHAT, "t": 3}, {"tools": "{{ t }}"}, "tools are a list"),
    ("sft", {"m": CHAT}, {"messages": "all of {{ m }}"}, "one expression is meant"),
    ("sft", {"m": CHAT}, {"messages": "{{ n }}"}, "'n' is undefined"),
    ("grpo", {"m": CHAT}, {}, r"ends with an answer.*m\w*\[:-1\]"),
]


EVERY_ROW = ("one expression is meant", "'n' is undefined")


@pytest.mark.parametrize(("trainer", "row", "source", "says"), BAD)
def test_what_is_wrong_with_a_row_is_said_with_its_line(
    tmp_path: Path, trainer: str, row: dict[str, Any], source: dict[str, Any], says: str
) -> None:
    good = {"m": CHAT[:4] if trainer == "grpo" else [*CHAT[:2], turn(A, "b", weight=1)], "t": []}
    path = world(tmp_path, [good, row], {"messages": "{{ m }}", **source}, trainer=trainer)
    with pytest.raises(UserError, match=says) as caught:
        load_recipe(path)
    assert caught.value.line == (1 if says in EVERY_ROW else 2)
    assert str(caught.value.file).endswith("rows.jsonl")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"c": CHAT, "r": [turn(U, "else"), turn(A, "x")]}, "begin with different turns"),
        ({"c": CHAT, "r": "no"}, "one is a text, one a conversation"),
        ({"c": "yes", "r": "no"}, "nothing says what they answer"),
        ({"c": CHAT, "r": CHAT}, "are the same"),
        ({"c": CHAT[:4], "r": [*CHAT[:3], turn(U, "x")]}, "an answer is one turn of the assistant"),
    ],
)
def test_a_pair_that_doesnt_fit_is_refused(tmp_path: Path, row: dict[str, Any], says: str) -> None:
    source = {"chosen": "{{ c }}", "rejected": "{{ r }}"}
    with pytest.raises(UserError, match=says):
        load_recipe(world(tmp_path, [row], source, trainer="dpo"))


def test_a_list_where_text_is_meant_is_refused_with_the_key_that_reads_it(tmp_path: Path) -> None:
    for source in (
        {"prompt": {"user": "{{ m }}"}, "completion": "yes"},
        {"text": "{{ m }}"},
        {"prompt": {"user": "x"}, "completion": "{{ t }}"},
    ):
        with pytest.raises(UserError) as caught:
            load_recipe(world(tmp_path, [{"m": CHAT, "t": {"a": 1}}], source))
        assert 'messages: "{{ m }}"' in str(caught.value.hint)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"messages": "{{ m }}", "prompt": {"user": "x"}}, "either a `prompt` or `messages`"),
        ({"messages": "{{ m }}", "text": "x"}, "no other template"),
        ({"messages": "{{ m }}", "completion": "x", "learn": "all"}, "whole conversations"),
        ({"messages": "{{ m }}", "instruct": {"instruction": "x"}}, "goes with a `prompt`"),
        ({"messages": "{{ m }}", "learn": "some"}, "'last', 'all', 'each' or 'weights'"),
        ({}, "either `prompt` and `completion`, or `messages`, or `text`"),
    ],
)
def test_keys_that_dont_go_together_are_refused(
    tmp_path: Path, source: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        load_recipe(world(tmp_path, [{"m": CHAT}], source))


def test_arguments_of_the_template_are_part_of_every_prompt(tmp_path: Path) -> None:
    off = {"enable_thinking": False}
    source = {"prompt": {"user": "{{ q }}"}, "completion": "{{ a }}"}
    (found,) = examples(tmp_path, [{"q": "fox?", "a": "yes"}], source, template=off)
    assert found.options.template == off
    assert found.learned == (1,)
    plain = load_recipe(world(tmp_path, [{"q": "fox?", "a": "yes"}], source))
    told = load_recipe(world(tmp_path, [{"q": "fox?", "a": "yes"}], source, template=off))
    assert plain.digest != told.digest
    with pytest.raises(UserError, match="'tools' is no argument to be given here"):
        load_recipe(world(tmp_path, [{"q": "a", "a": "b"}], source, template={"tools": []}))
    (drawn,) = examples(
        tmp_path, [{"q": "a"}], {"prompt": {"user": "{{ q }}"}}, trainer="grpo", template=off
    )
    assert drawn.options.template == off


def test_a_training_on_conversations_learns_what_is_marked(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.trainers.method_builders import job_of

    base = save_tiny_llama(tmp_path_factory.mktemp("base"))
    rows = [{"m": CHAT}] * 6
    path = world(tmp_path, rows, {"messages": "{{ m }}", "learn": "all"}, base=base)
    job, method = job_of(path, tmp_path / "home")
    row = method.make(job).train_dataset[0]
    said = job.tokenizer.decode([label for label in row["labels"] if label >= 0])
    assert said == "yes<|im_end|>no<|im_end|>"


def test_what_a_table_adds_as_null_is_in_no_turn_and_no_call(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    calls = [{"function": {"name": "f", "arguments": {"n": 2}}}]
    others = [{"function": {"name": "g", "arguments": {"q": "x"}}}]
    rows = [
        {"m": [turn(U, "a"), turn(A, None, tool_calls=some), turn("tool", "ok"), turn(A, "b")]}
        for some in (calls, others)
    ]
    path = world(tmp_path, rows, {"messages": "{{ m }}", "source": "rows.parquet"})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    found = load_recipe(path).stages[0].examples
    arguments = [e.turns[1]["tool_calls"][0]["function"]["arguments"] for e in found]
    assert arguments == [{"n": 2}, {"q": "x"}]
