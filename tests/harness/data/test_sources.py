"""Data is read as it lies there: one reader for suites and recipes, with the place of every row."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest

from harness.core.errors import UserError
from harness.data.rows import read_rows
from harness.data.sources import read_source

ROWS: list[dict[str, Any]] = [{"q": "a", "n": 1}, {"q": "你好", "n": 2}, {"q": "c\nd", "n": 3}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def zst(data: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def saved(folder: Path, **splits: list[dict[str, Any]]) -> None:
    from datasets import Dataset, DatasetDict

    made = {name: Dataset.from_list(rows) for name, rows in splits.items()}
    DatasetDict(made).save_to_disk(str(folder))


TABLE = pyarrow.Table.from_pylist(ROWS)


def arrow_stream(path: Path) -> None:
    with pyarrow.ipc.new_stream(str(path), TABLE.schema) as writer:
        writer.write_table(TABLE)


WRITTEN: dict[str, Callable[[Path], object]] = {
    "d.jsonl": lambda p: p.write_bytes(JSONL),
    "crlf.jsonl": lambda p: p.write_bytes(JSONL.replace(b"\n", b"\r\n")),
    "bom.json": lambda p: p.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS, indent=1).encode()),
    "lines.json": lambda p: p.write_bytes(JSONL),
    "one-line.json": lambda p: p.write_text(json.dumps(ROWS)),
    "d.jsonl.gz": lambda p: p.write_bytes(gzip.compress(JSONL)),
    "two-members.jsonl.gz": lambda p: p.write_bytes(
        gzip.compress(JSONL[:20]) + gzip.compress(JSONL[20:])
    ),
    "d.json.zst": lambda p: p.write_bytes(zst(json.dumps(ROWS).encode())),
    "D.JSONL.ZST": lambda p: p.write_bytes(zst(JSONL)),
    "d.jsonl.bz2": lambda p: p.write_bytes(bz2.compress(JSONL)),
    "d.jsonl.xz": lambda p: p.write_bytes(lzma.compress(JSONL)),
    "d.parquet": lambda p: pyarrow.parquet.write_table(TABLE, p),
    "d.arrow": arrow_stream,
    "d.feather": lambda p: pyarrow.feather.write_feather(TABLE, str(p)),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_rows_come_out_of_every_form(name: str, tmp_path: Path) -> None:
    WRITTEN[name](tmp_path / name)
    assert [found.row for found in read_source(name, tmp_path, split="train")] == ROWS


def test_a_packed_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "d.csv.gz").write_bytes(gzip.compress(b"q,a\r\n1,2\r\n"))
    assert read_rows(tmp_path / "d.csv.gz") == [(2, {"q": "1", "a": "2"})]


def test_an_object_of_a_list_stands_on_the_line_that_it_begins_on(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text('[\n  {"a": 1},\n\n  {\n    "a": 2\n  }, {"a": 3}\n]\n')
    assert read_rows(path) == [(2, {"a": 1}), (4, {"a": 2}), (6, {"a": 3})]


def test_what_datasets_saved_is_read(tmp_path: Path) -> None:
    saved(tmp_path / "one", train=ROWS)
    saved(tmp_path / "two", train=ROWS, test=ROWS[:1])
    for name, rows in (("one", ROWS), ("one/train", ROWS), ("two/test", ROWS[:1])):
        assert [found.row for found in read_source(name, tmp_path, split="train")] == rows
    with pytest.raises(UserError, match="several splits: train, test") as caught:
        read_source("two", tmp_path, split="train")
    assert "two/train" in str(caught.value.hint)


def test_a_folder_and_a_pattern_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "shards [v1]"
    for number in (2, 1, 10):
        path = folder / "deep" / f"train-{number:05}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"n": {number}}}\n{{"n": {-number}}}\n')
    (folder / "deep" / "README.md").write_text("what this is")
    (folder / "deep" / ".train-x.jsonl").write_text("half a download")
    for name in ("deep/*.jsonl", "**/train-*.jsonl", str(folder / "deep"), "deep"):
        found = read_source(name, folder, split="train")
        assert [row.row["n"] for row in found] == [1, -1, 2, -2, 10, -10]
        assert [(row.file.name, row.line) for row in found[:3]] == [
            ("train-00001.jsonl", 1),
            ("train-00001.jsonl", 2),
            ("train-00002.jsonl", 1),
        ]


def test_a_folder_of_two_splits_is_not_read_as_one(tmp_path: Path) -> None:
    for name in ("train-00000.jsonl", "test-00000.jsonl"):
        (tmp_path / name).write_text('{"n": 1}\n')
    with pytest.raises(UserError, match="several splits: test, train") as caught:
        read_source(".", tmp_path, split="train")
    assert "train*" in str(caught.value.hint)


def test_a_hub_dataset_has_the_split_of_its_reader(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / f"{name}.jsonl").write_text(json.dumps({"split": name}) + "\n")
    for split in ("train", "test"):
        assert read_source("hub:set", tmp_path, split=split)[0].row == {"split": split}
    assert read_source("hub:set:train", tmp_path, split="test")[0].row == {"split": "train"}


@pytest.mark.parametrize(
    ("name", "content", "message", "line"),
    [
        ("a.json", b'[{"a": 1},\n {"a": }]', "not JSON", 2),
        ("a.json", b'[{"a": 1},\n {"a": 2}', "the file's end", 2),
        ("a.json", b'[{"a": 1}\n {"a": 2}]', "a comma or", 2),
        ("a.json", b'[{"a": 1},\n 3]', "a row is a JSON object, not int", 2),
        ("a.json", b'[{"a": 1}]\n[{"a": 2}]', "after the list's end", 1),
        ("a.json", b'[\n{"a": 1, "a": 2}]', "written twice", 2),
        ("a.json", b"[]", "has no rows", None),
        ("a.json", b'{\n "data": [{"a": 1}]\n}', "no list of objects", 1),
        (
            "a.json",
            b'{"train": [{"a": 1}], "test": [{"a": 2}]}',
            "under a key here: train, test",
            1,
        ),
        ("a.json", b'"text"', "no list of objects", 1),
        ("a.json", b'[{"a": "\\ud83d"}]', "half a character", 1),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)[:-9], "can't be unpacked as .gz", None),
        ("a.jsonl.zst", zst(JSONL)[:-3], "can't be unpacked as .zst", None),
        ("a.jsonl.gz", JSONL, "can't be unpacked as .gz", None),
        ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a"\n', mtime=0), "not JSON", 2),
        ("a.parquet.gz", b"x", "'.parquet.gz' can't be read", None),
        ("a.arrow", b"ARROW1 no more", "not a readable Arrow file", None),
        ("a.arrow", b"", "not a readable Arrow file", None),
    ],
)
def test_what_is_broken_is_named(
    name: str, content: bytes, message: str, line: int | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_source(name, tmp_path, split="train")
    assert (caught.value.file, caught.value.line) == (str(tmp_path / name), line)
