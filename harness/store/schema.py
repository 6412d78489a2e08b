"""Declares the tables of the store, and checks a row before it is acknowledged.

A row that has been acknowledged must never be refused later, so everything that the database
could object to is found here, while the caller can still act on it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow

_WHOLE_NUMBERS = {"INTEGER": 2**31, "BIGINT": 2**63}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, DuckDB type, and what it holds, with the unit.

    `required`  NULL is refused
    `now`       a row without a value gets the time of the append (UTC)
    `infinite`  the infinities are values too (a log-probability may be -inf); NaN never is
    """

    name: str
    type: str
    meaning: str
    required: bool = False
    now: bool = False
    infinite: bool = False

    @property
    def sql(self) -> str:
        return f'"{self.name}" {self.type}' + (" NOT NULL" if self.required else "")


def column(
    name: str,
    type: str,  # noqa: A002
    meaning: str,
    *,
    required: bool = False,
    now: bool = False,
    infinite: bool = False,
) -> Column:
    """A `Column`; short, for the lists of columns in `tables`."""
    return Column(name, type, meaning, required, now, infinite)


SEQ = Column(
    "seq",
    "BIGINT",
    "order in which the store took rows in, over all tables; assigned by the store, no clock in it",
    required=True,
)


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    `key`     the columns of which a second row with the same values is ignored; mostly none
    `failure` the column that is not NULL in a row that is a failure: a row of the same key that
              is not one takes its place
    `indexed` whether the database has an index for the key. A table of millions of rows has none:
              each drain would load it, which takes longer than reading the key's column
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    failure: str | None = None
    indexed: bool = True

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def sql(self) -> str:
        """The CREATE TABLE statement."""
        parts = [column.sql for column in (*self.columns, SEQ)]
        if self.key and self.indexed:
            parts.append(f"PRIMARY KEY ({', '.join(self.key)})")
        return f"CREATE TABLE {self.name} ({', '.join(parts)})"

    @property
    def arrow(self) -> pyarrow.Schema:
        """The Arrow schema of the rows, without `seq`. JSON travels as text."""
        import pyarrow

        return pyarrow.schema([(column.name, _arrow_type(column.type)) for column in self.columns])

    def encode(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row in JSON types, checked. Raises UserError naming the column otherwise."""
        encoded: dict[str, Any] = {}
        for name, value in row.items():
            column = self.column(name)
            if column is None:
                raise UserError(
                    f"table {self.name} has no column {name!r}",
                    field=f"{self.name}.{name}",
                    hint=f"its columns are {', '.join(c.name for c in self.columns)}",
                )
            if value is not None:
                encoded[name] = _encode(value, column, f"{self.name}.{name}")
        for column in self.columns:
            if column.now and column.name not in encoded:
                encoded[column.name] = datetime.now(UTC).isoformat()
            elif column.required and column.name not in encoded:
                raise UserError(
                    f"a row for table {self.name} lacks {column.name}",
                    field=f"{self.name}.{column.name}",
                    hint=f"give {column.name}: {column.meaning}",
                )
        return encoded

    def to_arrow(self, rows: Sequence[Mapping[str, Any]]) -> pyarrow.Table:
        """Encoded rows, as they come out of a journal, as Arrow columns."""
        import pyarrow

        arrays = [
            pyarrow.array(
                [_decode(row.get(column.name), column) for row in rows],
                type=_arrow_type(column.type),
            )
            for column in self.columns
        ]
        return pyarrow.Table.from_arrays(arrays, schema=self.arrow)


def markdown(tables: Sequence[Table]) -> str:
    """The tables as `docs/store.md` shows them."""
    parts = []
    for table in tables:
        key = f" A second row of one ({', '.join(table.key)}) is ignored." if table.key else ""
        rows = [f"| {c.name} | {c.type} | {c.meaning} |" for c in table.columns]
        parts.append(
            f"### {table.name}\n{table.meaning}{key}\n\n"
            "| column | type | what it holds |\n| --- | --- | --- |\n" + "\n".join(rows)
        )
    return "\n\n".join(parts) + "\n"


def utc(moment: datetime) -> datetime:
    """The same moment as a naive UTC datetime, which is how the file keeps time."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _arrow_type(declared: str) -> pyarrow.DataType:
    import pyarrow

    if declared.endswith("[]"):
        return pyarrow.list_(_arrow_type(declared[:-2]))
    return {
        "VARCHAR": pyarrow.string(),
        "JSON": pyarrow.string(),
        "INTEGER": pyarrow.int32(),
        "BIGINT": pyarrow.int64(),
        "DOUBLE": pyarrow.float64(),
        "BOOLEAN": pyarrow.bool_(),
        "TIMESTAMP": pyarrow.timestamp("us"),
    }[declared]


def _encode(value: Any, column: Column, where: str, declared: str | None = None) -> Any:
    declared = declared or column.type
    if declared.endswith("[]"):
        if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
            raise _wrong(where, "a list", value)
        return [
            None if item is None else _encode(item, column, where, declared[:-2]) for item in value
        ]
    match declared:
        case "VARCHAR":
            return _text(value, where)
        case "JSON":
            return _json(value, where)
        case "INTEGER" | "BIGINT":
            return _whole(value, where, _WHOLE_NUMBERS[declared])
        case "DOUBLE":
            return _number(value, where, infinite=column.infinite)
        case "BOOLEAN":
            if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
                raise _wrong(where, "true or false", value)
            return bool(value)
        case "TIMESTAMP":
            return _moment(value, where)
    raise AssertionError(f"undeclared type {declared}")


def _decode(value: Any, column: Column) -> Any:
    if value is None:
        return None
    if column.type == "TIMESTAMP":
        return utc(datetime.fromisoformat(value))
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds a lone surrogate at character {error.start}, which is not text",
            field=where,
            hint="decode the input with errors='replace'",
        ) from error
    return text


def _json(value: Any, where: str) -> str:
    if isinstance(value, str):
        raise UserError(
            f"{where} is a JSON column and was given text",
            field=where,
            hint="give the object itself, not its JSON text",
        )
    try:
        text = json.dumps(
            value,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            default=lambda item: _plain(item, where),
        )
    except ValueError as error:
        raise _not_finite(where) from error
    return _text(text, where)


def _plain(value: Any, where: str) -> Any:
    """In JSON types what `json` does not take: mappings, sequences, sets, times, numpy's scalars.

    Raises UserError for anything else.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Sequence):
        return list(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise _wrong(where, "JSON types", value)


def _whole(value: Any, where: str, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _wrong(where, "a whole number", value)
    if not -limit <= int(value) < limit:
        raise UserError(f"{where} is out of range: {value}", field=where)
    return int(value)


def _number(value: Any, where: str, *, infinite: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _wrong(where, "a number", value)
    number = float(value)
    if math.isnan(number) or (math.isinf(number) and not infinite):
        raise _not_finite(where)
    return number


def _moment(value: Any, where: str) -> str:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise _wrong(where, "a date with a time", value) from error
    if not isinstance(value, datetime):
        raise _wrong(where, "a date with a time", value)
    if value.tzinfo is None:
        raise UserError(
            f"{where} has a time without a time zone",
            field=where,
            hint="use datetime.now(UTC)",
        )
    return value.isoformat()


def _wrong(where: str, wanted: str, value: Any) -> UserError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return UserError(f"{where} takes {wanted}, not {type(value).__name__} {shown}", field=where)


def _not_finite(where: str) -> UserError:
    return UserError(
        f"{where} is not a finite number",
        field=where,
        hint="store NULL with outcome `error` or `unscored` and a reason",
    )
