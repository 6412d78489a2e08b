"""Which words a model lost: tokens that became less likely, and answers that changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.attribution.sample import files_of
from harness.comparison.where import compared, print_plain
from harness.core.errors import UserError
from harness.core.escape import visible
from harness.core.protocol import MetricName
from harness.core.text_diff import Part, diff
from harness.core.types import Response, Run
from harness.gate.pairing import Paired
from harness.store.runs import run_responses
from harness.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.workspace import Workspace

TEXTS = 3
"""Texts, and pairs of answers, that are shown of each task: those that lost most."""
WORDS = 8
FEWEST = 2
"""Places at which a token stands before it is named as one."""
CERTAIN = 50.0
"""Nats; a change beyond, from or to a probability of 0, counts as this much."""
SHOWN = 400
_AROUND = 30

Place = tuple[str, str, str, int]
"""Task, sample, kind and index of a response: the same in both runs."""


@dataclass(frozen=True, slots=True)
class Told:
    """A text that both models were asked to find likely: its tokens, and of each the change of
    ln p, candidate minus anchor, in nats.
    """

    sample: str
    tokens: tuple[int, ...]
    nats: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """A token, at how many places it stands, and its mean change of ln p there, in nats."""

    token: int
    places: int
    mean: float


def told(anchor: Sequence[Response], candidate: Sequence[Response]) -> dict[str, list[Told]]:
    """Task -> the texts and references that both found as the same tokens, most lost first."""
    before = {_place(each): each for each in anchor if each.logprobs}
    found: dict[str, list[Told]] = defaultdict(list)
    for after in candidate:
        other = before.get(_place(after))
        if other is None or not after.logprobs or not after.token_ids:
            continue
        if other.token_ids != after.token_ids or len(after.logprobs) != len(after.token_ids):
            continue
        nats = tuple(map(_change, other.logprobs or (), after.logprobs))
        found[after.task].append(Told(after.sample_id, after.token_ids, nats))
    return {task: sorted(texts, key=lambda one: sum(one.nats)) for task, texts in found.items()}


def most_lost(texts: Sequence[Told]) -> list[Lost]:
    """The tokens that lost most beyond what a token of these texts lost on average, over all their
    places together, the worst first.
    """
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for text in texts:
        for token, nats in zip(text.tokens, text.nats, strict=True):
            sums[token][0] += 1
            sums[token][1] += nats
    places = sum(n for n, _ in sums.values())
    average = sum(nats for _, nats in sums.values()) / places if places else 0.0
    worst = sorted(sums.items(), key=lambda each: each[1][1] - each[1][0] * average)
    return [
        Lost(token, int(n), nats / n)
        for token, (n, nats) in worst
        if n >= FEWEST and nats < min(0.0, n * average)
    ]


def wording(store: Store, workspace: Workspace, verdict_id: str, console: Console) -> None:
    """Which words"""
    anchor, candidate, pairs = compared(store, verdict_id)
    tasks = {MetricName.parse(name).task for name in pairs}
    sides = [
        [each for each in run_responses(store, run.id) if each.task in tasks]
        for run in (anchor, candidate)
    ]
    texts = told(*sides)
    answers = _changed(sides[0], sides[1], pairs)
    if not texts and not answers:
        raise UserError(
            "no answer changed, and no text has the probabilities of the same tokens in both runs"
        )
    if texts:
        _say_tokens(console, texts, _tokenizer(candidate, workspace))
    for task, shown in answers.items():
        print_plain(console, f"{task}: what the answers say that lost most")
        for sample, before, after in shown:
            _say_answers(console, sample, before, after)


def _say_tokens(console: Console, texts: Mapping[str, Sequence[Told]], tokenizer: Any) -> None:
    if tokenizer is None:
        print_plain(
            console,
            "Which tokens became less likely is stored, but not what they say: the candidate's "
            "tokenizer isn't here any more, or never was.",
        )
        return
    for task, mine in texts.items():
        print_plain(
            console,
            f"{task}: change of ln p(token) over {len(mine)} texts that should be likely, "
            "candidate − anchor, in nats",
        )
        named = [(_read(tokenizer, (each.token,)), each) for each in most_lost(mine)[: 4 * WORDS]]
        words = [
            f"{visible(text.strip(), 24)!r} {each.mean:+.2f} at {each.places}"
            for text, each in named
            if text.strip() and "\ufffd" not in text
        ]
        print_plain(console, f"  most lost, on average: {', '.join(words[:WORDS]) or 'none'}")
        for text in mine[:TEXTS]:
            _say_text(console, text, tokenizer)


def _say_text(console: Console, text: Told, tokenizer: Any) -> None:
    from rich.text import Text

    pieces = list(_pieces(tokenizer, text))
    worst = sorted(pieces, key=lambda piece: piece[1])[:WORDS]
    line = Text(f"  {visible(text.sample, 40)} ({sum(text.nats):+.2f}): ")
    for said, nats in pieces[:SHOWN]:
        # Nothing is said by color alone: the worst pieces carry their number.
        heavy = (said, nats) in worst and nats <= -1.0
        shown = _flat(said) + (f"⟨{nats:+.1f}⟩" if heavy else "")
        line.append(shown, style="bold red" if nats <= -1.0 else "red" if nats <= -0.3 else "")
    line.truncate(4 * SHOWN, overflow="ellipsis")
    console.print(line)


def _pieces(tokenizer: Any, text: Told) -> Iterator[tuple[str, float]]:
    """What each token adds to the text; those that are parts of one character, together."""
    begin = 0
    for end in range(1, len(text.tokens) + 1):
        before = text.tokens[begin - 1 : begin] if begin else ()
        said = _read(tokenizer, text.tokens[begin - len(before) : end])
        said = said[len(_read(tokenizer, before)) :]
        if said.endswith("\ufffd") and end < len(text.tokens):
            continue
        yield said, sum(text.nats[begin:end])
        begin = end


def _read(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)) if tokens else ""


def _tokenizer(run: Run, workspace: Workspace) -> Any:
    """The tokenizer that a run's model was scored with; None where its files aren't here."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(files_of(run, workspace).tokenizer)
    except (UserError, OSError, ValueError):
        return None


