"""Users' own reward functions, as they were written for TRL and others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UserError
from trainers.rewards.answers import Answers
from trainers.rewards.custom import by_function, function_file, require_function
from trainers.rewards.mixture import checked

FUNCTIONS = """
import os
from math import sqrt
X = 3
WORDS = ["a", "b"]
twice = lambda completions, **kw: [2.0] * len(completions)
def texts(prompts, completions, **kw): return [float(len(c)) for c in completions]
def messages(completions, **kw): return [float("yes" in c[0]["content"]) for c in completions]
def last_message(completions, **kw): return [float(len(c[-1]["content"])) for c in completions]
def of_either(completions, **kw):
    return [float(len(c if isinstance(c, str) else c[0]["content"])) for c in completions]
def got(completions, **kw): return [float(len(m.get("content"))) for [m] in completions]
def tokens(prompts, completions, completion_ids, trainer_state=None, **kw):
    return [float(len(ids)) for ids in completion_ids]
async def later(completions, **kw): return [1.0 for _ in completions]
class Slow:
    async def __call__(self, completions, answer):
        return [float(a in c) for a, c in zip(answer, completions)]
slow = Slow()
def few(completions): return [1.0] * len(completions)
def column(completions, answer): return [float(a in c) for a, c in zip(answer, completions)]
def asked(prompts, completions): return [float(len(p[-1]["content"])) for p in prompts]
def broken(completions, **kw): raise KeyError("answer")
def wrong(completions, **kw): return [c["nowhere"] for c in completions]
def word(completions, **kw): return "1"
def table(completions, **kw): return {"a": 1.0}
import asyncio, json
calls = []
def flaky(completions, **kw):
    calls.append(completions)
    if len(calls) == 1:
        json.loads("not json")
    return [1.0] * len(completions)
def later_flaky(completions, **kw):
    calls.append(completions)
    if len(calls) == 2:
        "error page"["score"]
    return [1.0] * len(completions)
def parts(completions, **kw): return [float(sum(len(m["content"]) for m in c)) for c in completions]
def breaks_off(completions, **kw):
    yield 1.0
    raise KeyError("answer")
def columns_of_one(completions, **kw):
    import numpy
    return numpy.ones((len(completions), 1))
def beyond(completions, **kw): return [10**400] * len(completions)
def lists(completions, **kw): return [[1.0]] * len(completions)
def pairs(completions, **kw): return [(1.0, "why")] * len(completions)
client = None
async def shared(completions, **kw):
    global client
    client = client or asyncio.get_running_loop().create_future()
    if not client.done():
        client.set_result(1.0)
    return [await client for _ in completions]
async def leaves(completions, **kw): raise SystemExit(0)
def spoils(prompts, completions, completion_ids, **kw):
    prompts[0][0]["content"] = "spoiled"
    completion_ids[0].clear()
    kw["tags"][0].append("spoiled")
    completions.clear()
    return [1.0] * 3
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rewards") / "mine.py"
    path.write_text(FUNCTIONS, encoding="utf-8")
    return path


SAID = ("yes", "no, never", "")


def values(file: Path, name: str) -> list[float | None]:
    asked = tuple(({"role": "user", "content": "?" * (i + 1)},) for i in range(3))
    rows = tuple({"answer": word, "topic": i} for i, word in enumerate(("yes", "yes", "yes")))
    answers = Answers(asked, SAID, rows, {"completion_ids": [[1], [1, 2], []], "trainer_state": 1})
    return list(by_function(f"{file}:{name}", name)(answers))


