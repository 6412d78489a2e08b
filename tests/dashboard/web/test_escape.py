"""Characters that hide or reorder are shown; everything that people write stays as it is."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.web.escape import plain
from harness.core.escape import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("safe\u202egnp.exe", "safe⟨U+202E⟩gnp.exe"),
        ("a\u2066b\u2069", "a⟨U+2066⟩b⟨U+2069⟩"),
        ("null\x00 bell\x07 del\x7f csi\x9b", "null␀ bell␇ del␡ csi⟨U+009B⟩"),
        ("pass\u200bword\ufeff", "pass⟨U+200B⟩word⟨U+FEFF⟩"),
        ("over\rwrite\r\nnext", "over␍write\nnext"),
        ("hid\U000e0041den", "hid⟨U+E0041⟩den"),
        ("\ud800", "⟨U+D800⟩"),
    ],
)
def test_what_hides_is_named(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["plain\ttext\n", "你好，世界", "مرحبا", "नमस्ते क्‍ष", "می‌خواهم", "👩‍👩‍👧 ❤️", "<b>&amp;"]
)
def test_writing_stays(text):
    assert visible(text) == text


def test_what_is_cut_is_said():
    assert visible("abcdef", 4) == "abcd\n… (2 characters more)"
    assert visible("a" * 50_000, None) == "a" * 50_000


def test_markdown_means_nothing_any_more():
    assert plain("[a](http://x) :smile: **b**\n# c").count("\\") >= 12
    assert "\n" not in plain("a\nb")


@pytest.mark.parametrize(
    "text", ["http://leak.example/a", "see HTTPS://x.y", "www.leak.example", "ana@leak.example"]
)
def test_an_address_is_no_link(text):
    import re

    bare = plain(text).replace("\\", "")
    assert bare.replace("\u2060", "") == text
    # What GitHub's Markdown takes for an address.
    assert not re.search(r"https?://|www\.\w|[-.\w+]@[-\w]+\.", bare, re.IGNORECASE)


@given(st.text())
def test_nothing_is_left_that_moves_or_hides(text):
    shown = visible(text)
    assert visible(shown) == shown
    for character in shown:
        assert unicodedata.category(character) != "Cc" or character in "\n\t"
        assert unicodedata.bidirectional(character) not in {
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        }  # fmt: skip
