"""Words of every script: no letter, vowel sign or diacritic is lost."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.scripts import answer_tokens, pieces, sets_no_spaces, words
from harness.core.types import Response, Sample
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.metrics.rouge import rouge

# Real sentences, and the same with one word changed by no more than a mark, or by one word.
SENTENCES = {
    "Hindi": ("राम की किताब मेज़ पर रखी है", "राम का किताब मेज़ पर रखी है"),
    "Bengali": ("আমি বাংলায় গান গাই", "আমি বাংলার গান গাই"),
    "Tamil": ("எனக்குத் தமிழ் தெரியும்", "எனக்குத் தமிழ் தெரியாது"),
    "Thai": ("แม่ไม่อยู่บ้าน", "แม้ไม่อยู่บ้าน"),
    "Lao": ("ຂ້ອຍຢູ່ບ້ານ", "ຂ້ອຍຢູ່ບ່ານ"),
    "Khmer": ("ខ្ញុំស្រលាញ់ភាសាខ្មែរ", "ខ្ញុំស្រលាញ់ភាសាខ្មៃរ"),
    "Burmese": ("ကျွန်တော် မြန်မာစာ ဖတ်တယ်", "ကျွန်တော် မြန်မာစာ ဖတ်တာ"),
    "Tibetan": ("བོད་སྐད་ཡིག་ཆ་", "བོད་སྐད་ཡིག་ཆུ་"),
    "Vietnamese": ("má trồng mạ ngoài đồng", "mã trồng mạ ngoài đồng"),
    "Arabic": ("كَتَبَ الولد الدرس", "كُتِبَ الولد الدرس"),
    "Persian": ("او می‌خواهد برود", "او نمی‌خواهد برود"),
    "Hebrew": ("שָׁלוֹם לכולם", "שֶׁלוֹם לכולם"),
    "Korean": ("나는 학교에 간다", "나는 학교에 갔다"),
    "Japanese": ("彼は学校へ行きます。", "彼は学校へ行きました。"),
    "Greek": ("Πού είναι ο σταθμός", "Που είναι ο σταθμός"),
    "Russian": ("всё хорошо сегодня", "все хорошо сегодня"),
    "Turkish": ("kapıyı açtı", "kapiyi açtı"),
    "French": ("il a mangé du pâté", "il a mange du pâté"),
    "Yoruba": ("ọkọ̀ náà lọ", "ọkọ náà lọ"),
    "Chinese": ("今天天气很好", "今天天气不好"),
}


def letters(text):
    """Every letter, digit and mark of a text, in the form in which words are compared."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return [c for c in text if c.isalnum() or unicodedata.category(c)[0] == "M"]


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_keep_every_letter_and_differ_where_they_differ(language):
    text, other = SENTENCES[language]
    assert [c for word in words(text) for c in word if c not in "\u200c\u200d"] == letters(text)
    assert words(unicodedata.normalize("NFD", text)) == words(text)
    for kind in ("rouge1", "rougeL"):
        assert rouge(text, text, kind=kind).f1 == 1.0
        assert 0 < rouge(text, other, kind=kind).f1 < 1.0
    sample = Sample("s", "t", references=(text,))
    for name in ("token_f1", "bleu", "chrf", "rouge_1", "rouge_l"):
        metric = get_metric(name)
        same, changed = (
            metric.score([MetricItem(sample, (Response("k", "s", "t", "generation", 0, 0, said),))])
            for said in (text, other)
        )
        assert same[0][0].value == pytest.approx(metric.spec.high)
        assert changed[0][0].value < same[0][0].value
    responses = tuple(
        Response("k", "s", "t", "generation", i, 0, said) for i, said in enumerate((text, other))
    )
    (row,) = get_metric("self_bleu").score([MetricItem(sample, responses)])
    assert 0 < row[0].value < 1
    (row,) = get_metric("distinct_n", {"n": 1}).score([MetricItem(sample, responses)])
    assert 0 < row[0].value < 1


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_no_letter_of_any_text_is_lost(text):
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    found = [c for word in words(text) for c in word if c.isalnum()]
    assert found == [c for c in normal if c.isalnum()]
    assert words("l´eau") == ["l", "eau"]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_pieces_change_nothing_but_spaces(text):
    assert "".join(pieces(text)) == "".join(text.split())


def test_full_width_forms_are_the_usual_ones():
    assert words("３个苹果 ＡＢＣ") == ["3", "个", "苹", "果", "abc"]
    assert rouge("３个苹果", "3个苹果", kind="rouge1").f1 == 1.0
    assert words("ﾖﾐﾏｽ") == words("ヨミマス")
    assert answer_tokens("“ＡＢＣ”，北京。") == ["abc", "北", "京"]


def test_scripts_without_spaces():
    assert words("ខ្មែរ") == ["ខ្មែ", "រ"]
    assert words("แม่") == ["แ", "ม่"]
    assert words("བོད་སྐད་") == ["བོད", "སྐད"]
    for language in ("Thai", "Lao", "Khmer", "Burmese", "Tibetan", "Japanese"):
        assert sets_no_spaces(SENTENCES[language][0]), language
    for language in ("Hindi", "Vietnamese", "Arabic", "Korean", "Chinese", "French"):
        assert not sets_no_spaces(SENTENCES[language][0]), language
