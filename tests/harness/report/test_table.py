"""What stands at a terminal: names whole, lines within the width, what decides first."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType

from harness.gate.decision import decide
from harness.gate.metric_scores import MetricScores
from harness.gate.policy import GatePolicy, MetricPolicy
from harness.gate.verdict import Verdict
from harness.report.console import verdict_table, verdict_view
from harness.report.document import from_json, to_json
from harness.report.table import FittedTable, Flowed, shortened

LONG = "customer-intents-zh/json_match[language=zh-Hant]"
WIDTHS = (60, 80, 120)

parts = st.text("abcdefgxyz0189-_意图识别精确匹配准", min_size=1, max_size=24).filter(str.strip)
names = st.builds(
    lambda task, metric, label: f"{task}/{metric}" + (f"[{label}]" if label else ""),
    parts,
    parts,
    st.one_of(st.just(""), parts),
)
WORD = re.compile(r"[a-z0-9]+|.")


def drawn(what: RenderableType, width: int = 80) -> list[str]:
    """The lines that a terminal of that width, or a pipe, gets, without colors."""
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=False).print(what)
    return file.getvalue().splitlines()


def words(text: str) -> list[str]:
    return WORD.findall(text)


def stands_whole(name: str, line: str) -> bool:
    """Whether the line begins with the name, or with whole words of its two ends around a `…`."""
    if line.startswith(name):
        return True
    head, dots, rest = line.partition("…")
    tail = rest.split("  ")[0].rstrip()
    own = words(name)
    ends = own[: len(words(head))] == words(head) and own[len(own) - len(words(tail)) :]
    return bool(dots) and ends == words(tail)


def made(metrics: list[str], advisory: int = 0, values: float = 0.7) -> Verdict:
    """A verdict of required metrics and some advisory ones, nothing having changed."""
    more = [f"extra/metric_{i}" for i in range(advisory)]
    scores = MetricScores({f"s{i}": float(i < 60 * values) for i in range(60)}, worst=0.0)
    run = dict.fromkeys([*metrics, *more], scores)
    rules = {name: MetricPolicy(advisory=True) for name in more}
    rules |= {name: MetricPolicy(required=True) for name in metrics}
    return decide(run, run, GatePolicy(metrics=rules))


SHAPE = made(["quiz/match"]).rows[0]


@settings(max_examples=60, deadline=None)
@given(st.lists(names, min_size=1, max_size=5, unique=True), st.sampled_from(WIDTHS))
def test_a_name_is_never_broken_and_no_line_too_long(metrics: list[str], width: int) -> None:
    rows = tuple(replace(SHAPE, metric=name) for name in metrics)
    verdict = Verdict(outcome=SHAPE.outcome, rows=rows)
    lines = drawn(verdict_table(verdict), width)
    assert all(cell_len(line) <= width for line in lines)
    at = 0
    for name in metrics:
        at = next(i for i in range(at, len(lines)) if stands_whole(name, lines[i])) + 1
    assert sum("inconclusive" in line for line in lines) == len(metrics)


@settings(max_examples=100, deadline=None)
@given(names, st.integers(25, 120))
def test_a_shortened_name_keeps_whole_words_of_both_ends(name: str, width: int) -> None:
    short = shortened(name, width)
    assert cell_len(short) <= width
    assert stands_whole(name, short)
    assert (short == name) == (cell_len(name) <= width)


@settings(max_examples=60, deadline=None)
@given(st.lists(names, min_size=1, max_size=8), st.sampled_from((30, *WIDTHS)))
def test_a_list_breaks_between_its_items(items: list[str], width: int) -> None:
    lines = drawn(Flowed(items, ", ", first="  required:", indent=4), width)
    assert all(cell_len(line) <= width for line in lines)
    said = [item for line in lines for item in line.removeprefix("  required:").split(",")]
    assert [item.strip() for item in said if item.strip()] == [
        shortened(item, width - 4 - (1 if i < len(items) - 1 else 0))
        for i, item in enumerate(items)
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_numbers_stand_under_each_other_beside_chinese_names_too(width: int) -> None:
    lines = drawn(verdict_table(made(["意图/匹配", "intents/match", LONG])), width)
    cells = [line for line in lines if "inconclusive" in line]
    places = {cell_len(line[: line.index("inconclusive")]) for line in cells}
    assert len(cells) == 3
    assert len(places) == 1
    assert LONG in lines or any(line.startswith(f"{LONG} ") for line in lines)


def test_a_terminal_too_narrow_for_the_columns_names_each_cell() -> None:
    lines = drawn(verdict_table(made(["quiz/match"])), 40)
    assert lines[0] == "quiz/match"
    assert lines[1].startswith("  anchor 0.700 · candidate 0.700")
    assert all(cell_len(line) <= 40 for line in lines)


@pytest.mark.parametrize("advisory", [0, 1, 40])
def test_advisory_metrics_fold_into_one_line(advisory: int) -> None:
    verdict = made(["quiz/match"], advisory)
    lines = drawn(verdict_view(verdict, more="--all shows them"))
    folded = [line for line in lines if "advisory" in line]
    some = "1 advisory metric" if advisory == 1 else f"{advisory} advisory metrics"
    assert folded == ([f"{some}: no change to see; --all shows them"] if advisory else [])
    assert not any("extra/" in line for line in lines)
    everything = drawn(verdict_view(verdict, everything=True))
    assert sum(line.startswith("extra/metric_") for line in everything) == advisory


def test_the_folded_line_says_which_way_they_moved() -> None:
    run = made(["quiz/match"], 3)
    rows = list(run.rows)
    rows[1] = replace(rows[1], measured=replace(rows[1].measured, interval=(0.1, 0.2)))
    fell = replace(rows[2].measured, interval=(0.1, 0.2), direction="lower")
    rows[2] = replace(rows[2], measured=fell)
    lines = drawn(verdict_table(replace(run, rows=tuple(rows))))
    assert lines[-1] == "3 advisory metrics: 1 worse, 1 better, 1 no change to see"


def test_where_all_are_advisory_all_are_shown() -> None:
    verdict = made([], 3)
    assert sum("extra/metric_" in line for line in drawn(verdict_table(verdict))) == 3


def test_what_failed_stands_first_and_the_json_has_the_same_order() -> None:
    good = MetricScores({f"s{i}": float(i < 42) for i in range(60)}, worst=0.0)
    bad = MetricScores(dict.fromkeys(good.values, 0.0), worst=0.0)
    metrics = ["a/extra", "b/watched", "c/fine", "d/fallen"]
    rules = {
        "a/extra": MetricPolicy(advisory=True),
        "c/fine": MetricPolicy(required=True),
        "d/fallen": MetricPolicy(required=True),
    }
    runs = dict.fromkeys(metrics, good)
    verdict = decide(runs, {**runs, "d/fallen": bad}, GatePolicy(metrics=rules))
    lines = drawn(verdict_table(verdict, everything=True))
    shown = [line.split()[0] for line in lines if "/" in line.split()[0]]
    assert shown == ["d/fallen", "c/fine", "b/watched", "a/extra"]
    rows = json.loads(to_json(verdict))["rows"]
    assert [row["metric"] for row in rows] == metrics
    assert [row["metric"] for row in sorted(rows, key=lambda row: row["order"])] == shown
    assert [row["metric"] for row in rows if row["folded"]] == ["a/extra"]
    assert from_json(to_json(verdict)) == verdict


def test_every_kind_of_row_differs_without_colors() -> None:
    verdict = made(["quiz/match"], 1)
    watched = replace(SHAPE, metric="quiz/length", role="watched")
    lines = drawn(verdict_table(replace(verdict, rows=(*verdict.rows, watched)), everything=True))
    at = {line.split()[0].rstrip(":"): i for i, line in enumerate(lines)}
    assert at["quiz/match"] < at["watched"] < at["quiz/length"] < at["advisory"]
    assert lines[at["extra/metric_0"]].endswith("(inconclusive)")


def test_an_empty_table_is_its_titles() -> None:
    assert drawn(FittedTable(("metric", "value"))) == ["metric  value"]
