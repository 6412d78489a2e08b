"""Reads the rows of one file: JSON, CSV, Parquet or Arrow, packed or not; errors name the line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.text_file import (
    MOST_IN_A_CELL,
    check_columns,
    check_separator,
    decode,
    is_whole,
    read_text,
)
from harness.core.types import Row
from harness.data.packed import PACKED, unpacked

Numbered = list[tuple[int, Row]]
"""(line or number from 1, row) of each row."""

Broken = Callable[[UserError], None]
"""Is told of each line that can't be read as a row."""

_CONVERTED = {
    ".tsv": "; in pandas: `pd.read_csv(FILE, sep='\\t').to_csv(NEW, index=False)`",
    ".xlsx": "; in pandas: `pd.read_excel(FILE).to_csv(NEW, index=False)`",
    ".txt": "; a text a line becomes one with `jq -R '{text: .}' -c FILE > NEW.jsonl`",
}
"""How data of other kinds is brought into one of ours, as the end of a hint."""


def kind_of(path: Path) -> str | None:
    """The suffix that says how a file's rows are written, without that of its packing; None for a
    file that can't be read here.
    """
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    kind = name.suffix.lower()
    packed = name is not path
    return kind if kind in _TEXTS or (kind in _TABLES and not packed) else None


def is_table(kind: str) -> bool:
    """Whether rows of this kind are columns of a table, and not texts."""
    return kind in _TABLES


def read_rows(path: Path, broken: Broken | None = None) -> Numbered:
    """(line, row) of every row of one file. Lines count from 1, a CSV's header included; an object
    of a JSON list stands on the line that it begins on; Parquet and Arrow count rows. Where
    `broken` is given, a line of JSONL that can't be read is told to it and left out, as long as
    there is another that can.

    Raises UserError for a missing, empty or malformed file.
    """
    if path.is_dir():
        raise UserError(
            "a data file was expected here, not a folder", file=path, hint="name one file of it"
        )
    kind = kind_of(path)
    if kind is None:
        suffix = "".join(
            path.suffixes[-2:] if path.suffix.lower() in PACKED else path.suffixes[-1:]
        )
        raise UserError(
            f"data of the kind {suffix!r} can't be read"
            if suffix
            else "data of the kind without a suffix can't be read",
            file=path,
            hint=f"use one of {', '.join((*_TEXTS, *_TABLES))} (texts also as {', '.join(PACKED)})"
            + _CONVERTED.get(suffix.lower(), ""),
        )
    if broken is not None and kind in (".jsonl", ".ndjson"):
        rows = _lines(path, broken)
    else:
        rows = _TABLES[kind](path) if kind in _TABLES else _TEXTS[kind](_text_of(path), path)
    if not rows:
        raise UserError("the data file has no rows", file=path, hint="give at least one row")
    return rows


def _text_of(path: Path) -> str:
    if path.suffix.lower() not in PACKED:
        return read_text(path, what="data file")
    return decode(unpacked(path), path, what="data file")


def _lines(path: Path, broken: Broken) -> Numbered:
    """The lines of JSONL that are rows; of the others `broken` is told once one is."""
    _require_file(path)
    data = unpacked(path) if path.suffix.lower() in PACKED else path.read_bytes()
    rows, faults = [], []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            try:
                rows.append((number, _parsed(line.decode("utf-8"), path, number)))
            except UnicodeDecodeError as error:
                what = f"this line is not UTF-8 (byte {error.start + 1})"
                faults.append(UserError(what, file=path, line=number))
            except UserError as error:
                faults.append(error)
    if faults and not rows:
        _text_of(path)  # says what the whole looks like, where it isn't UTF-8
        raise faults[0]
    for fault in faults:
        broken(fault)
    return rows


def _jsonl(text: str, path: Path) -> Numbered:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            rows.append((number, _parsed(line, path, number)))
    return rows


def _parsed(line: str, path: Path, number: int) -> Row:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError, _TwiceError) as error:
        raise _unreadable(error, path, number, "one JSON object per line") from None
    return _as_row(row, line, path, number)


def _unreadable(error: Exception, path: Path, number: int, hint: str) -> UserError:
    if isinstance(error, _TwiceError):
        what = f"the key {error.args[0]!r} is written twice"
        return UserError(what, file=path, line=number, hint="keep one of them")
    if isinstance(error, json.JSONDecodeError):
        what = f"this line is not JSON: {error.msg} at column {error.colno}"
        return UserError(what, file=path, line=number, hint=hint)
    return UserError(f"this line can't be read: {error}", file=path, line=number)


def _as_row(row: Any, source: str, path: Path, number: int) -> Row:
    if not isinstance(row, dict):
        raise UserError(
            f"a row is a JSON object, not {type(row).__name__}",
            file=path,
            line=number,
            hint='write it as {"field": value}',
        )
    if "\\ud" in source.lower():
        _check_whole(row, path, number)
    return row


def _json(text: str, path: Path) -> Numbered:
    """A list of objects; or, as many files of that name are, one object a line."""
    begins = text.lstrip()
    if begins.startswith("["):
        return list(_listed(text, path))
    first = begins.partition("\n")[0].strip()
    if first.startswith("{") and (first.endswith("}") or begins.rstrip().count("\n") == 0):
        rows = _jsonl(text, path)
        _require_no_table(rows, path)
        return rows
    raise UserError(
        "this JSON is no list of objects",
        file=path,
        line=1,
        hint='write `[{"field": value}, ...]`, or one object a line; of a list under a key: '
        "`jq -c '.KEY[]' FILE > NEW.jsonl`",
    )


