"""BFCL's cases as rows, and its own checker's verdicts on answers that were damaged at random."""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from harness.core.errors import UserError
from harness.core.types import Response, Row, Sample
from harness.data.bfcl import CATEGORIES, read_bfcl
from harness.data.messages import read_tools
from harness.metrics import get_metric
from harness.metrics.base import Evidence, MetricItem
from harness.suite.load import load_suite

HERE = Path()
CALLED = [name for name in CATEGORIES if "relevance" not in name]


@pytest.fixture(scope="module")
def checker() -> Any:
    """`ast_checker` of the installed package. Of its table of models, which would import every
    vendor's client, it only asks whether dots of names were replaced.
    """
    pytest.importorskip("bfcl_eval")
    models = ModuleType("bfcl_eval.constants.model_config")
    asked = SimpleNamespace(underscore_to_dot=False)
    models.MODEL_CONFIG_MAPPING = defaultdict(lambda: asked)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, models.__name__, models)
        yield importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker


def published(name: str) -> tuple[list[Row], list[Any]]:
    """The package's own lines of a category, and its right answers."""
    path = Path(importlib.import_module("bfcl_eval").__path__[0]) / "data" / f"BFCL_v4_{name}.json"
    read = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in (path, path.parent / "possible_answer" / path.name)
    ]
    return read[0], [line["ground_truth"] for line in read[1]]


def score(metric: str, answer: str, row: Row) -> Evidence:
    response = Response("k", "s", "t", "generation", 0, 0, answer)
    sample = Sample("s", "t", fields=row)
    ((found,),) = get_metric(metric).score([MetricItem(sample, (response,))])
    return found


