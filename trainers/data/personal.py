"""The step that takes personal data out of rows, or rows that hold any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from harness.watch.intake.masking import mask_json
from trainers.data.rows import Done, Placed, Why
from trainers.data.step import Context, Step, each_row


class Personal(Step):
    """E-mail addresses, telephone and identity numbers, cards, IBANs and secrets, in any column:
    `mask` writes their kind in their place ([EMAIL]), `drop` takes the row out. Names and addresses
    of houses are not found.
    """

    LIBRARIES: ClassVar[tuple[str, ...]] = ("phonenumbers", "python-stdnum")
    found: Literal["mask", "drop"] = "mask"

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        def look(placed: Placed) -> Placed | Why:
            row, count = mask_json(placed.row)
            if count and self.found == "drop":
                return Why("holds personal data", f"{count} found")
            return placed.saying(row)

        return each_row(name, rows, context, look)
