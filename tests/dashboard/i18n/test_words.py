"""The Chinese says what the English says, in the words of docs/glossary.md and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dashboard.i18n.zh import SENTENCES
from dashboard.i18n.zh_errors import ERRORS, chinese
from harness.comparison.line_words import Sentence
from harness.report.zh_line import STATE, in_words
from tests.docs.test_glossary import MEANINGS

ROOT = Path(__file__).parents[3]
TERMS = {
    word: said.removeprefix("已")
    for words, (named, _) in MEANINGS.items()
    for word, said in zip(words.split(", "), named.split("、"), strict=True)
    if word != "word"
} | {"vote": "票"}

NO_NOUN = re.compile(
    r"command line|(?:dashed|red|blue) line|a line for the file|canary runs|dry run|prior holds|"
    r"interval holds|look →|^look$|look closer|whose word|run it again|no locks|alpha \{alpha\}",
    re.IGNORECASE,
)
"""Where a word is something else than the noun of the glossary."""

RETIRED = re.compile(
    "监视|产品线|登记册|锚点|裸规则|搁置|定夺|八成能|两两中位数|行胜列|没有询问过|越权"
)
SHOWN_IN_CHINESE = [
    *sorted((ROOT / "dashboard").rglob("*.py")),
    *sorted((ROOT / "harness").rglob("zh_*.py")),
    ROOT / "docs" / "glossary.md",
    *sorted(ROOT.glob("*.zh.md")),
    *sorted((ROOT / "docs").glob("*.zh.md")),
]
HAN = "\u4e00-\u9fff"


@pytest.mark.parametrize("table", [SENTENCES, ERRORS], ids=["pages", "errors"])
def test_both_languages_use_the_words_of_the_glossary(table: dict[str, str]) -> None:
    wrong = []
    for english, said in table.items():
        left = re.sub(r"\{\w+\}|--\w+", "", NO_NOUN.sub("", english)).lower()
        for word in sorted(TERMS, key=len, reverse=True):
            found = re.sub(rf"\b{word}(?:s|es)?\b", " ", left)
            if found != left and TERMS[word] not in said:
                wrong.append((word, TERMS[word], english, said))
            left = found
    assert wrong == []


@pytest.mark.parametrize("page", SHOWN_IN_CHINESE, ids=lambda page: page.name)
def test_words_that_were_given_up_stand_nowhere(page: Path) -> None:
    assert not RETIRED.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("table", [SENTENCES, ERRORS], ids=["pages", "errors"])
def test_marks_are_full_width(table: dict[str, str]) -> None:
    half = re.compile(rf"[{HAN}}}][,:;!?(]|[,:;!?)][{HAN}]|[。，；：！？] |[{HAN}]\.$")
    wrong = [said for said in table.values() if half.search(re.sub(r"\{\w+\}", "{}", said))]
    assert wrong == []


def test_values_of_a_sentence_are_in_both_languages() -> None:
    for table in (SENTENCES, ERRORS):
        for english, said in table.items():
            places = set(re.findall(r"\{\w+\}", english))
            assert places == set(re.findall(r"\{\w+\}", said)), english


def test_every_error_of_the_table_is_still_said() -> None:
    """Its longest part without a value stands in some sentence of the harness."""
    said = []
    for path in sorted((ROOT / "harness").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    for english in ERRORS:
        part = max(re.split(r"\{\w+\}", english), key=len)
        assert any(part.strip() in sentence for sentence in said), english


def test_an_error_is_said_in_chinese_with_its_values() -> None:
    english = "the store is held by another program (PID 12); waited 5 s"
    assert chinese(english) == "存储被 another program (PID 12) 占用，已等待 5 秒"
    assert chinese("no such sentence") == "no such sentence"


def test_every_sentence_on_a_lines_state_has_its_chinese_with_the_watchs_reason_in_it() -> None:
    said = in_words(Sentence("Its files can't be read: {problem}", {"problem": "x"}), "zh")
    assert said == "文件无法读取：x"
    values = {"signals": "refusals", "when": "2030-01-02 03:04", "n": "9"}
    text = next(text for text in STATE if text.startswith("FAIL") and "{reason}" in text)
    reason = "0a906e9334af has no version before it to go back to"
    said = in_words(Sentence(text, {**values, "reason": reason}), "zh")
    assert "0a906e9334af 之前没有可以退回的版本" in said
    assert in_words(Sentence(text, {**values, "reason": "by hand"}), "en").endswith("by hand")
