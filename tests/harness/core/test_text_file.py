"""Files that aren't what they should be are named by what they look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.core.text_file import check_separator, encoding_of, is_whole, read_text, without_halves

CHINESE = "任务,指标\n问答,准确率\n翻译,流畅度\n"
WESTERN = "task,note\nqa,café à la crème\n"


@pytest.mark.parametrize(
    ("text", "codec", "name"),
    [
        (CHINESE, "gbk", "GBK"),
        (CHINESE, "gb18030", "GBK"),
        (CHINESE, "utf-16", "UTF-16"),
        (WESTERN, "utf-16-le", "UTF-16LE"),
        (WESTERN, "utf-16-be", "UTF-16BE"),
        (WESTERN, "utf-32", "UTF-32"),
        (WESTERN, "latin-1", "ISO-8859-1"),
        ("a,“quoted” café\n", "cp1252", "WINDOWS-1252"),
        ("größer,Übung,ähnlich\n", "latin-1", "ISO-8859-1"),
        ("señor,mañana,niño\n", "latin-1", "ISO-8859-1"),
    ],
)
def test_an_encoding_is_named_with_what_to_do(
    text: str, codec: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(text.encode(codec))
    with pytest.raises(UserError) as caught:
        read_text(path, what="file")
    assert f"it looks like {name}" in caught.value.what
    assert f"iconv -f {name}" in (caught.value.hint or "")
    assert caught.value.file == str(path)


@given(st.text())
def test_utf_8_is_read_as_it_is(text: str) -> None:
    data = text.encode("utf-8")
    if b"\0" not in data:
        assert encoding_of(data) is None


@given(st.text(alphabet=st.characters()))
def test_halves_of_characters_are_replaced_and_nothing_else(text: str) -> None:
    whole = without_halves(text)
    assert is_whole(whole)
    if is_whole(text):
        assert whole == text


@pytest.mark.parametrize(
    ("line", "word"),
    [("a;b;c", "semicolons"), ("a\tb", "tabs"), ("a|b", "bars"), ("sep=;", "semi")],
)
def test_a_separator_is_named(line: str, word: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"separated by {word}"):
        check_separator(tmp_path / "x.csv", line.split(","), line)


def test_commas_are_fine(tmp_path: Path) -> None:
    check_separator(tmp_path / "x.csv", ["a;b", "c"], "a;b,c")
    check_separator(tmp_path / "x.csv", ["a"], "a")