def _require_no_table(rows: Numbered, path: Path) -> None:
    """One object whose values are all lists of objects is a file of several lists, and no row."""
    if len(rows) != 1 or not rows[0][1]:
        return
    for name, value in rows[0][1].items():
        if not isinstance(value, list) or not value or not isinstance(value[0], dict):
            return
        if name in ("messages", "conversations"):
            return
    raise UserError(
        f"the rows are a list under a key here: {', '.join(rows[0][1])}",
        file=path,
        line=1,
        hint=f"`jq -c '.{next(iter(rows[0][1]))}[]' {path.name} > NEW.jsonl` takes one out",
    )


def _listed(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    """The objects of a JSON list, each with the line that it begins on."""
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    place, line, counted = text.index("[") + 1, 1, 0
    while True:
        place = _past_space(text, place)
        if text[place : place + 1] == "]":
            break
        line, counted = line + text.count("\n", counted, place), place
        try:
            row, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError, _TwiceError) as error:
            wrong = error.lineno if isinstance(error, json.JSONDecodeError) else line
            raise _unreadable(error, path, wrong, "a list of JSON objects") from None
        yield line, _as_row(row, text[place:end], path, line)
        place = _past_space(text, end)
        mark = text[place : place + 1]
        if mark not in (",", "]") or not mark:
            here = 1 + text.count("\n", 0, place)
            found = repr(mark) if mark else "the file's end"
            raise UserError(
                f"after an object of the list a comma or `]` is expected, not {found}",
                file=path,
                line=here,
                hint="check the commas and brackets near that line; a file that was cut short "
                "ends so too",
            )
        place += mark == ","
    if text[place + 1 :].strip():
        raise UserError(
            "something stands after the list's end",
            file=path,
            line=1 + text.count("\n", 0, place),
            hint="one list is a file",
        )


def _past_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _check_whole(row: Row, path: Path, number: int) -> None:
    """Raise UserError for half a character: JSON can write one, and no text can hold it."""
    for field, value in row.items():
        text = json.dumps({field: value}, ensure_ascii=False)
        if not is_whole(text):
            half = next(mark for mark in text if "\ud800" <= mark <= "\udfff")
            raise UserError(
                f"half a character stands here: \\u{ord(half):04x}, a lone surrogate",
                file=path,
                line=number,
                field=field if is_whole(field) else None,
                hint="correct the text where it was cut, or write \\ufffd in its place",
            )


class _TwiceError(Exception):
    """A JSON object has a key twice, so that it isn't clear which value is meant."""


def _once(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in keys if keys.count(key) > 1))
    return row


def _csv(text: str, path: Path) -> Numbered:
    # Not strict, a quote that is never closed would take all rows after it for one cell.
    csv.field_size_limit(MOST_IN_A_CELL)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        first = text.partition("\n")[0]
        check_separator(path, first.split(","), first)
        header = reader.fieldnames or ()
        check_columns(path, header)
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"this row does not have the header's {len(header)} columns",
                    file=path,
                    line=reader.line_num,
                    hint="quote values that hold commas or line breaks",
                )
            rows.append((reader.line_num, dict(row)))
    except csv.Error as error:
        raise UserError(
            f"this is not a CSV: {error}",
            file=path,
            line=reader.reader.line_num,
            hint="check the quotes near that line",
        ) from None
    return rows


def _parquet(path: Path) -> Numbered:
    import pyarrow
    import pyarrow.parquet as parquet

    _require_file(path)
    try:
        check_columns(path, parquet.read_schema(path).names, line=None)
        table = parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"this is not a readable Parquet file: {error}", file=path) from None
    return list(enumerate(table.to_pylist(), start=1))


def _arrow(path: Path) -> Numbered:
    """An Arrow stream, as datasets writes it, or an Arrow file (Feather)."""
    import pyarrow

    _require_file(path)
    try:
        with pyarrow.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            open_it = pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream
            table = open_it(source).read_all()
            check_columns(path, table.schema.names, line=None)
            rows = table.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"this is not a readable Arrow file: {error}", file=path) from None
    return list(enumerate(rows, start=1))


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"no such data file: {path.name}", file=path, hint="check its spelling")


_TEXTS = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv}
_TABLES = {".parquet": _parquet, ".arrow": _arrow, ".feather": _arrow}


def row_id(row: Row) -> str:
    """A stable id for a row without one: 12 hexadecimal digits of a digest of its content."""
    canonical = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def texts_in(row: Row, field: str, *, file: Path, line: int) -> tuple[str, ...]:
    """The texts that a field lists. Raises UserError where it is missing or not a list of texts."""
    if field not in row:
        raise UserError(
            f"this row has no field {field!r}",
            file=file,
            line=line,
            field="choices",
            hint=f"the row's fields are: {', '.join(row)}",
        )
    texts = row[field]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(
            f"the field {field!r} is not a list of texts",
            file=file,
            line=line,
            field="choices",
            hint=f'write it as "{field}": ["first", "second"]',
        )
    return tuple(texts)