def _changed(
    anchor: Sequence[Response], candidate: Sequence[Response], pairs: Mapping[str, Paired]
) -> dict[str, list[tuple[str, str, str]]]:
    """Task -> (sample, anchor's answer, candidate's) of the samples that lost most, where the first
    answers differ.
    """
    before, after = (
        {
            (each.task, each.sample_id): each.text
            for each in reversed(side)
            if each.kind == "generation" and each.error is None
        }
        for side in (anchor, candidate)
    )
    found: dict[str, list[tuple[str, str, str]]] = {}
    for name, paired in pairs.items():
        task = MetricName.parse(name).task
        if task in found:
            continue
        worst = sorted(zip(-paired.harm, paired.ids, strict=True))
        both = [
            (sample, before[task, sample], after[task, sample])
            for harm, sample in worst
            if harm < 0 and (task, sample) in before and (task, sample) in after
        ]
        if different := [each for each in both if each[1] != each[2]]:
            found[task] = different[:TEXTS]
    return found


def _say_answers(console: Console, sample: str, before: str, after: str) -> None:
    from rich.text import Text

    ours, theirs = diff(before, after)
    for who, parts, marks, style in (
        ("anchor", ours, ("[-", "-]"), "red"),
        ("candidate", theirs, ("{+", "+}"), "green"),
    ):
        line = Text(f"  {visible(sample, 40)}, {who}: ")
        for text, differs in _short(parts):
            line.append(f"{marks[0]}{text}{marks[1]}" if differs else text, style * differs)
        console.print(line)


def _short(parts: Sequence[Part]) -> Iterator[Part]:
    """What differs, and a few characters around it."""
    left = SHOWN
    for text, differs in parts:
        if left <= 0:
            yield " …", False
            return
        if not differs and len(text) > 2 * _AROUND + 3:
            text = f"{text[:_AROUND]} … {text[-_AROUND:]}"
        cut = text if len(text) <= left else f"{text[:left]} …"
        left -= len(text)
        yield _flat(cut), differs


def _flat(text: str) -> str:
    return visible(text, None).replace("\n", "⏎").replace("\t", " ")


def _place(response: Response) -> Place:
    return response.task, response.sample_id, response.kind, response.index


def _change(before: float, after: float) -> float:
    if before == after:
        return 0.0
    return max(-CERTAIN, min(CERTAIN, after - before))