@pytest.mark.parametrize(
    ("name", "earned"),
    [
        ("texts", [3.0, 9.0, 0.0]),
        ("messages", [1.0, 0.0, 0.0]),
        ("last_message", [3.0, 9.0, 0.0]),
        ("of_either", [3.0, 9.0, 0.0]),
        ("got", [3.0, 9.0, 0.0]),
        ("tokens", [1.0, 2.0, 0.0]),
        ("later", [1.0, 1.0, 1.0]),
        ("slow", [1.0, 0.0, 0.0]),
        ("few", [1.0, 1.0, 1.0]),
        ("column", [1.0, 0.0, 0.0]),
        ("asked", [1.0, 2.0, 3.0]),
        ("twice", [2.0, 2.0, 2.0]),
    ],
)
def test_functions_as_they_were_written(file: Path, name: str, earned: list[float]) -> None:
    require_function(*function_file(f"{file}:{name}", name), name)
    assert values(file, name) == earned


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", "KeyError: 'answer'"),
        ("wrong", "string indices must be integers"),
        ("word", "gave '1' for 3 answers"),
        ("table", r"gave \{'a': 1.0\} for 3 answers"),
    ],
)
def test_what_fails_is_said_with_the_rewards_name(file: Path, name: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        values(file, name)
    assert name in refused.value.what


@pytest.mark.parametrize("name", ["os", "X", "WORDS", "nowhere"])
def test_what_is_no_function_is_refused_before_the_training(file: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"has no function '{name}'"):
        require_function(str(file), name, name)


@pytest.mark.parametrize("name", ["os", "X"])
def test_what_is_no_function_is_refused_as_it_is_loaded(file: Path, name: str) -> None:
    with pytest.raises(UserError, match="not a function"):
        by_function(f"{file}:{name}", name)


def test_an_empty_answer_first_doesnt_settle_how_a_function_is_called(file: Path) -> None:
    function = by_function(f"{file}:messages", "messages")
    none: tuple[Any, ...] = ({"role": "user", "content": "?"},)
    assert list(function(Answers((none,), ("",), ({},)))) == [0.0]
    assert list(function(Answers((none,), ("yes",), ({},)))) == [1.0]


def test_trls_call_reaches_the_function(file: Path) -> None:
    function = checked("tokens", by_function(f"{file}:tokens", "tokens"))
    chats = [[{"role": "user", "content": "?"}]] * 2
    said = [[{"role": "assistant", "content": word}] for word in ("yes", "no")]
    found = function(
        prompts=chats,
        completions=said,
        completion_ids=[[5, 6], [7]],
        trainer_state=None,
        log_metric=print,
        answer=["a", "b"],
    )
    assert found == [2.0, 1.0]


def asked_of(file: Path, name: str) -> Any:
    """Calls the function with texts, as often as one likes."""
    called = by_function(f"{file}:{name}", name)

    def ask(*texts: str) -> list[float | None]:
        prompts = tuple(({"role": "user", "content": "?"},) for _ in texts)
        return list(called(Answers(prompts, texts, tuple({} for _ in texts))))

    return ask


def test_an_error_that_says_nothing_of_texts_is_the_functions_own(file: Path) -> None:
    ask = asked_of(file, "flaky")
    with pytest.raises(UserError, match="JSONDecodeError"):
        ask("yes")
    ask = asked_of(file, "later_flaky")
    assert ask("yes") == [1.0]
    with pytest.raises(UserError, match="string indices"):
        ask("no")
    assert ask("so") == [1.0]


def test_empty_answers_don_t_decide_what_a_function_is_given(file: Path) -> None:
    ask = asked_of(file, "parts")
    assert ask("", "") == [0.0, 0.0]
    assert ask("yes", "") == [3.0, 0.0]


def test_coroutines_share_one_loop_also_within_another(file: Path) -> None:
    ask = asked_of(file, "shared")
    assert ask("a", "b") == [1.0, 1.0]

    async def within() -> list[float | None]:
        found: list[float | None] = ask("c")
        return found

    assert asyncio.run(within()) == [1.0]
    with pytest.raises(UserError, match="ends the program"):
        asked_of(file, "leaves")("a")
    assert ask("d") == [1.0]


def test_what_a_function_changes_nobody_else_sees(file: Path) -> None:
    mine, other = (
        checked(name, by_function(f"{file}:{name}", name)) for name in ("spoils", "tokens")
    )
    prompts = [[{"role": "user", "content": "?"}] for _ in range(3)]
    ids = [[1], [1, 2], []]
    row = json.dumps({"tags": ["a"]})
    for _ in range(2):
        asked: dict[str, Any] = {"completion_ids": ids, "_row": [row] * 3}
        assert mine(prompts, list(SAID), **asked) == [1.0] * 3
        assert other(prompts, list(SAID), **asked) == [1.0, 2.0, 0.0]
    assert prompts[0][0]["content"] == "?"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("breaks_off", "failed: KeyError: 'answer'"),
        ("columns_of_one", "for the answer 'yes'"),
        ("beyond", "for the answer 'yes'"),
        ("lists", "for the answer 'yes'"),
        ("pairs", "for the answer 'yes'"),
    ],
)
def test_what_is_no_number_is_refused_and_no_crash(file: Path, name: str, says: str) -> None:
    call = checked(name, by_function(f"{file}:{name}", name), file)
    with pytest.raises(UserError, match=says):
        call([[{"role": "user", "content": "?"}]] * 3, list(SAID))
