"""Declares the tables of the store, and checks a row before it is acknowledged.

A row that has been acknowledged must never be refused later, so everything that the database
could object to is found here, while the caller can still act on it.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError

if TYPE_CHECKING:
    import pyarrow

Encode = Callable[[Any], Any]
"""One value into the form that is stored; raises UserError where the column can't hold it."""

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

    def encode(self, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows in JSON types, checked. Raises UserError naming the column otherwise."""
        encoders = {column.name: _encoder(column, self.name) for column in self.columns}
        return [self._encode_row(row, encoders) for row in rows]

    def _encode_row(self, row: Mapping[str, Any], encoders: Mapping[str, Encode]) -> dict[str, Any]:
        encoded: dict[str, Any] = {}
        for name, value in row.items():
            encode = encoders.get(name)
            if encode is None:
                raise UserError(
                    f"table {self.name} has no column {name!r}",
                    field=f"{self.name}.{name}",
                    hint=f"its columns are {', '.join(c.name for c in self.columns)}",
                )
            if value is not None:
                encoded[name] = encode(value)
        for column in self.columns:
            if column.name in encoded:
                continue
            if column.now:
                encoded[column.name] = datetime.now(UTC).isoformat()
            elif column.required:
                raise UserError(
                    f"a row for table {self.name} lacks {column.name}",
                    field=f"{self.name}.{column.name}",
                    hint=f"give {column.name}: {column.meaning}",
                )
        return encoded

    def to_arrow(self, rows: Sequence[Mapping[str, Any]]) -> pyarrow.Table:
        """Encoded rows, as they come out of a journal, as Arrow columns."""
        import pyarrow

        arrays = []
        for column in self.columns:
            values = [row.get(column.name) for row in rows]
            decode = _decoder(column)
            if decode is not None:
                values = [None if value is None else decode(value) for value in values]
            arrays.append(pyarrow.array(values, type=_arrow_type(column.type)))
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


def _encoder(column: Column, table: str) -> Encode:
    """What turns a value of a column into JSON types, or raises UserError.

    A run writes millions of values, nearly all of them plain ones of the right type: those are
    known by their exact type, and lists of them are looked through by builtins.
    """
    where = f"{table}.{column.name}"
    return _list_encoder(column, where) if column.type.endswith("[]") else _one(column, where)


def _one(column: Column, where: str) -> Encode:
    declared = column.type.removesuffix("[]")
    match declared:
        case "VARCHAR":
            return lambda value: _text(value, where)
        case "JSON":
            return _json_encoder(where)
        case "INTEGER" | "BIGINT":
            limit = _WHOLE_NUMBERS[declared]
            return lambda value: _whole(value, where, limit)
        case "DOUBLE":
            return lambda value: _number(value, where, infinite=column.infinite)
        case "BOOLEAN":
            return lambda value: _truth(value, where)
        case "TIMESTAMP":
            return lambda value: _moment(value, where)
    raise AssertionError(f"undeclared type {declared}")


def _list_encoder(column: Column, where: str) -> Encode:
    one = _one(column, where)
    limit = _WHOLE_NUMBERS.get(column.type.removesuffix("[]"))

    def encode(value: Any) -> list[Any]:
        if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
            raise _wrong(where, "a list", value)
        items = list(value)
        types = set(map(type, items))
        if limit is not None and types == {int} and -limit <= min(items) and max(items) < limit:
            return items
        if column.type == "DOUBLE[]" and types == {float} and all(map(math.isfinite, items)):
            return items
        return [None if item is None else one(item) for item in items]

    return encode


def _decoder(column: Column) -> Encode | None:
    """What turns a value out of a journal into one for the database; None where they are equal."""
    if column.type != "TIMESTAMP":
        return None
    # All rows of an append have one time.
    return functools.lru_cache(256)(lambda text: utc(datetime.fromisoformat(text)))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(where, "text", value)
    text = str.__str__(value)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds a lone surrogate at character {error.start}, which is not text",
            field=where,
            hint="decode the input with errors='replace'",
        ) from error
    return text


def _json_encoder(where: str) -> Encode:
    encoder = json.JSONEncoder(
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
        default=lambda item: _plain(item, where),
    )

    def encode(value: Any) -> str:
        if isinstance(value, str):
            raise UserError(
                f"{where} is a JSON column and was given text",
                field=where,
                hint="give the object itself, not its JSON text",
            )
        try:
            text = encoder.encode(value)
        except ValueError as error:
            raise _not_finite(where) from error
        return _text(text, where)

    return encode


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


def _truth(value: Any, where: str) -> bool:
    if not isinstance(value, bool) and type(value).__name__ not in ("bool_", "bool"):
        raise _wrong(where, "true or false", value)
    return bool(value)


def _whole(value: Any, where: str, limit: int) -> int:
    if type(value) is int and -limit <= value < limit:
        return value
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise _wrong(where, "a whole number", value)
    if not -limit <= int(value) < limit:
        raise UserError(f"{where} is out of range: {value}", field=where)
    return int(value)


def _number(value: Any, where: str, *, infinite: bool) -> float:
    if type(value) is float and math.isfinite(value):
        return value
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
