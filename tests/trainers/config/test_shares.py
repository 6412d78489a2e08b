"""A source's share holds over the training, through segments and rollbacks; none vanishes."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.recipe_builders import write_world
from trainers.config.data_plan import DataPlan, current_order, make_plan, shares_of
from trainers.config.load import load_recipe
from trainers.config.recipe import Stage
from trainers.config.shares import shared_out

weights = st.lists(
    st.one_of(st.integers(1, 99), st.floats(0.001, 1.0)).map(Fraction), min_size=1, max_size=6
)


def asked_of(parts: list[Fraction], rows: int, segments: int) -> list[tuple[Fraction, ...]]:
    return [tuple(part / sum(parts) * rows for part in parts)] * segments


@given(weights, st.integers(1, 40), st.integers(1, 30), st.lists(st.integers(1, 30), max_size=3))
@settings(max_examples=150, deadline=None)
def test_shares_are_carried_over(
    parts: list[Fraction], rows: int, segments: int, dropped: list[int]
) -> None:
    total = segments + 3
    gone = list(dict.fromkeys(number for number in dropped if number <= segments))
    asked = asked_of(parts, rows, total)
    counts = shared_out(asked, rows, planned=segments, dropped=gone)
    assert [sum(segment) for segment in counts] == [rows] * total
    learned = [i for i in range(total) if i + 1 not in gone][:segments]
    got = [sum(counts[i][n] for i in learned) for n in range(len(parts))]
    wanted = [sum(asked[i][n] for i in learned) for n in range(len(parts))]
    if min(wanted) >= 1:
        assert all(abs(g - w) < 1 for g, w in zip(got, wanted, strict=True))
    if segments * rows >= 2 * len(parts):
        assert min(got) >= 1


@given(weights, st.integers(1, 20), st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_what_stood_before_a_dropped_segment_stays(
    parts: list[Fraction], rows: int, dropped: list[int]
) -> None:
    gone = list(dict.fromkeys(dropped))
    asked = asked_of(parts, rows, 16)
    before = shared_out(asked, rows, planned=12, dropped=gone[:-1])
    after = shared_out(asked, rows, planned=12, dropped=gone)
    assert after[: max(gone)] == before[: max(gone)]


def staged(folder: Path, parts: dict[str, float], *, steps: int, every: int) -> Stage:
    path = write_world(folder, Path("nowhere"))
    raw = yaml.safe_load(path.read_text("utf-8"))
    for name in parts:
        lines = "".join(
            json.dumps({"id": f"{name}{i}", "text": f"{name} {i}"}) + "\n" for i in range(40)
        )
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    raw["data"]["mix"] = [
        {"source": f"{name}.jsonl", "weight": weight, "text": "{{ text }}"}
        for name, weight in parts.items()
    ]
    raw["stages"][0].update(steps=steps, checkpoint_every=every)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load_recipe(path).stages[0]


@pytest.mark.parametrize(
    ("parts", "steps", "every", "wanted"),
    [
        ({"a": 99, "b": 1}, 300, 3, [1188, 12]),
        ({"a": 0.99, "b": 0.01}, 100, 1, [396, 4]),
        ({"a": 1000, "b": 1}, 12, 3, [47, 1]),
        ({"a": 1, "b": 1}, 9, 9, [18, 18]),
        ({"a": 1, "b": 1, "c": 1}, 4, 1, [5, 5, 6]),
        ({"a": 7, "b": 2, "c": 1}, 20, 1, [56, 16, 8]),
        ({"a": 3}, 3, 1, [12]),
        ({"a": 98, "b": 1, "c": 1}, 50, 1, [196, 2, 2]),
        ({"a": 1e-9, "b": 1}, 12, 1, [1, 47]),
        ({"a": 0.333, "b": 0.667}, 100, 1, [133, 267]),
    ],
)
def test_a_source_comes_as_often_as_it_is_asked_for(
    tmp_path: Path, parts: dict[str, float], steps: int, every: int, wanted: list[int]
) -> None:
    stage = staged(tmp_path, parts, steps=steps, every=every)
    plan = make_plan(stage, spare=2)
    got = [sum(stage.examples[i].source == n for i in plan.indices()) for n in range(len(parts))]
    assert sorted(got) == sorted(wanted)
    assert all(abs(g - w) <= 1 for g, w in zip(got, wanted, strict=True))
    for (asked, share), weight, n in zip(shares_of(stage, plan), parts.values(), got, strict=True):
        assert asked == pytest.approx(weight / sum(parts.values()))
        assert share == n / sum(got)


def replay(stage: Stage, rows: list[int]) -> int:
    return sum(stage.examples[row].source == 1 for row in rows)


def test_rollbacks_make_up_for_the_replay_that_they_left_out(tmp_path: Path) -> None:
    stage = staged(tmp_path, {"a": 95, "b": 5}, steps=20, every=1)
    plan = make_plan(stage, spare=3)
    with_replay = [
        number
        for number, segment in enumerate(plan.segments, start=1)
        if replay(stage, list(segment)) and number <= plan.planned
    ]
    assert len(with_replay) == 4
    for gone in (with_replay[:1], with_replay[:3], list(reversed(with_replay[:3]))):
        order = current_order(plan, gone, ())
        assert len(order) == len(plan.indices())
        assert replay(stage, order) == 4
        head = 4 * (min(gone) - 1)
        assert order[:head] == plan.indices()[:head]


def test_a_reshuffle_keeps_what_every_segment_has_of_each_source(tmp_path: Path) -> None:
    stage = staged(tmp_path, {"a": 9, "b": 1}, steps=20, every=2)
    plan = make_plan(stage, spare=2)
    assert plan.again is not None
    again = plan.again((), ((3, 11),))
    assert again.segments[:3] == plan.segments[:3]
    assert again.segments[3:] != plan.segments[3:]
    of = [[replay(stage, list(s)) for s in each.segments] for each in (plan, again)]
    assert of[0] == of[1]


def test_the_head_stands_through_remedies_one_after_the_other(tmp_path: Path) -> None:
    stage = staged(tmp_path, {"a": 9, "b": 1}, steps=20, every=2)
    plan = make_plan(stage, spare=4)
    first = current_order(plan, [5], ())
    second = current_order(plan, [5], [(6, 3)])
    third = current_order(plan, [5, 8], [(6, 3)])
    rows = 8
    assert first[: 5 * rows] == second[: 5 * rows]  # five segments learned: 1 to 4, and 6
    assert second[: 6 * rows] == third[: 6 * rows]  # 7 too; 8 is left out
    assert len(first) == len(second) == len(third)


def test_the_first_way_to_plan_is_still_there(tmp_path: Path) -> None:
    """Golden values of the code before version 2: trainings begun then go on with this plan."""
    stage = staged(tmp_path, {"a": 99, "b": 1}, steps=12, every=3)
    old = make_plan(stage, spare=2, version=1)
    assert old.again is None
    assert [replay(stage, list(segment)) for segment in old.segments] == [0] * 6
    assert isinstance(make_plan(stage, spare=2), DataPlan)
    assert old.digest == "c06ef56aa813d42e"