def literal(value: Any, kind: str, language: str, chance: random.Random) -> Any:
    """A value as an answer has it: in Java and JavaScript as the text of a literal."""
    if language == "python" or isinstance(value, str):
        quote = language == "javascript" and kind == "String" and chance.random() < 0.7
        return f'"{value}"' if quote else value
    said = {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    if isinstance(value, list):
        parts = ", ".join(json.dumps(part) for part in value)
        forms = {
            "ArrayList": f"new ArrayList<String>(Arrays.asList({parts}))",
            "Array": f"new String[]{{{parts}}}",
        }
        return forms.get(kind, f"[{parts}]")
    if isinstance(value, dict):
        pairs = {k: v[0] if isinstance(v, list) and v else v for k, v in value.items()}
        puts = " ".join(f'put("{k}", {json.dumps(v)});' for k, v in pairs.items())
        return f"new HashMap<>() {{{{ {puts} }}}}" if kind == "HashMap" else json.dumps(pairs)
    ends = {"long": "L", "float": "f", "Bigint": "n"} if language == "java" else {"Bigint": "n"}
    return (said or str(value)) + ends.get(kind, "")


def right_values(allowed: Any, chance: random.Random) -> Any:
    """One of the values that are allowed, lists of an object's parts resolved."""
    values = [one for one in allowed if one != ""]
    value = chance.choice(values or [""])
    if isinstance(value, dict):
        return {
            k: right_values(v, chance)
            for k, v in value.items()
            if isinstance(v, list) and not ("" in v and chance.random() < 0.5)
        }
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [right_values([part], chance) for part in value]
    return value


def right_answer(row: Row, chance: random.Random) -> list[tuple[str, dict[str, Any]]]:
    calls = []
    for call in row["calls"]:
        types = call["parameters"]["properties"]
        calls.append(
            (
                call["name"],
                {
                    key: literal(
                        right_values(values, chance), types[key]["type"], call["language"], chance
                    )
                    for key, values in call["allowed"].items()
                    if key in types and not ("" in values and chance.random() < 0.4)
                },
            )
        )
    return calls


def other(value: Any, chance: random.Random) -> Any:
    """Another value in place of one, near it or far."""
    near: list[Any] = ["", None, [], {}, 0, 1, True, "x", [value], {"x": value}, str(value)]
    if isinstance(value, str):
        marks = [value.upper(), f" {value}.", value.replace(" ", "_"), f"'{value}'", value[:-1]]
        near += [*marks, value.replace("a", "ａ"), f"{value},", "-" + value, list(value)]
    if isinstance(value, bool):
        near += [not value, int(value), str(value).lower()]
    if isinstance(value, int | float):
        near += [float(value), -value, value + 1, int(value), bool(value), 10**400]
    if isinstance(value, list):
        near += [value[::-1], value[:-1], [*value, *value[:1]], [other(v, chance) for v in value]]
        near += [[str(v) for v in value], [float(v) if type(v) is int else v for v in value]]
    if isinstance(value, dict):
        near += [{k: other(v, chance) for k, v in value.items()}, {**value, "more": 1}]
        near += [dict(list(value.items())[:-1]), list(value.values())]
    return chance.choice(near)


def damaged(calls: list[tuple[str, dict[str, Any]]], chance: random.Random) -> Any:
    calls = [(name, dict(given)) for name, given in calls]
    kind = chance.choice(["value"] * 8 + ["drop", "add", "name", "key", "more", "less", "order"])
    name, given = calls[at := chance.randrange(len(calls))]
    if kind == "more":
        return [*calls, chance.choice(calls)]
    if kind == "less":
        return calls[:at] + calls[at + 1 :]
    if kind == "order":
        return chance.sample(calls, len(calls))
    if kind == "name":
        renamed = chance.choice([name.replace(".", "_"), name.upper(), f"{name}s", ""])
        calls[at] = (renamed, given)
    if kind == "add":
        given[chance.choice(["more", "unit", ""])] = chance.choice([1, "x", None])
    if given and kind in ("value", "drop", "key"):
        key = chance.choice(sorted(given))
        value = given.pop(key)
        if kind != "drop":
            given[key if kind == "value" else f"{key}_"] = other(value, chance)
    return calls


def agreed(checker: Any, seed: int, many: int) -> Counter[tuple[bool, bool]]:
    """How often (theirs, ours) is right, over damaged answers to cases of every category."""
    languages = importlib.import_module("bfcl_eval.constants.enums").Language
    chance, found = random.Random(seed), Counter[tuple[bool, bool]]()
    for name in CALLED:
        cases, answers = published(name)
        rows = read_bfcl(f"bfcl:{name}", HERE)
        language = languages(rows[0][1]["calls"][0]["language"])
        for _ in range(many):
            at = chance.randrange(len(rows))
            calls = right_answer(rows[at][1], chance)
            if chance.random() < 0.85:
                calls = damaged(calls, chance)
            said = [json.dumps({"name": name, "arguments": given}) for name, given in calls]
            try:
                verdict = checker(
                    cases[at]["function"], json.loads(json.dumps([{n: a} for n, a in calls])),
                    answers[at], language, name, "any",
                )["valid"]  # fmt: skip
            except (AttributeError, TypeError, KeyError, OverflowError):
                verdict = False  # it broke off
            text = "\n".join(f"<tool_call>{call}</tool_call>" for call in said)
            ours = score("tool_arguments", text, rows[at][1]).value == 1.0
            assert ours == verdict, (rows[at][1]["id"], calls, answers[at])
            found[verdict, ours] += 1
    return found


def test_the_checker_and_the_metric_agree_on_damaged_answers(checker: Any) -> None:
    found = agreed(checker, seed=7, many=120)
    assert found.total() == 1200
    assert min(found[True, True], found[False, False]) > 300


def test_every_case_can_be_read_and_asked(tmp_path: Path) -> None:
    pytest.importorskip("bfcl_eval")
    for name in CATEGORIES:
        for _, row in read_bfcl(f"bfcl:{name}", HERE):
            assert read_tools(row["tools"]) or name == "live_irrelevance"
            assert row["calls"] in ("some", "none") or all(one["name"] for one in row["calls"])
    path = tmp_path / "suite.yaml"
    metrics = ["tool_choice", "tool_arguments", "tool_abstain"]
    asked = {"messages": "{{ messages }}", "tools": "{{ tools }}"}
    tasks = {
        name: {"data": f"bfcl:{name}", "prompt": asked, "metrics": metrics}
        for name in ("simple_javascript", "live_relevance")
    }
    path.write_text(yaml.safe_dump({"name": "calls", "tasks": tasks}))
    second, first = load_suite(path).tasks
    assert (len(first.samples), len(second.samples)) == (50, 16)
    (tool,) = first.samples[0].options.tools
    assert "JavaScript" in tool["function"]["description"]
    assert first.samples[0].prompt[0]["role"] == "user"


@pytest.mark.parametrize(
    ("metric", "calls", "answer", "value"),
    [
        ("tool_abstain", "none", "No function fits.", 1.0),
        ("tool_abstain", "none", "", 1.0),
        ("tool_abstain", "none", "[f(a=1)]", 0.0),
        ("tool_abstain", "none", "[f(1)]", 1.0),
        ("tool_abstain", "some", "No function fits.", None),
        ("tool_choice", "none", "f(a=1)", 0.0),
        ("tool_choice", "some", "f(a=1)", 1.0),
        ("tool_choice", "some", "No function fits.", 0.0),
        ("tool_arguments", "some", "f(a=1)", None),
        ("tool_arguments", "none", "f(a=1)", None),
    ],
)
def test_relevance_is_told_as_bfcl_tells_it(
    metric: str, calls: str, answer: str, value: float | None
) -> None:
    assert score(metric, answer, {"calls": calls}).value == value


def test_a_long_literal_stays_a_text_in_no_time() -> None:
    from harness.metrics.support.bfcl_values import of_java, of_javascript

    for text in ("[[1]," * 400, "{" + "a:" * 900, '"' * 1900, "{ " + " " * 1900):
        for kind in ("array", "dict", "String"):
            of_javascript(text, kind)
    for text in ("new HashMap<" * 150, "new HashMap<>() {" + ' put("' * 300, "add(" * 400):
        for kind in ("HashMap", "ArrayList", "Array"):
            of_java(text, kind)


def test_what_cannot_be_read_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no category of BFCL") as error:
        read_bfcl("bfcl:multi_turn_base", HERE)
    assert "simple_python" in str(error.value.hint)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UserError, match="isn't installed") as error:
        read_bfcl("bfcl:simple_python", HERE)
    assert "pip install --no-deps bfcl-eval" in str(error.value.hint)


@pytest.mark.parametrize(
    ("case", "wanted"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"id": "a"}', "lacks 'function'"),
        ('{"id": "a", "function": [], "question": [[]]}', "lacks 'a'"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, wanted: str
) -> None:
    data = tmp_path / "data"
    (data / "possible_answer").mkdir(parents=True)
    (data / "BFCL_v4_multiple.json").write_text(case)
    (data / "possible_answer" / "BFCL_v4_multiple.json").write_text("{}")
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: found)
    with pytest.raises(UserError, match=wanted) as error:
        read_bfcl("bfcl:multiple", HERE)
    assert error.value.line == 1
