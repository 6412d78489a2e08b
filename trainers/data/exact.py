"""The step that keeps the first of rows that say the same."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from hashlib import sha256

from harness.core.types import Row
from trainers.data.rows import SHAPED, Done, Placed, Why, as_line, each_said
from trainers.data.step import Context, Step, each_row

_NAMES = frozenset(("id", "parent"))


class Exact(Step):
    """The first of the rows whose texts are the same. White space, Unicode's ways of writing one
    character and, unless `case`, capital letters make no difference; punctuation does: `a[0]` and
    `a(0)` are two rows.
    """

    case: bool = False

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        first: dict[bytes, Placed] = {}

        def look(placed: Placed) -> Placed | Why:
            known = first.setdefault(self._digest(placed.row), placed)
            if known is placed:
                return placed
            return Why("the same as another row", f"{known.file} line {known.line}")

        return each_row(name, rows, context, look)

    def _digest(self, row: Row) -> bytes:
        shaped = {name: row[name] for name in (*SHAPED, "label", "tools") if name in row}
        kept = shaped or {name: value for name, value in row.items() if name not in _NAMES}
        return sha256(as_line(dict(sorted(each_said(kept, self._plain).items()))).encode()).digest()

    def _plain(self, text: str) -> str:
        plain = text if text.isascii() else unicodedata.normalize("NFC", text)
        return " ".join((plain if self.case else plain.casefold()).split())
