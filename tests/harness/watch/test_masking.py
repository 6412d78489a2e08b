"""Personal data is found, in English and Chinese, and nothing else is touched."""

import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.watch.intake.masking import KINDS, mask, mask_json, mask_observation
from harness.watch.intake.observation import Observation
from tests.harness.watch.personal_table import TABLE, masked, plain, precision_and_recall

PLACEHOLDER = re.compile(r"\[(?:" + "|".join(KINDS) + r")\]")
FOUND_LEAST, RIGHT_LEAST = 0.92, 0.98


def found_in(row):
    """How many of each kind are found in the row's text."""
    return Counter(match[0][1:-1] for match in PLACEHOLDER.finditer(mask(plain(row)).text))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_precision_and_recall_on_the_table(language):
    rows = [row for row in TABLE if row["language"] == language]
    precision, recall = precision_and_recall(rows, [found_in(row) for row in rows])
    print(f"{language}: precision {precision:.3f}, recall {recall:.3f} of {len(rows)} texts")
    assert precision >= RIGHT_LEAST - (language == "zh") * 0.02
    assert recall >= FOUND_LEAST


def test_the_table_fails_only_where_the_docs_say_so():
    """Spelled-out numbers, addresses in words, bare pass phrases; eleven digits are a mobile."""
    faults = [row["text"] for row in TABLE if mask(plain(row)).text != masked(row)]
    assert len(faults) == 6
    hard = (
        "at example dot com",
        "four one five",
        "correct horse",
        "一三八一",
        "138一二",
        "15000000",
    )
    for text in faults:
        assert any(sign in text for sign in hard), text


PIECES = st.one_of(
    st.text(max_size=12),
    st.sampled_from([plain(row) for row in TABLE]),
    st.text(alphabet="0123456789 -.()+/@Xx:ab[]ＡＢ１２３４５６７８９０＠．", max_size=30),
    st.sampled_from(["password=", "密码：", "[EMAIL]", "[CARD]13812345678", "Bearer ", "://a:b@c"]),
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_to_mask_again_changes_nothing(text):
    once = mask(text)
    assert mask(once.text) == (once.text, 0)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_what_is_kept_stands_as_it_was_and_in_its_order(text):
    kept_text, replaced = mask(text)
    place = 0
    for kept in PLACEHOLDER.split(kept_text):
        found = text.find(kept, place)
        assert found >= 0
        place = found + len(kept)
    if replaced == 0:
        assert kept_text == text


@given(st.recursive(st.none() | st.booleans() | st.integers(0, 999) | st.text(max_size=9),
                    lambda inner: st.lists(inner, max_size=3)
                    | st.dictionaries(st.text(max_size=5), inner, max_size=3)))  # fmt: skip
def test_json_without_personal_data_stays_as_it_is(value):
    assert mask_json(value) == (value, 0)


def test_detail_is_masked_in_its_names_and_numbers_too_and_nothing_is_lost():
    detail = {"a@b.com": 1, "c@d.com": 2, "deep": [{"phone": 13812345678}], "n": 2048, "ok": True}
    masked, count = mask_json(detail)
    assert masked == {
        "[EMAIL]": 1, "[EMAIL]'": 2, "deep": [{"phone": "[PHONE]"}], "n": 2048, "ok": True,
    }  # fmt: skip
    assert count == 3


def test_an_observation_is_masked_everywhere_and_its_ids_stay_equal():
    seen = Observation(
        "o1",
        line="bot",
        conversation_id="bob@example.com",
        about="bob@example.com",
        prompt="我是13812345678",
        response="ok",
        comment="mail a@b.com",
        corrected_text="pay 4111 1111 1111 1111",
        error="refused for a@b.com",
        detail={"user": "a@b.com"},
    )
    masked = mask_observation(seen, b"key")
    assert "@" not in str(masked)
    assert masked.masked == 7
    assert masked.observation_id == "o1"
    assert masked.response == "ok"
    assert masked.conversation_id == masked.about
    assert masked.conversation_id != mask_observation(seen, b"other").conversation_id


@pytest.mark.parametrize(
    "text",
    ["a" * 200_000, "1" * 100_000, "1 " * 50_000, "a.b-c_" * 30_000 + "@", "+1(" * 30_000,
     "password " * 20_000, "AB12" * 40_000, "://a" * 40_000, "-----BEGIN PRIVATE KEY-----" * 3_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_hostile_text_takes_no_longer_than_a_long_one(text):
    """It ends within the timeout of pytest; a quadratic search would take hours."""
    assert mask(text).text
