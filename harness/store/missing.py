"""Which rows of a table the store doesn't have yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.store.schema import Table
from harness.store.store import Store

if TYPE_CHECKING:
    import pyarrow


def content(table: Table) -> str:
    """SQL of a text that is the same for rows with the same content, in any store."""
    texts = ", ".join(f'coalesce("{c.name}"::VARCHAR, chr(30))' for c in table.columns)
    return f"left(md5(concat_ws(chr(31), {texts})), 16)"


def missing(
    store: Store,
    table: Table,
    rows: pyarrow.Table,
    key: str | None = None,
    *,
    where: str = "true",
    params: Sequence[Any] = (),
) -> pyarrow.Table:
    """The rows, in their order, whose `key` (SQL; the whole content by default) no stored row has.

    `where` bounds the stored rows that are looked at.
    """
    import duckdb
    import pyarrow.compute as compute

    key = key or content(table)
    known = store.query_arrow(
        f"SELECT DISTINCT {key} AS key FROM {table.name} WHERE {where}", params
    )
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("incoming", rows)
        keys = connection.sql(f"SELECT {key} AS key FROM incoming").to_arrow_table()
    there = compute.is_in(keys.column("key"), value_set=known.column("key").combine_chunks())
    return rows.filter(compute.invert(there))
