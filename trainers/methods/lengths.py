"""Rows that have more tokens than a recipe allows or a model reads, counted and named."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.errors import UserError
from trainers.config.recipe import Example, Recipe, Stage

NAMED = 5


def require_lengths(
    recipe: Recipe,
    stage: Stage,
    examples: Sequence[Example],
    lengths: Sequence[int],
    *,
    reads: int,
) -> None:
    """Raises UserError where any of these rows has more tokens than `data.max_length`, or than the
    model reads: TRL would cut such a row, or drop it in silence. The first few are named.
    """
    allowed = stage.data.max_length
    most = min(allowed, reads)
    long = [(e, n) for e, n in zip(examples, lengths, strict=True) if n > most]
    if not long:
        return

    def place(example: Example) -> str:
        return f"{example.file.name}:{example.line}"

    named = ", ".join(f"{place(e)} ({n})" for e, n in long[:NAMED])
    more = f", and {len(long) - NAMED} more" if len(long) > NAMED else ""
    first, tokens = long[0]
    what = (
        f"row {first.row!r} has {tokens} tokens, more than {most}"
        if len(long) == 1
        else f"{len(long)} of {len(examples)} rows have more than {most} tokens: {named}{more}"
    )
    longest = max(n for _, n in long)
    raise UserError(
        what + (", which is all that the model reads" if reads < allowed else ""),
        file=first.file,
        line=first.line or None,
        hint="shorten them, or take them out"
        if longest > reads
        else f"raise data.max_length to {longest} in the recipe, shorten them, or take them out",
    )
