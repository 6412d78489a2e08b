"""Why a verdict came out as it did, in short, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.comparison.lost_words import lost_words
from harness.comparison.mistakes import SURE, count, kinds_between
from harness.comparison.taught_rows import taught_rows
from harness.comparison.where import fell, moved
from harness.comparison.wording import short
from harness.core.errors import UserError
from harness.core.text_diff import diff
from harness.core.workspace import Workspace
from harness.report.markdown import in_markdown
from harness.store.store import Store

KINDS = 5
ROWS = 10

Part = Callable[[Store, Workspace, str], Iterator[str]]


def explained_markdown(store: Store, workspace: Workspace, verdict_id: str) -> str:
    """Where, what kind, which words and, where somebody asked, which rows: a heading and a list of
    each, from what is stored. What can't be said is said in one sentence.
    """
    parts = ["### Why"]
    for heading, part in (
        ("Where it fell", _where),
        ("What kind of mistakes", _kinds),
        ("Which words", _words),
        ("Which rows taught it", _rows),
    ):
        try:
            lines = list(part(store, workspace, verdict_id))
        except UserError as error:
            lines = [f"{in_markdown(error.what)}."]
        if lines:
            parts.append("\n".join([f"**{heading}**", "", *(f"- {line}" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def _where(store: Store, workspace: Workspace, verdict_id: str) -> Iterator[str]:
    for each in fell(store, verdict_id):
        unit = f" {each.unit}" if each.unit else ""
        tail = "" if each.slices else " No slice stands out."
        mean = f"{moved(each.harm, unit)} on average over {each.n} samples.{tail}"
        yield f"{in_markdown(each.metric)}: {mean}"
        for one in each.slices:
            yield (
                f"{in_markdown(one.name)}: {moved(one.inside, unit)} on {one.n}, "
                f"{moved(one.outside, unit)} on the others (p = {one.p:.2g})"
            )


def _kinds(store: Store, workspace: Workspace, verdict_id: str) -> Iterator[str]:
    sure = [each for each in kinds_between(store, verdict_id) if each.p <= SURE]
    for each in sure[:KINDS]:
        yield (
            f"{in_markdown(each.task)}: {in_markdown(each.kind)}, {count(each.before)} → "
            f"{count(each.after)} of {each.n} samples (p = {each.p:.2g})"
        )
    if not sure:
        yield "No kind became surely more or fewer."


def _words(store: Store, workspace: Workspace, verdict_id: str) -> Iterator[str]:
    found = lost_words(store, workspace, verdict_id)
    for task, texts in found.texts.items():
        said = ", ".join(
            f"{in_markdown(repr(word))} {lost.mean:+.2f} in {lost.texts}"
            for word, lost in texts.named
        )
        if found.is_read:
            named = said or "no word stands out"
            yield f"{in_markdown(task)}: lost more than the others, in nats on average: {named}"
    for task, answers in found.answers.items():
        first = answers[0]
        before, after = (
            "".join(f"**{in_markdown(t)}**" if differs and t.strip() else in_markdown(t, edges=True)
                    for t, differs in short(parts))
            for parts in diff(first.before, first.after)
        )  # fmt: skip
        yield f"{in_markdown(task)}/{in_markdown(first.sample)}: “{before}” became “{after}”"


def _rows(store: Store, workspace: Workspace, verdict_id: str) -> Iterator[str]:
    found = taught_rows(store, workspace, verdict_id)
    for row in found.rows[:ROWS] if found else ():
        said = f": {in_markdown(row.said)}" if row.said else ""
        yield f"{in_markdown(row.place)}, {row.share:.1%} of the harm{said}"
