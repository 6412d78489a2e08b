"""Passages are found by words, in Chinese by pairs of characters; equal ones keep their order."""

from __future__ import annotations

import importlib.util

import pytest

from harness.core.errors import UserError
from harness.data.bm25 import Index, Passage, terms

pytest.importorskip("bm25s")


def index(*texts: str) -> Index:
    return Index([Passage(str(number), text) for number, text in enumerate(texts, 1)])


def found(passages: Index, question: str, k: int = 3) -> list[str]:
    return [one.id for one in passages.find(question, k)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("The Tea-shop, 24 m", ["the", "tea", "shop", "24", "m"]),
        ("茶叶店", ["茶叶", "叶店"]),
        ("茶", ["茶"]),
        ("QF-40型电饭煲，好", ["qf", "40", "型电", "电饭", "饭煲", "好"]),
        ("Ｔｅａ とうきょう", ["tea", "とう", "うき", "きょ", "ょう"]),
        ("…", []),
    ],
)
def test_the_terms_of_a_text(text: str, wanted: list[str]) -> None:
    assert terms(text) == wanted


def test_the_passage_with_rarer_and_more_terms_comes_first() -> None:
    passages = index("the tea house", "the coffee house", "the tea house sells green tea", "a boat")
    assert found(passages, "green tea") == ["3", "1"]
    assert found(passages, "green tea", k=1) == ["3"]


def test_chinese_is_found_without_spaces() -> None:
    passages = index("茶叶要放在干燥的地方。", "石桥建在河的上游。", "河边的茶馆每天开门。")
    assert found(passages, "茶馆几点开门？") == ["3"]
    assert found(passages, "石桥") == ["2"]


def test_equal_passages_keep_their_order_and_others_are_not_found() -> None:
    passages = index("b", "a", "a", "a")
    assert found(passages, "a", k=2) == ["2", "3"]
    assert found(passages, "zebra") == found(passages, "?") == found(index("…"), "a") == []


def test_a_rare_term_weighs_more_than_a_common_one_said_twice() -> None:
    passages = index("tea tea", "tea quince", "tea boat", "tea", "a longer text of tea and quince")
    assert found(passages, "quince tea", k=2) == ["2", "5"]


def test_without_bm25s_one_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match="bm25s is not installed") as raised:
        index("a")
    assert raised.value.hint == "pip install 'ratchet-eval[rag]'"
