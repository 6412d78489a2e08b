"""Rows of more tokens than a recipe allows or a model reads: counted and named, dropped or cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import compress

from harness.core.errors import UserError
from trainers.config.recipe import Example, Recipe, Stage

NAMED = 5


def with_fitting_rows(
    recipe: Recipe,
    stage: Stage,
    lengths: Sequence[int],
    begins: Sequence[int],
    *,
    reads: int,
) -> Stage:
    """The stage with the rows that it learns from, and a note on those that are too long.

    `lengths` and `begins` are those of its examples and then of its validation: how many tokens
    each has, and behind how many of them the first one that is learned stands. Raises UserError for
    rows that are too long where the recipe refuses them, and where a source keeps no row.
    """
    examples = (*stage.examples, *stage.validation)
    if stage.data.too_long == "refuse":
        require_lengths(recipe, stage, examples, lengths, reads=reads)
        return stage
    most = min(stage.data.max_length, reads)
    cuts = stage.data.too_long == "cut"
    keeps = [n <= most or (cuts and b < most) for n, b in zip(lengths, begins, strict=True)]
    long = [(e, n) for e, n in zip(examples, lengths, strict=True) if n > most]
    if not long:
        return stage
    gone = keeps.count(False)
    told = [f"of {len(examples)} rows {len(long)} with more than {most} tokens: {_named(long)}"]
    if gone < len(long):
        told.append(f"{len(long) - gone} cut at the end")
    if gone:
        told.append(f"{gone} left out" + (", the prompt being too long" * cuts))
    count = len(stage.examples)
    fitted = replace(
        stage,
        examples=tuple(compress(stage.examples, keeps[:count])),
        validation=tuple(compress(stage.validation, keeps[count:])),
        notes=(*stage.notes, "; ".join(told)),
    )
    _require_sources(recipe, stage, fitted, most)
    return fitted


def _require_sources(recipe: Recipe, stage: Stage, fitted: Stage, most: int) -> None:
    left = {example.source for example in fitted.examples}
    for number, source in enumerate(stage.data.mix):
        if number not in left or (stage.validation and not fitted.validation):
            what = source.source if number not in left else "the validation"
            raise UserError(
                f"no row of {what} has {most} tokens or fewer that could be learned from",
                file=recipe.path,
                field="data.max_length",
                hint="raise it, or take the source out",
            )


def cut(ids: list[int], stage: Stage, reads: int, *, room: int = 0) -> list[int]:
    """A row's tokens, or labels, as `too_long` has them, with room for so many behind them."""
    most = min(stage.data.max_length, reads) - room
    return ids[:most] if stage.data.too_long == "cut" else ids


def _place(example: Example) -> str:
    return f"{example.file.name}:{example.line}"


def _named(long: Sequence[tuple[Example, int]]) -> str:
    named = ", ".join(f"{_place(e)} ({n})" for e, n in long[:NAMED])
    return named + (f", and {len(long) - NAMED} more" if len(long) > NAMED else "")


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

    first, tokens = long[0]
    what = (
        f"row {first.row!r} has {tokens} tokens, more than {most}"
        if len(long) == 1
        else f"{len(long)} of {len(examples)} rows have more than {most} tokens: {_named(long)}"
    )
    longest = max(n for _, n in long)
    raise UserError(
        what + (", which is all that the model reads" if reads < allowed else ""),
        file=first.file,
        line=first.line or None,
        hint="write `too_long: drop` or `cut` under `data`, or shorten them"
        if longest > reads
        else f"raise data.max_length to {longest} in the recipe, or write `too_long: drop` or "
        "`cut` beside it",
    )
