"""Answers compared without labels: lengths, refusals, language and wording."""

from __future__ import annotations

import pytest

from dashboard.queries import answers, history
from dashboard.queries.change_points import distance, trigrams
from harness.store.store import Store


def test_outputs_are_read_without_labels(demo: Store) -> None:
    ids = [row["run_id"] for row in history.runs_of(demo, "demo-support", history.OUTSIDE)]
    found = answers.lengths(demo, ids, "replies")
    assert set(found) == set(ids)
    texts = answers.texts(demo, ids, "replies")
    assert len(texts[ids[0]]) == 96
    worded = answers.wordings(demo, ids[1:], ids[0], "replies")
    assert set(worded) == set(ids)
    wording = worded[ids[0]]
    assert wording["wording"].value == 0
    apart = distance(trigrams(texts[ids[1]]), trigrams(texts[ids[0]]))
    assert worded[ids[1]]["wording"].value == pytest.approx(apart)
    assert 0.4 < wording["Chinese"].value < 0.6
