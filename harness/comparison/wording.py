"""What the terminal says of the words that a model lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from harness.comparison.lost_words import NAMED, LostText, LostTexts, lost_words
from harness.comparison.where import print_plain
from harness.core.escape import visible
from harness.core.text_diff import Part, diff
from harness.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.workspace import Workspace

SHOWN = 400
_AROUND = 30


def wording(store: Store, workspace: Workspace, verdict_id: str, console: Console) -> None:
    """Which words"""
    found = lost_words(store, workspace, verdict_id)
    if found.texts and not found.is_read:
        print_plain(
            console,
            "Which tokens became less likely is stored, but not what they say: the candidate's "
            "tokenizer isn't here any more, or never was.",
        )
    elif found.texts:
        for task, texts in found.texts.items():
            _say_texts(console, task, texts)
    for task, shown in found.answers.items():
        print_plain(console, f"{task}: what the answers say that lost most")
        for each in shown:
            _say_answers(console, each.sample, each.before, each.after)


def _say_texts(console: Console, task: str, texts: LostTexts) -> None:
    print_plain(
        console,
        f"{task}: change of ln p(token) over {texts.count} texts that should be likely, "
        "candidate − anchor, in nats",
    )
    words = [
        f"{visible(word, 24)!r} {each.mean:+.2f} in {each.texts}" for word, each in texts.named
    ]
    named = ", ".join(words) or "no word stands out"
    print_plain(console, f"  lost more than the others, on average: {named}")
    for text in texts.worst:
        _say_text(console, text)


def _say_text(console: Console, text: LostText) -> None:
    from rich.text import Text

    worst = sorted(text.pieces, key=lambda piece: piece[1])[:NAMED]
    line = Text(f"  {visible(text.sample, 40)} ({text.nats:+.2f}): ")
    for said, nats in text.pieces[:SHOWN]:
        # Nothing is said by color alone: the worst pieces carry their number.
        heavy = (said, nats) in worst and nats <= -1.0
        shown = flat(said) + (f"⟨{nats:+.1f}⟩" if heavy else "")
        line.append(shown, style="bold red" if nats <= -1.0 else "red" if nats <= -0.3 else "")
    line.truncate(4 * SHOWN, overflow="ellipsis")
    console.print(line)


def _say_answers(console: Console, sample: str, before: str, after: str) -> None:
    from rich.text import Text

    ours, theirs = diff(before, after)
    for who, parts, marks, style in (
        ("anchor", ours, ("[-", "-]"), "red"),
        ("candidate", theirs, ("{+", "+}"), "green"),
    ):
        line = Text(f"  {visible(sample, 40)}, {who}: ")
        for text, differs in short(parts):
            line.append(f"{marks[0]}{text}{marks[1]}" if differs else text, style * differs)
        console.print(line)


def short(parts: Sequence[Part]) -> Iterator[Part]:
    """What differs, and a few characters around it, each on one line."""
    left = SHOWN
    for text, differs in parts:
        if left <= 0:
            yield " …", False
            return
        if not differs and len(text) > 2 * _AROUND + 3:
            text = f"{text[:_AROUND]} … {text[-_AROUND:]}"
        cut = text if len(text) <= left else f"{text[:left]} …"
        left -= len(text)
        yield flat(cut), differs


def flat(text: str) -> str:
    """Text of somebody else's on one line."""
    return visible(text, None).replace("\n", "⏎").replace("\t", " ")
