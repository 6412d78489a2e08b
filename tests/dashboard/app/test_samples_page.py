"""The list of samples and one of them in full: filters, steps, slices, search, what differs."""

from __future__ import annotations

import pytest

from dashboard.queries import history
from dashboard.queries.sample_diff import Filters, pairs, slice_of, slices, task_digest
from harness.core.text_diff import diff
from harness.store.store import Store
from tests.dashboard.app.stories import opened, text_of

METRIC = "intents/json_match"


def _two(store: Store) -> tuple[str, str]:
    rows = store.query(
        "SELECT anchor_run, candidate_run FROM verdicts WHERE outcome = 'fail' LIMIT 1"
    )
    return rows[0]["anchor_run"], rows[0]["candidate_run"]


def test_the_spoiled_step_is_seen_sample_by_sample(demo: Store) -> None:
    a, b = _two(demo)
    app = opened("samples", a=a, b=b, metric=METRIC)
    (listed,) = [frame.value for frame in app.dataframe]
    assert set(listed["kind"]) == {"▼"}
    assert listed[" "].tolist()[0] == "▸"
    said = "\n".join(str(block.proto.body) for block in app.get("html"))
    assert "<mark" in said
    assert "something went wrong" in said
    first = listed["sample"][0]
    app.button(key="step.j").click().run()
    (listed,) = [frame.value for frame in app.dataframe]
    assert listed[" "].tolist()[:2] == ["", "▸"]
    assert f"**▼ regressed · {listed['sample'][1]}**" in text_of(app)
    app.button(key="step.k").click().run()
    assert first in text_of(app)


def test_filters_narrow_the_list(demo: Store) -> None:
    a, b = _two(demo)
    run = history.run(demo, b)
    assert run is not None
    digest, says = task_digest(run, "intents"), history.declared(run)[METRIC]
    parts = slices(demo, digest)
    assert [(row["part"], row["value"], row["samples"]) for row in parts] == [
        ("language", "en", 100),
        ("language", "zh", 100),
    ]
    every = pairs(demo, a, b, METRIC, says, digest)
    chinese = pairs(demo, a, b, METRIC, says, digest, Filters(slice=("language", "zh")))
    assert 0 < chinese[0]["total"] < every[0]["total"] == 200
    assert {row["language"] for row in chinese} == {"zh"}
    text = "北京"
    found = pairs(demo, a, b, METRIC, says, digest, Filters(text=text))
    assert 0 < found[0]["total"] < 100
    assert not pairs(demo, a, b, METRIC, says, digest, Filters(text="no such words"))
    assert not pairs(demo, a, b, METRIC, says, digest, Filters(text="%"))
    gains = [row["gain"] for row in every]
    assert gains == sorted(gains), "what lost most comes first"
    app = opened("samples", a=a, b=b, metric=METRIC, kind="all", slice="language:zh", find=text)
    (listed,) = [frame.value for frame in app.dataframe]
    assert set(listed["slice"]) == {"zh"}


def test_a_sample_is_an_address(demo: Store) -> None:
    a, b = _two(demo)
    app = opened("samples", a=a, b=b, metric=METRIC, kind="all", sample="intent-150")
    assert "intent-150" in text_of(app)
    gone = opened("samples", a=a, b=b, metric=METRIC, sample="intent-999")
    assert "intent-999" in str(gone.warning[0].value).replace("\\", "")
    assert not gone.get("html") or all("<mark" not in b.proto.body for b in gone.get("html"))


@pytest.mark.parametrize(
    ("ours", "theirs", "marked"),
    [
        ("the red fox", "the grey fox", (["red"], ["grey"])),
        ("同样的话", "同样的画", (["话"], ["画"])),
        (
            '{"city": "Oslo", "n": 1}',
            '{"n": 1, "city": "Lima"}',
            (['"city": "Oslo"'], ['"city": "Lima"']),
        ),
        ("same", "same", ([], [])),
        ("", "new", ([], ["new"])),
        ('{"a": 1}', '{"a": 1, "b": [1, {"c": 2}]}', ([], ['"b": [1, {"c": 2}]'])),
        ("{}", '{"a": 1}', ([], ['"a": 1'])),
    ],
)
def test_what_differs_is_marked(
    ours: str, theirs: str, marked: tuple[list[str], list[str]]
) -> None:
    for parts, text, wanted in zip(diff(ours, theirs), (ours, theirs), marked, strict=True):
        assert "".join(part for part, _ in parts) == text
        assert [part.strip() for part, differs in parts if differs] == wanted


def test_any_two_texts_are_still_what_they_were() -> None:
    import random

    rng = random.Random(7)
    alphabet = '{}":,[] \n\tab一二\\0𝔸'
    for _ in range(400):
        texts = ["".join(rng.choices(alphabet, k=rng.randrange(40))) for _ in range(2)]
        for parts, text in zip(diff(*texts), texts, strict=True):
            assert "".join(part for part, _ in parts) == text


def test_long_hostile_texts_are_compared_soon_enough() -> None:
    """No test of time: a comparison that grows with the square would not end here."""
    one, other = "<img src=x>\n\n" * 3_000, "a b " * 20_000
    for parts, text in zip(diff(one, other), (one, other), strict=True):
        assert "".join(part for part, _ in parts) == text


def test_a_slice_that_no_list_offers_is_still_an_address(demo: Store) -> None:
    a, b = _two(demo)
    run = history.run(demo, b)
    assert run is not None
    digest = task_digest(run, "intents")
    assert slice_of(demo, digest, "language", "zh") == {
        "part": "language", "value": "zh", "samples": 100
    }  # fmt: skip
    assert slice_of(demo, digest, "language", "xx") is None
    assert slice_of(demo, digest, "1=1 --", "zh") is None
    gone = opened("samples", a=a, b=b, metric=METRIC, slice="language:xx")
    assert "language:xx" in str(gone.warning[0].value).replace("\\", "")
