"""The data plan: decided up front, weights kept, a dropped segment leaves the head as it was."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import UserError
from tests.trainers.method_builders import write_method_world
from tests.trainers.recipe_builders import write_world
from trainers.config.data_plan import make_plan, reshuffled
from trainers.config.load import load_recipe
from trainers.config.recipe import Stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("plan")
    return load_recipe(write_world(folder, Path("nowhere"))).stages[0]


def edited(folder: Path, **data: object) -> Path:
    path = write_world(folder, Path("nowhere"))
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["data"].update(data)
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_a_plan_is_the_same_each_time(stage: Stage) -> None:
    assert make_plan(stage, spare=2) == make_plan(stage, spare=2)
    assert make_plan(stage, spare=2).digest != make_plan(stage, spare=3).digest


def test_a_source_takes_part_in_its_segments_alone(stage: Stage) -> None:
    plan = make_plan(stage, spare=3)
    rubbish = [sum(stage.examples[i].source == 1 for i in segment) for segment in plan.segments]
    assert rubbish[2] == 12
    assert [n for i, n in enumerate(rubbish) if i != 2] == [0] * 6


def test_every_row_is_used_once_before_any_is_used_again(stage: Stage) -> None:
    plan = make_plan(stage, spare=0)
    used = Counter(i for s in plan.segments for i in s if stage.examples[i].source == 0)
    rows = sum(example.source == 0 for example in stage.examples)
    assert len(used) == rows
    assert set(used.values()) <= {1, 2}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dropped=st.sets(st.integers(1, 7), max_size=3))
def test_dropping_keeps_the_length_and_the_head(stage: Stage, dropped: set[int]) -> None:
    plan = make_plan(stage, spare=3)
    whole, left = plan.indices(), plan.indices(dropped)
    assert len(left) == len(whole) == 48
    head = 12 * (min(dropped, default=8) - 1)
    assert left[:head] == whole[:head]
    assert not set(plan.consumed(dropped)) & dropped


def test_reshuffling_moves_the_tail_alone(stage: Stage) -> None:
    plan = make_plan(stage, spare=1)
    again = reshuffled(plan, after=2, seed=9)
    assert again.segments[:2] == plan.segments[:2]
    assert again.segments[2:] != plan.segments[2:]
    assert Counter(i for s in again.segments for i in s) == Counter(
        i for s in plan.segments for i in s
    )


def test_weights_are_kept_in_every_segment(tmp_path: Path) -> None:
    mix = [
        {"source": "good.jsonl", "weight": 3, "text": "{{ text }}"},
        {"source": "rubbish.jsonl", "weight": 1, "text": "{{ text }}"},
    ]
    loaded = load_recipe(edited(tmp_path, mix=mix))
    for segment in make_plan(loaded.stages[0], spare=1).segments:
        assert Counter(loaded.stages[0].examples[i].source for i in segment) == {0: 9, 1: 3}


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ([{"source": "good.jsonl", "weight": 1}], "either `prompt`"),
        ([{"source": "none.jsonl", "weight": 1, "text": "{{ text }}"}], "not there"),
        ([{"source": "good.jsonl", "weight": 1, "text": "{{ body }}"}], "'body' is undefined"),
        (
            [{"source": "good.jsonl", "weight": 1, "text": "{{ text }}", "segments": [9]}],
            "none is number 9",
        ),
        (
            [{"source": "good.jsonl", "weight": 1, "text": "{{ text }}", "segments": [1]}],
            "every segment",
        ),
        ([{"source": "good.jsonl", "weight": 0, "text": "{{ text }}"}], "greater than 0"),
        ([], "this list is empty"),
    ],
)
def test_data_that_cannot_be_planned_is_refused(
    tmp_path: Path, mix: list[dict[str, object]], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        load_recipe(edited(tmp_path, mix=mix))


def test_steps_must_end_on_a_checkpoint(tmp_path: Path) -> None:
    path = write_world(tmp_path, Path("nowhere"))
    path.write_text(path.read_text(encoding="utf-8").replace("steps: 12", "steps: 13"), "utf-8")
    with pytest.raises(UserError, match="multiple of checkpoint_every") as caught:
        load_recipe(path)
    assert caught.value.line is not None


def test_a_curriculum_goes_from_easy_to_hard(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, Path("nowhere"), "sft", stage={"steps": 12})
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["data"]["curriculum"] = {"by": "rank", "start": 0.2, "full_at": 1.0}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    stage = load_recipe(path).stages[0]
    segments = make_plan(stage, spare=0).segments
    ranks = [[stage.examples[i].columns["rank"] for i in segment] for segment in segments]
    assert max(ranks[0]) < len(stage.examples) / 2
    assert sum(ranks[0]) < sum(ranks[-1])


def test_a_curriculum_is_paced_over_what_is_planned(tmp_path: Path) -> None:
    """However many spare segments stand ready, and in however few segments a source takes part, the
    hardest rows have come by the end."""
    path = write_method_world(
        tmp_path, Path("nowhere"), "sft", stage={"steps": 12, "checkpoint_every": 3}
    )
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["data"]["curriculum"] = {"by": "rank", "start": 0.1, "full_at": 0.5}
    [source] = raw["data"]["mix"]
    raw["data"]["mix"] = [source, {**source, "segments": [3, 4], "weight": 0.1}]
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    stage = load_recipe(path).stages[0]
    few, many = make_plan(stage, spare=0), make_plan(stage, spare=9)
    assert few.segments == many.segments[: few.planned]
    size = len(stage.examples) // 2
    for number in (0, 1):
        drawn = [i for i in few.indices() if stage.examples[i].source == number]
        ranked = sorted(stage.examples[i].columns["rank"] for i in drawn[len(drawn) // 2 :])
        hardest = sorted(e.columns["rank"] for e in stage.examples if e.source == number)
        assert ranked[-1] > hardest[size // 2]


def test_rare_values_come_as_often_as_common_ones(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, Path("nowhere"), "sft", stage={"steps": 24})
    rows = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text("utf-8").splitlines()]
    lines = [
        json.dumps({**row, "kind": "rare" if i < 4 else "common"}) for i, row in enumerate(rows)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["data"]["balance"] = "kind"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    stage = load_recipe(path).stages[0]
    drawn = [stage.examples[i].columns["kind"] for i in make_plan(stage, spare=0).indices()]
    assert drawn.count("rare") == pytest.approx(len(drawn) / 2, abs=4)


def test_a_curriculum_by_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = write_method_world(tmp_path, Path("nowhere"), "sft")
    raw = yaml.safe_load(path.read_text("utf-8"))
    raw["data"]["curriculum"] = {"by": "hardness"}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(UserError, match="no finite number in 'hardness'"):
        load_recipe(path)
