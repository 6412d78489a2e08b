"""The step that takes out rows that say what a suite asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from harness.core.errors import UserError
from harness.data.duplicates import NEAR, Index, Passage
from harness.suite.load import load_suite
from harness.suite.passages import of_suite
from harness.suite.suite import Suite
from trainers.config.frames import own_parts, unframed
from trainers.data.rows import Done, Drop, Placed, said
from trainers.data.step import Context, Step

_HOW = {"exact": "is", "near": "is nearly", "contained": "contains"}


class Contamination(Step):
    """Rows that are, nearly are or contain a sample of one of `suites` (paths from the pipeline),
    as `ratchet train` looks for them; alike from `near` on, 0 to 1.
    """

    suites: tuple[str, ...] = Field(min_length=1)
    near: float = Field(default=NEAR, gt=0, le=1)

    def reads(self, context: Context) -> Any:
        return [suite.digest for suite in self._loaded(context)]

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        held = [p for suite in self._loaded(context) for p in own_parts(of_suite(suite))]
        index = Index(dict.fromkeys(held), word_for_word=True)
        texts: dict[str, list[tuple[int, bool]]] = {}
        for number, passage in enumerate(passages_of(rows)):
            for text in (*passage.texts, *passage.parts):
                texts.setdefault(text, []).append((number, False))
            for text in passage.joined:
                texts.setdefault(text, []).append((number, True))
        listed = list(texts)
        found: dict[int, str] = {}
        for place, sample, kind, _ in index.like_each(listed, self.near):
            for number, joined in texts[listed[place]]:
                # What an answer and its question only contain together, neither of them says.
                if not (joined and kind == "contained"):
                    found.setdefault(number, f"{_HOW[kind]} {sample.group} sample {sample.name}")
        kept = [placed for number, placed in enumerate(rows) if number not in found]
        drops = [
            Drop(rows[number], name, "it is in a suite", how)
            for number, how in sorted(found.items())
        ]
        return kept, drops

    def _loaded(self, context: Context) -> list[Suite]:
        for suite in self.suites:
            if not (context.folder / suite).is_file():
                hint = f"paths go from the pipeline: looked for {context.folder / suite}"
                raise UserError(f"the suite is not there: {suite}", hint=hint)
        return [load_suite(context.folder / suite) for suite in self.suites]


def passages_of(rows: Sequence[Placed]) -> list[Passage]:
    """What of each row is compared with a suite: every text, the question without the words that
    all questions have alike, and each answer with what was asked: a text may be cut in two.
    """
    asked = [_asked(placed) for placed in rows]
    passages = []
    for placed, question, own in zip(rows, asked, unframed(asked), strict=True):
        texts = tuple(dict.fromkeys(said(placed.row)))
        joined = tuple(f"{question} {text}" for text in texts if question and text != question)
        passages.append(Passage(placed.file, placed.id, texts, (own,), joined))
    return passages


def _asked(placed: Placed) -> str:
    """What is asked last, or the first text of a row without a conversation."""
    turns = placed.row.get("messages")
    if isinstance(turns, list):
        said_by_user = [t for t in turns if isinstance(t, dict) and t.get("role") == "user"]
        if said_by_user and isinstance(said_by_user[-1].get("content"), str):
            return str(said_by_user[-1]["content"])
    return next(iter(said(placed.row)), "")
