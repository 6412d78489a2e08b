"""What a suite asks: conversations, shots, tools, a beginning, and what its protocol keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.backends.tokenization import encode_chat
from harness.core.errors import UserError
from harness.core.types import Sample
from harness.evaluation.plan import Scoring
from harness.evaluation.runner import score
from harness.store.runs import load_samples, run_responses
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.passages import of_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import write_jsonl
from tests.tiny import tiny_tokenizer

TOOL = {"name": "weather", "parameters": {"properties": {"city": {"type": "string"}}}}
ROWS: list[dict[str, Any]] = [
    {
        "id": str(number),
        "q": f"{number} + {number}?",
        "a": str(2 * number),
        "talk": [
            {"from": "system", "value": "" if number % 2 else "Count."},
            {"from": "human", "value": "Hello."},
            {"from": "gpt", "value": "Yes?"},
            {"from": "human", "value": f"{number} + {number}?"},
            {"from": "gpt", "value": str(2 * number)},
        ],
        "tools": [TOOL],
    }
    for number in range(1, 7)
]


def suite_of(folder: Path, prompt: Any, rows: Any = ROWS, **task: Any) -> Suite:
    write_jsonl(folder / "rows.jsonl", rows)
    whole = {"data": "rows.jsonl", "prompt": prompt, "reference": "{{ a }}"}
    tasks = {"t": {**whole, "metrics": ["exact_match"], **task}}
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump({"name": "s", "tasks": tasks}, allow_unicode=True))
    return load_suite(path)


def first(folder: Path, prompt: Any, **task: Any) -> Sample:
    return suite_of(folder, prompt, **task).task("t").samples[0]


def texts(sample: Sample) -> list[str]:
    return [f"{turn['role']}: {turn['content']}" for turn in sample.prompt]


def test_a_conversation_is_asked_up_to_its_last_answer(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, {"messages": "{{ talk[:-1] }}"}, reference="{{ talk[-1]['value'] }}")
    one, two = suite.task("t").samples[:2]
    assert texts(one) == ["user: Hello.", "assistant: Yes?", "user: 1 + 1?"]
    assert texts(two)[0] == "system: Count."
    assert two.references == ("4",)


def test_turns_and_conversations_mix(tmp_path: Path) -> None:
    prompt = {
        "messages": [
            {"role": "system", "content": "Row {{ id }}."},
            "{{ talk[1:3] }}",
            {"role": "user", "content": "{{ q }}"},
        ]
    }
    assert texts(first(tmp_path, prompt)) == [
        *("system: Row 1.", "user: Hello.", "assistant: Yes?"),
        "user: 1 + 1?",
    ]


def test_shots_are_turns_before_the_question(tmp_path: Path) -> None:
    prompt = {"system": "Add.", "user": "{{ q }}", "shots": {"from": "rows.jsonl", "n": 2}}
    samples = suite_of(tmp_path, prompt).task("t").samples
    assert texts(samples[5]) == [
        *("system: Add.", "user: 1 + 1?", "assistant: 2", "user: 2 + 2?", "assistant: 4"),
        "user: 6 + 6?",
    ]


@pytest.mark.parametrize("seed", [None, 0, 1, 7])
def test_no_sample_is_its_own_shot(tmp_path: Path, seed: int | None) -> None:
    shots = {"from": "rows.jsonl", "n": 5, "seed": seed}
    for sample in suite_of(tmp_path, {"user": "{{ q }}", "shots": shots}).task("t").samples:
        *before, last = [turn["content"] for turn in sample.prompt]
        assert last not in before
        assert len(before) == 10


def test_another_file_may_repeat_the_question(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "shots.jsonl", [{"q": "1 + 1?", "a": "2!"}, {"q": "0 + 1?", "a": "1"}])
    prompt = {"user": "{{ q }}", "shots": {"from": "shots.jsonl", "n": 1}}
    assert texts(first(tmp_path, prompt))[0] == "user: 0 + 1?"


def test_a_seed_draws_the_same_shots_for_all_and_another_draws_others(tmp_path: Path) -> None:
    def drawn(seed: int) -> list[str]:
        shots = {"from": "rows.jsonl", "n": 3, "seed": seed}
        return texts(first(tmp_path, {"user": "{{ q }}", "shots": shots}))

    assert drawn(3) == drawn(3)
    assert len({tuple(drawn(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("raw", [False, True])
def test_shots_as_text_stand_in_the_question(tmp_path: Path, raw: bool) -> None:
    shots = {"from": "rows.jsonl", "n": 2, **({} if raw else {"as": "text"})}
    prompt = {"user": "Q: {{ q }}\nA:", "shots": shots, "raw": raw}
    samples = suite_of(tmp_path, prompt).task("t").samples
    wanted = "Q: 1 + 1?\nA: 2\n\nQ: 2 + 2?\nA: 4\n\nQ: 3 + 3?\nA:"
    assert texts(samples[2]) == [f"user: {wanted}"]


def test_training_data_is_searched_for_the_question_alone(tmp_path: Path) -> None:
    shots = {"from": "rows.jsonl", "n": 2, "as": "text"}
    by_shots = suite_of(tmp_path, {"user": "{{ q }}", "shots": shots})
    assert [passage.texts for passage in of_suite(by_shots)][:1] == [("1 + 1?",)]
    talk = suite_of(tmp_path, {"messages": "{{ talk[:-1] }}"})
    assert [passage.texts for passage in of_suite(talk)][:1] == [("1 + 1?",)]


def test_how_a_prompt_is_written(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if tools %}{{ tools | map(attribute='function.name') | join }}|{% endif %}"
        "{% for m in messages %}{{ m.role }}:{{ m.content }}|{% endfor %}"
        "{{ strftime_now('%d') }}|{% if enable_thinking is defined and not enable_thinking %}"
        "<think></think>{% endif %}"
    )
    prompt = {
        **{"user": "{{ q }}", "tools": "{{ tools }}", "template": {"enable_thinking": False}},
        **{"prefill": "It is {{ id }}", "now": "2026-05-17"},
    }
    sample = first(tmp_path, prompt)
    text = tokenizer.decode(encode_chat(tokenizer, sample.prompt, sample.options))
    assert text.endswith("weather|user:1 + 1?|17|<think></think>It is 1")
    raw = first(tmp_path, {"user": "{{ q }} =", "raw": True})
    assert tokenizer.decode(encode_chat(tokenizer, raw.prompt, raw.options)).endswith("1 + 1? =")
    assert "user" not in tokenizer.decode(encode_chat(tokenizer, raw.prompt, raw.options))


@pytest.mark.parametrize(
    "more",
    [
        {"tools": "{{ tools }}"},
        {"template": {"enable_thinking": False}},
        {"prefill": "The"},
        {"raw": True},
        {"now": "2026-05-17"},
        {"shots": {"from": "rows.jsonl", "n": 1}},
        {"shots": {"from": "rows.jsonl", "n": 1, "as": "text"}},
    ],
)
def test_each_key_is_another_protocol_and_another_answer(tmp_path: Path, more: Any) -> None:
    plain, other = (
        suite_of(tmp_path, {"user": "{{ q }}"}),
        suite_of(tmp_path, {"user": "{{ q }}", **more}),
    )
    assert plain.digest != other.digest
    model = Candidate("m", "0" * 64, {"backend": "scripted"}, ScriptedBackend)
    keys = [{want.key for want in Scoring(model, one).answers()} for one in (plain, other)]
    assert not keys[0] & keys[1]


def test_where_the_shots_lie_is_no_part_of_the_protocol(tmp_path: Path) -> None:
    shots = {"from": "rows.jsonl", "n": 1}
    here = suite_of(tmp_path, {"user": "{{ q }}", "shots": shots})
    (tmp_path / "deeper").mkdir()
    write_jsonl(tmp_path / "deeper" / "shots.jsonl", ROWS)
    there = {"user": "{{ q }}", "shots": {**shots, "from": "deeper/shots.jsonl"}}
    assert suite_of(tmp_path, there).digest == here.digest


def test_a_given_beginning_is_part_of_the_answer(tmp_path: Path, store: Store) -> None:
    suite = suite_of(tmp_path, {"user": "{{ q }}", "prefill": "It is "}, rows=ROWS[:1])
    backend = ScriptedBackend(lambda prompt, seed: "2" if prompt.endswith("It is ") else "?")
    run = score(Candidate("m", "d", backend.subject, lambda: backend), suite, store).run
    assert [answer.text for answer in run_responses(store, run.id)] == ["It is 2"]
    stored = load_samples(store, suite.task("t").digest)
    assert stored["1"].options == suite.task("t").samples[0].options
    assert stored["1"].fields == ROWS[0]


@pytest.mark.parametrize(
    ("prompt", "field", "says"),
    [
        ({"user": "{{ q }}", "messages": "{{ talk }}"}, "t.prompt", "either a `user`"),
        ({"system": "x"}, "t.prompt", "either a `user`"),
        ({"messages": "{{ talk }}", "system": "x"}, "t.prompt", "`system` goes with `user`"),
        ({"messages": 3}, "t.prompt.messages", "list of turns"),
        (
            {"messages": [{"role": "human", "content": "x"}]},
            "t.prompt.messages",
            "turn 1 has no role",
        ),
        ({"messages": [{"role": "user"}]}, "t.prompt.messages", "turn 1 has no `content`"),
        ({"user": "x", "template": {"tokenize": True}}, "t.prompt.template", "'tokenize'"),
        ({"user": "x", "raw": True, "tools": "{{ tools }}"}, "t.prompt", "`raw`"),
        ({"user": "x", "shots": {"from": "no.jsonl", "n": 1}}, "shots.from", "not there"),
        ({"user": "x", "shots": {"n": 1}}, "shots.from", "'from' is missing"),
        ({"user": "x", "shots": {"from": "rows.jsonl", "n": 0}}, "shots.n", "greater than"),
        ({"user": "{{ q }}", "shots": {"from": "rows.jsonl", "n": 6}}, "prompt.shots.n", "are 5"),
        ({"messages": "{{ talk }}"}, "prompt.messages", "assistant's own turn"),
        ({"messages": "{{ q }}"}, "prompt.messages", "no JSON"),
        ({"messages": "{{ nothing }}"}, "prompt.messages", "'nothing' is undefined"),
        ({"messages": "so {{ talk }}"}, "prompt.messages", "one expression"),
        ({"user": "x", "tools": "{{ q }}"}, "prompt.tools", "no JSON"),
        ({"user": "x", "tools": "{{ id }}"}, "prompt.tools", "a list of functions"),
    ],
)
def test_a_wrong_prompt_is_said(tmp_path: Path, prompt: Any, field: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        suite_of(tmp_path, prompt)
    assert says in caught.value.what
    assert (caught.value.field or "").endswith(field)
    assert caught.value.line


def test_shots_without_answers_are_refused(tmp_path: Path) -> None:
    shots = {"from": "rows.jsonl", "n": 1}
    task = {"reference": None, "metrics": ["length"]}
    with pytest.raises(UserError, match="the shots have no answers"):
        suite_of(tmp_path, {"user": "{{ q }}", "shots": shots}, **task)
    answered = {"user": "{{ q }}", "shots": {**shots, "answer": "<{{ a }}>"}}
    assert texts(first(tmp_path, answered, **task))[1] == "assistant: <4>"


def test_shots_that_leave_no_room_are_said_before_the_first_answer(
    tmp_path: Path, store: Store
) -> None:
    backend = ScriptedBackend(max_length=80)
    shots = {"from": "rows.jsonl", "n": 5}
    suite = suite_of(tmp_path, {"user": "{{ q }}", "shots": shots})
    with pytest.raises(UserError, match="with 5 shots sample '1' has") as caught:
        score(Candidate("m", "d", backend.subject, lambda: backend), suite, store)
    assert caught.value.field == "tasks.t.prompt.shots.n"
    assert backend.calls == 0


REFUSES = "{% if messages[0]['role'] == 'system' %}\n{{ raise_exception('No system') }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "prompt", "field", "says"),
    [
        (REFUSES, {"system": "x", "user": "y"}, ".system", "No system"),
        ("{{ messages[0].content }}", {"user": "y", "tools": "{{ tools }}"}, ".tools", "nothing"),
        (
            "{% if tools %}\n{{ tools[0].function.parameters.additional.x }}{% endif %}",
            {"system": "x", "user": "y", "tools": "{{ tools }}"},
            ".tools",
            "has no attribute 'additional'",
        ),
        ("\n{{ nowhere() }}", {"user": "y"}, "", "nowhere"),
    ],
)
def test_a_template_that_refuses_is_said_before_a_weight_is_loaded(
    tmp_path: Path, store: Store, template: str, prompt: Any, field: str, says: str
) -> None:
    from transformers import AutoTokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path / "model")

    def opened() -> Any:
        raise AssertionError("the weights are loaded")

    def alone() -> Any:
        return AutoTokenizer.from_pretrained(tmp_path / "model")

    with pytest.raises(UserError) as caught:
        score(Candidate("m", "d", {}, opened, alone), suite_of(tmp_path, prompt), store)
    assert says in caught.value.what
    assert caught.value.field == f"tasks.t.prompt{field}"
    assert Path(str(caught.value.file)).name == "chat_template.jinja"
    assert caught.value.line == (None if says == "nothing" else 2)


def test_a_server_is_asked_in_messages(tmp_path: Path) -> None:
    from harness.backends.openai.messages import asked, said

    call = {"id": "c", "function": {"name": "weather", "arguments": {"city": "北京"}}}
    sample = first(
        tmp_path,
        {"user": "{{ q }}", "tools": "{{ tools }}", "template": {"k": 1}, "prefill": "It"},
    )
    turn = {"role": "assistant", "content": "", "tool_calls": [call]}
    body = asked([*sample.prompt, turn], sample.options)
    assert body["messages"][0] == {"role": "user", "content": "1 + 1?"}
    assert json.loads(body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {
        "city": "北京"
    }
    assert body["messages"][2] == {"role": "assistant", "content": "It"}
    assert body["tools"][0]["function"]["name"] == "weather"
    assert body["chat_template_kwargs"] == {"k": 1}
    assert body["continue_final_message"] is True
    message = {"content": None, "tool_calls": body["messages"][1]["tool_calls"]}
    answer = said({"message": message, "finish_reason": "tool_calls"})
    assert answer == ('<tool_call>{"name": "weather", "arguments": {"city": "北京"}}</tool_call>')
