"""Reads rows from JSONL, CSV and Parquet; errors name the file and the line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.text_file import (
    MOST_IN_A_CELL,
    check_columns,
    check_separator,
    is_whole,
    read_text,
)
from harness.core.types import Row

_CONVERTED = {
    ".json": "; a list of objects becomes one with `jq -c '.[]' FILE > NEW.jsonl`",
    ".gz": "; unpack it with `gunzip -k FILE`",
    ".zst": "; unpack it with `unzstd FILE`",
    ".tsv": "; in pandas: `pd.read_csv(FILE, sep='\\t').to_csv(NEW, index=False)`",
    ".xlsx": "; in pandas: `pd.read_excel(FILE).to_csv(NEW, index=False)`",
    ".arrow": "; with datasets: `Dataset.from_file(FILE).to_parquet(NEW)`",
    ".txt": "; a text a line becomes one with `jq -R '{text: .}' -c FILE > NEW.jsonl`",
}
"""How data of other kinds is brought into one of ours, as the end of a hint."""


def read_rows(path: Path) -> list[tuple[int, Row]]:
    """(line, row) of every row. Lines count from 1, a CSV's header included; Parquet counts rows.

    Raises UserError for a missing, empty or malformed file.
    """
    suffix = path.suffix.lower()
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.is_dir():
        raise UserError(
            "a data file was expected here, not a folder",
            file=path,
            hint="name one file of it; what datasets saved (`save_to_disk`) becomes one with "
            "`load_from_disk(DIR).to_parquet(FILE)`",
        )
    if suffix not in readers:
        kind = repr(suffix) if suffix else "without a suffix"
        raise UserError(
            f"data of the kind {kind} can't be read",
            file=path,
            hint=f"use one of {', '.join(readers)}" + _CONVERTED.get(suffix, ""),
        )
    rows = readers[suffix](path)
    if not rows:
        raise UserError("the data file has no rows", file=path, hint="give at least one row")
    return rows


def _jsonl(path: Path) -> list[tuple[int, Row]]:
    rows = []
    for number, line in enumerate(read_text(path, what="data file").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except json.JSONDecodeError as error:
            raise UserError(
                f"this line is not JSON: {error.msg} at column {error.colno}",
                file=path,
                line=number,
                hint="one JSON object per line",
            ) from None
        except (RecursionError, ValueError) as error:
            raise UserError(f"this line can't be read: {error}", file=path, line=number) from None
        except _TwiceError as error:
            raise UserError(
                f"the key {error.args[0]!r} is written twice",
                file=path,
                line=number,
                hint="keep one of them",
            ) from None
        if not isinstance(row, dict):
            raise UserError(
                f"a row is a JSON object, not {type(row).__name__}",
                file=path,
                line=number,
                hint='write it as {"field": value}',
            )
        if "\\ud" in line.lower():
            _check_whole(row, path, number)
        rows.append((number, row))
    return rows


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


def _csv(path: Path) -> list[tuple[int, Row]]:
    text = read_text(path, what="data file")
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


def _parquet(path: Path) -> list[tuple[int, Row]]:
    import pyarrow
    import pyarrow.parquet as parquet

    if not path.is_file():
        raise UserError(f"no such data file: {path.name}", file=path, hint="check its spelling")
    try:
        check_columns(path, parquet.read_schema(path).names, line=None)
        table = parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise UserError(f"this is not a readable Parquet file: {error}", file=path) from None
    return list(enumerate(table.to_pylist(), start=1))


def read_hub(name: str) -> list[tuple[int, Row]]:
    """(number from 1, row) of a hub dataset, `hub:owner/name[:config][:split]`; `test` by default.

    A folder may stand in the name's place. Raises UserError where it can't be loaded, such as
    offline.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    place, config, split = _hub_parts(name)
    try:
        dataset = load_dataset(place, config, split=split)
    except (OSError, ValueError, DatasetsError, HfHubHTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"the dataset {place!r} (split {split!r}) can't be loaded: {reason}",
            hint="check its name, config and split, go online once, or give a JSONL file",
        ) from None
    rows = [(number, dict(row)) for number, row in enumerate(dataset, start=1)]
    if not rows:
        raise UserError(f"the dataset {place!r} (split {split!r}) has no rows")
    return rows


def _hub_parts(name: str) -> tuple[str, str | None, str]:
    place, *rest = name.removeprefix("hub:").split(":")
    if not place or len(rest) > 2:
        raise UserError(f"{name!r} names no dataset", hint="write hub:OWNER/NAME[:CONFIG][:SPLIT]")
    config = rest[0] if len(rest) == 2 else None
    return place, config or None, rest[-1] if rest else "test"


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
