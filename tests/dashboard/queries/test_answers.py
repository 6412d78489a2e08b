"""Answers compared without labels: lengths, refusals, language and wording."""

from __future__ import annotations

import pytest

from dashboard.queries import answers as outputs
from dashboard.queries import history as queries
from dashboard.queries.change_points import text_distance
from harness.store.store import Store


def test_outputs_are_read_without_labels(demo: Store) -> None:
    ids = [row["run_id"] for row in queries.runs_of(demo, "demo-support", queries.OUTSIDE)]
    found = outputs.lengths(demo, ids, "replies")
    assert set(found) == set(ids)
    texts = outputs.texts(demo, ids, "replies")
    assert len(texts[ids[0]]) == 96
    worded = outputs.wordings(demo, ids[1:], ids[0], "replies")
    assert set(worded) == set(ids)
    wording = worded[ids[0]]
    assert wording["wording"].value == 0
    apart = text_distance(texts[ids[1]], texts[ids[0]])
    assert worded[ids[1]]["wording"].value == pytest.approx(apart)
    assert 0.4 < wording["Chinese"].value < 0.6
