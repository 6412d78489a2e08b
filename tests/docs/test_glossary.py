"""docs/glossary.md has every noun, in the dashboard's Chinese; old words stand nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dashboard.i18n.zh import SENTENCES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS, OLD = PAGE.split("\n## Old words\n")
ROW = re.compile(r"^\| ([a-z ,]+) \| ([\u4e00-\u9fff、]+) \| (.+) \|$", re.MULTILINE)
MEANINGS = {word: (chinese, said) for word, chinese, said in ROW.findall(WORDS)}
PAGES = sorted({*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")} - {ROOT / "docs/glossary.md"})
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def test_every_noun_is_there_once() -> None:
    nouns = (
        "suite, sample, response, score, run, training, checkpoint, anchor, best checkpoint, "
        "offered checkpoint, verdict, run bundle, line, look, recipe, reserve, arm, hint, "
        "candidate, margin, floor, alpha, protocol, subject, provenance, workspace, draw, cluster"
    )
    assert set(nouns.split(", ")) <= set(MEANINGS)
    rows = [row for row in WORDS.splitlines() if row.startswith("| ") and "---" not in row]
    words = [row for row in rows if "| 中文 |" not in row]
    assert len(words) == len(MEANINGS.keys() - {"word"}), "a row is doubled, or can't be read"


def test_the_chinese_is_the_dashboards() -> None:
    nouns = {words: said for words, said in MEANINGS.items() if words != "word"}  # the tables' head
    for words, (chinese, _) in nouns.items():
        for word, said in zip(words.split(", "), chinese.split("、"), strict=True):
            known = {SENTENCES.get(word), SENTENCES.get(word.capitalize())} - {None}
            # Where it is no noun: `look` on a page is "worth a look".
            assert not known or said in known or word == "look", word


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_old_words_stand_in_the_glossary_alone(page: Path) -> None:
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    if page.name in ("CHANGELOG.md", "store.md"):
        return  # what was renamed; what the store's columns hold
    assert not re.findall(r"\bcrest\b|\bbless\w*|held against|\bcures?\b|turnstile|chronicle", text)


def test_each_old_word_has_its_new_one() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", OLD, re.MULTILINE)[1:]
    assert {"crest", "blessed, to bless", "held against", "cure"} <= {old for old, _ in rows}
    assert all(new.strip() for _, new in rows)
