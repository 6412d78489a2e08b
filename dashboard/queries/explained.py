"""Why a verdict came out as it did, from what is stored: the questions of one page."""

from __future__ import annotations

from harness.comparison.lost_words import LostWords as LostWords
from harness.comparison.lost_words import lost_words
from harness.comparison.mistakes import Change, kinds_between
from harness.comparison.taught_rows import TaughtRows, taught_rows
from harness.comparison.where import Fell, fell
from harness.store.store import Store


def where(store: Store, verdict_id: str) -> list[Fell]:
    return fell(store, verdict_id)


def kinds(store: Store, verdict_id: str) -> list[Change]:
    return kinds_between(store, verdict_id)


def words(store: Store, verdict_id: str) -> LostWords:
    return lost_words(store, store.workspace, verdict_id)


def taught(store: Store, verdict_id: str) -> TaughtRows | None:
    return taught_rows(store, store.workspace, verdict_id)
