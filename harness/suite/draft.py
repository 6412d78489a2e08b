"""Writes a first suite for rows: its task, its metrics, and a margin that they can carry."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from harness.core.errors import UserError
from harness.core.types import Row
from harness.data.columns import Column
from harness.data.templates import RESERVED, TemplateError, render
from harness.statistics.power import assumed_sd, samples_needed, smallest_distance
from harness.suite.guess import KINDS, Guess, ends_in_mark

MARGINS = (0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
_LEVEL, _ALPHA = 0.7, 0.05
"""What `ratchet suites check` assumes of a model before scoring, and the gate's own alpha."""
_FLOORS = {"refusal": 0.02}
_LONG, _SHORT = 256, 32


@dataclass(frozen=True, slots=True)
class Draft:
    """A suite's text; `metric` is the required one, and `notes` are for who reads it."""

    text: str
    task: str
    metric: str
    margin: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is asked, and how it is measured: the first metric is required, the others watch."""

    name: str
    keys: Mapping[str, Any]
    metrics: Sequence[str | Mapping[str, Any]]
    by_samples: bool = True
    note: str | None = None


def draft(guessed: Guess, rows: Sequence[Row], *, name: str, data: str) -> Draft:
    """The suite for a guess. Raises UserError for a column that no template can name."""
    plan = _PLANS[guessed.kind](guessed, rows)
    first = _name_of(plan.metrics[0])
    margin, notes = _margin(plan, first, len(rows))
    roles: dict[str, Any] = {}
    for metric in map(_name_of, plan.metrics):
        role: dict[str, Any] = {"required": True} if metric == first else {"advisory": True}
        floor = {"floor": _FLOORS[metric]} if metric in _FLOORS else {}
        roles[f"{plan.name}/{metric}"] = role | floor
    task = {"data": data, **plan.keys, "metrics": list(plan.metrics)}
    suite = {
        "name": name,
        "tasks": {plan.name: task},
        "gate": {"margin": margin, "metrics": roles},
    }
    written = yaml.dump(
        suite, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None,
        width=1000,
    )  # fmt: skip
    head = f"# {len(rows)} {KINDS[guessed.kind]}, as `ratchet init` read them. Edit it freely.\n"
    if plan.note:
        notes = (*notes, plan.note)
    return Draft(head + written, plan.name, first, margin, notes)


class _Dumper(yaml.SafeDumper):
    """YAML as a person writes it: templates, and texts of several lines, in double quotes."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    templated = "{" in text or "\n" in text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if templated else None)


_Dumper.add_representer(str, _text)


def _name_of(metric: str | Mapping[str, Any]) -> str:
    return metric if isinstance(metric, str) else next(iter(metric))


def carried_margin(n: int) -> float:
    """The least margin, a share, whose excess n samples show in four cases of five: for answers
    that are right or wrong, before anything was scored; 0.5 where even that is too little.
    """
    drop = smallest_distance(assumed_sd(1, 1, _LEVEL), n, _ALPHA) / _LEVEL
    return next((margin for margin in MARGINS if margin >= drop), MARGINS[-1])


def _margin(plan: _Plan, metric: str, n: int) -> tuple[float, tuple[str, ...]]:
    if not plan.by_samples:
        said = f"`ratchet calibrate` measures which drop {n} samples of {metric} show"
        return MARGINS[0], (f"the margin is the usual 5%; {said}",)
    margin = carried_margin(n)
    if margin == MARGINS[0]:
        return margin, (f"{n:,} samples carry the usual margin of 5%",)
    needed = samples_needed(assumed_sd(1, 1, _LEVEL), MARGINS[0] * _LEVEL, _ALPHA)
    carried = f"{n:,} samples carry a margin of {margin:.0%}"
    if margin == MARGINS[-1]:
        carried = f"{n:,} samples hardly carry any margin"
    return margin, (f"{carried}; one of 5% needs about {needed:,} (`ratchet calibrate` measures)",)


def _field(column: Column | None, wrap: str = "{}") -> str:
    assert column is not None
    if not column.name.isidentifier() or column.name in RESERVED:
        raise UserError(
            f"a template can't name the column {column.name!r}",
            hint="rename it to one word of letters, digits and underscores",
        )
    return "{{ " + wrap.format(column.name) + " }}"


def _question(guessed: Guess, asks: str = "") -> dict[str, Any]:
    text = _field(guessed.question)
    if guessed.more is not None:
        # A row may leave its context empty: Alpaca's `input` mostly is.
        text += f"{{% if {guessed.more.name} %}}\n\n{_field(guessed.more)}{{% endif %}}"
    return {"user": text + (f"\n\n{asks}" if asks else "")}


def _chinese(guessed: Guess) -> bool:
    return guessed.question is not None and guessed.question.languages[:1] == ("zh",)


def _tokens(longest: int) -> int:
    """Room for answers of that many characters, at a character a token and twice as long."""
    return max(_SHORT, min(1024, -(-2 * longest // 32) * 32))


def _longest(column: Column | None, rows: Sequence[Row]) -> int:
    texts = sorted(len(str(row.get(column.name) or "")) for row in rows) if column else [0]
    return texts[int(0.95 * (len(texts) - 1))]


def _words(guessed: Guess) -> list[str | Mapping[str, Any]]:
    """The metrics of an answer in sentences: how likely the good one stays, then its own words."""
    unit = "characters" if _chinese(guessed) else "tokens"
    return ["reference_nll", "rouge_l", "refusal", {"length": {"unit": unit}}]


def _chat(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    column = guessed.question
    assert column is not None
    first = next(row[column.name] for row in rows if row.get(column.name))
    if isinstance(first, str):
        raise UserError(
            f"the conversations of {column.name} are texts of JSON: no turn of them can be cut off",
            field="--question",
            hint="write the file as JSONL, with lists of turns",
        )
    said = "value" if "value" in first[-1] and "content" not in first[-1] else "content"
    return _Plan(
        "replies",
        {
            "prompt": {"messages": _field(column, "{}[:-1]")},
            "reference": _field(column, "{}[-1]." + said),
            "generate": {"max_new_tokens": _tokens(int(column.length)), "temperature": 0},
        },
        _words(guessed),
        by_samples=False,
    )


def _preference(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    chosen, rejected = guessed.answer, guessed.choices
    assert chosen is not None
    wrap = "{}[-1].content" if chosen.kind == "conversation" else "{}"
    asked = {"messages": _field(chosen, "{}[:-1]")} if chosen.kind == "conversation" else None
    if asked is None and guessed.question is None:
        raise UserError(
            "there is no column with the question of each pair",
            field="--question",
            hint="name it: --question COLUMN",
        )
    return _Plan(
        "pairs",
        {
            "prompt": asked or _question(guessed),
            "reference": [_field(chosen, wrap), _field(rejected, wrap)],
        },
        ["pair_accuracy"],
    )


def _choice(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    assert guessed.choices is not None
    assert guessed.answer is not None
    return _Plan(
        "choices",
        {"prompt": _question(guessed), "choices": guessed.choices.name},
        [{"multiple_choice": {"answer": guessed.answer.name}}],
    )


def _code(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    asks = "Write it in Python, and give the whole code in one code block."
    if _chinese(guessed):
        asks = "用 Python 编写，把完整的代码放在一个代码块里。"
    return _Plan(
        "problems",
        {
            "prompt": _question(guessed, asks),
            "generate": {"max_new_tokens": 1024, "temperature": 0},
        },
        ["code_tests"],
        note="the tests run in the sandbox: `ratchet doctor` says which one this machine has",
    )


def _label(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    column = guessed.answer
    assert column is not None
    reference = _field(column)
    try:
        labels = sorted({render(reference, {column.name: value}) for value in column.values})
    except TemplateError as error:
        raise UserError(f"the labels can't be read: {error}", field=column.name) from error
    if not labels:
        raise UserError(
            f"{column.distinct} different values are too many for labels",
            field=column.name,
            hint="at most 20; is it an answer? --kind answer",
        )
    asks = f"Answer with one of these and nothing else: {', '.join(labels)}"
    if _chinese(guessed):
        asks = f"只回答下面的一个：{'、'.join(labels)}"
    numbers = all(label.lstrip("-").isdigit() for label in labels)
    return _Plan(
        "labels",
        {
            "prompt": _question(guessed, asks),
            "reference": reference,
            "generate": {"max_new_tokens": _tokens(max(map(len, labels))), "temperature": 0},
        },
        ["accuracy", {"f1_macro": {"labels": labels}}],
        note="the labels are numbers: say in the prompt what each means" if numbers else None,
    )


def _number(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    marked = guessed.answer is not None and ends_in_mark(guessed.answer, rows)
    wrap = "{}.split('####')[-1].strip()" if marked else "{}"
    keys: dict[str, Any] = {
        "prompt": _question(guessed),
        "reference": _field(guessed.answer, wrap),
        "generate": {"max_new_tokens": 512, "temperature": 0},
    }
    if importlib.util.find_spec("math_verify") is not None:
        return _Plan("results", keys, ["math_equal", "reference_nll"])
    note = "`pip install 'ratchet-eval[math]'` brings math_equal, for which 1/2 is 0.5"
    last = {"answer": {"last_number": True}}
    return _Plan("results", keys | last, ["exact_match", "reference_nll"], note=note)


def _json(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    assert guessed.answer is not None
    wrap = "{} | tojson" if guessed.answer.kind == "object" else "{}"
    room = _tokens(_longest(guessed.answer, rows))
    asks = "只回答一个 JSON 对象。" if _chinese(guessed) else "Answer with one JSON object only."
    return _Plan(
        "objects",
        {
            "prompt": _question(guessed, asks),
            "reference": _field(guessed.answer, wrap),
            "generate": {"max_new_tokens": room, "temperature": 0},
        },
        ["json_match", "json_valid", "json_fields"],
    )


def _answer(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    return _Plan(
        "answers",
        {
            "prompt": _question(guessed),
            "reference": _field(guessed.answer),
            "generate": {"max_new_tokens": 64, "temperature": 0},
        },
        ["contains", "token_f1", "reference_nll"],
    )


def _sentences(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    room = _tokens(_longest(guessed.answer, rows))
    return _Plan(
        "answers",
        {
            "prompt": _question(guessed),
            "reference": _field(guessed.answer),
            "generate": {"max_new_tokens": room, "temperature": 0},
        },
        _words(guessed),
        by_samples=False,
    )


def _prompt(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    column = guessed.question
    assert column is not None
    talk = column.kind == "conversation"
    return _Plan(
        "replies",
        {
            "prompt": {"messages": _field(column)} if talk else _question(guessed),
            "generate": {"max_new_tokens": _LONG, "temperature": 0},
        },
        ["refusal", *_words(guessed)[3:]],
        by_samples=False,
        note="without right answers only refusals count; `elo`, `judge` or `rubric` grade replies",
    )


def _passage(guessed: Guess, rows: Sequence[Row]) -> _Plan:
    return _Plan("passages", {"text": _field(guessed.question)}, ["perplexity"], by_samples=False)


_PLANS: Mapping[str, Callable[[Guess, Sequence[Row]], _Plan]] = {
    "chat": _chat,
    "preference": _preference,
    "choice": _choice,
    "code": _code,
    "label": _label,
    "number": _number,
    "json": _json,
    "answer": _answer,
    "text": _sentences,
    "prompt": _prompt,
    "passage": _passage,
}
