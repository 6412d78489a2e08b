"""Rows that can't be what they seem are refused, with file and line."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from harness.core.errors import UserError
from harness.data.rows import read_rows


@pytest.mark.parametrize(
    ("name", "content", "message", "line"),
    [
        ("a.csv", "q,a,q\n1,2,3\n", "two columns are called 'q'", 1),
        ("b.csv", "q;a\n1;2\n", "separated by semicolons", 1),
        ("c.csv", "q\ta\n1\t2\n", "separated by tabs", 1),
        ("d.csv", "sep=;\nq;a\n1;2\n", "separated by semicolons", 1),
        ("e.csv", "q,a\n1,2,3\n", "does not have the header's 2 columns", 2),
        ("k.csv", 'q,a\n1,"2\n3,4\n5,6\n', "unexpected end of data", 4),
        ("l.csv", 'q,a\n1,2\n3,"4"5\n', "expected after", 3),
        ("f.jsonl", '{"q": "x"}\n{"q": "a\\ud83d"}\n', "half a character", 2),
        ("g.jsonl", '{"q": ["ok", {"r": "\\uDC00"}]}\n', "half a character", 1),
        ("h.jsonl", '{"\\ud800": 1}\n', "half a character", 1),
        ("i.jsonl", '{"q": ' + "9" * 5000 + "}\n", "can't be read", 1),
        ("j.jsonl", '{"q": ' + "[" * 100_000 + "\n", "this line", 1),
    ],
)
def test_a_bad_row_is_named(
    name: str, content: str, message: str, line: int, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_rows(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)


def test_whole_characters_written_as_halves_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"q": "\\ud83d\\ude00 \\\\ud800"}\n')
    assert read_rows(path)[0][1] == {"q": "😀 \\ud800"}


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["q", "q"])
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(UserError, match="two columns are called 'q'"):
        read_rows(path)


def test_a_cell_may_be_longer_than_pythons_own_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'q,a\n1,"{"word " * 40_000}"\n')
    assert len(read_rows(path)[0][1]["a"]) == 200_000
