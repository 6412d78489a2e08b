"""Published rules of prose, in English and Chinese."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainers.data.pipelines import built

PROSE = (
    "The tide had gone out before dawn, and with it the boats that have lain in the harbour.",
    "潮水在天亮以前就退了，停在港里的船也都跟着出去了，岸上一个人也没有，只听得见风的声音。",
    "Der Zug nach Köln fährt heute später ab, weil ein Baum auf die Gleise gefallen ist.",
)
FAULTS = {
    "words of unusual length": "a b c d e f g h i j k l m n o p",
    "too many # or …": "yellow # orange # purple # silver",
    "nearly all lines are bullets": "- apples are red\n- pears are green\n- plums are blue",
    "lines that break off": "The man of whom she spoke said that…\nand all others came home",
    "words without a letter": "+++ 123 456 === 789 word",
    "none of a language's commonest words": "cheap shoes buy online store now " * 10,
    "repeated lines": "the same line again\nthe same line again\nthe same line again\nand one",
    "nearly all lines are short": "\n".join(f"Number {n} of the lines that." for n in range(12)),
}


def test_prose_is_kept(tmp_path: Path) -> None:
    rows = [{"text": text} for text in PROSE]
    assert len(built(tmp_path, ["quality"], rows=rows).rows) == 3


@pytest.mark.parametrize("reason", FAULTS)
def test_each_rule_has_its_reason(tmp_path: Path, reason: str) -> None:
    rows = [{"text": PROSE[0]}, {"text": FAULTS[reason]}]
    (drop,) = built(tmp_path, ["quality"], rows=rows).drops
    assert (drop.placed.line, drop.reason) == (2, reason)


def test_chinese_of_no_language_is_dropped(tmp_path: Path) -> None:
    rows = [{"text": PROSE[1]}, {"text": "鞋帽箱包特价批发" * 8}]
    (drop,) = built(tmp_path, ["quality"], rows=rows).drops
    assert drop.reason == "none of a language's commonest words"
