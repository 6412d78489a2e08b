"""A verdict as Markdown: a pull-request comment, or a page."""

from __future__ import annotations

from collections.abc import Iterable

from harness.core.escape import visible
from harness.core.format import number
from harness.core.types import VerdictOutcome
from harness.gate.explain import allowed_of, change_of, evidence_of, interval_of, sentences, why
from harness.gate.verdict import MetricVerdict, Verdict

COMMENT_BYTES = 64_000
"""GitHub's limit for a comment is 65,536; the rest is room for text around the verdict."""

MARKS = {
    VerdictOutcome.PASS: "✅",
    VerdictOutcome.FAIL: "❌",
    VerdictOutcome.INCONCLUSIVE: "🟡",
    VerdictOutcome.INCOMPARABLE: "⚪",
}
HEADER = (
    "| metric | anchor | candidate | change | margin | verdict |\n"
    "| :-- | --: | --: | :-- | --: | :-- |"
)


def to_markdown(
    verdict: Verdict,
    *,
    title: str = "Ratchet",
    limit: int = COMMENT_BYTES,
    samples: int = 10,
    why: str = "",
) -> str:
    """Headline, table, `why` (`explained_markdown`), one sentence a metric, the samples that moved
    most; at most `limit` bytes.

    What doesn't fit is left out from the end, with a note that says so.
    """
    mark = MARKS[verdict.outcome]
    head = [f"## {mark} {_text(title)}: {verdict.outcome.value}", "", _text(verdict.headline), ""]
    head += [HEADER, *(_line(row) for row in _ordered(verdict))]
    head += ["", f"Changes with their {verdict.level:.0%} interval. Required metrics are bold."]
    extra = [_text(sentence) for sentence in sentences(verdict)[1:]]
    reasons = [why.strip()] if why.strip() else []
    blocks = ["\n".join(head), *extra, *reasons, *_details(verdict, samples)]
    return _fitting(blocks, limit)


def _ordered(verdict: Verdict) -> list[MetricVerdict]:
    order = {"required": 0, "watched": 1, "advisory": 2}
    return sorted(verdict.rows, key=lambda row: order[row.role])


def _line(row: MetricVerdict) -> str:
    name = f"**{_cell(row.name)}**" if row.required else _cell(row.name)
    word = "waived" if row.waived else row.outcome.value
    word = f"({word})" if row.role == "advisory" else f"{MARKS[row.outcome]} {word}"
    change = " ".join(part for part in (change_of(row), interval_of(row)) if part)
    cells = (
        name,
        number(row.measured.anchor),
        number(row.measured.candidate),
        change,
        allowed_of(row),
        word,
    )
    return f"| {' | '.join(cells)} |"


def _details(verdict: Verdict, samples: int) -> Iterable[str]:
    sentences = "\n".join(f"- {_text(why(row))}" for row in _ordered(verdict))
    if sentences:
        yield f"<details><summary>Every metric in words</summary>\n\n{sentences}\n\n</details>"
    rows = verdict.failing() or tuple(row for row in verdict.rows if row.required)
    for row in rows:
        if row.measured.moved and samples:
            yield _moved(row, samples)


def _moved(row: MetricVerdict, samples: int) -> str:
    lines = [
        f"<details><summary>{_cell(row.name)}: samples that moved most, of "
        f"{evidence_of(row)}</summary>",
        "",
        "| sample | anchor | candidate | z |",
        "| :-- | --: | --: | --: |",
    ]
    lines += [
        f"| {_cell(m.id)} | {number(m.anchor)} | {number(m.candidate)} "
        f"| {number(m.z, signed=True)} |"
        for m in row.measured.moved[:samples]
    ]
    return "\n".join([*lines, "", "</details>"])


def _fitting(blocks: list[str], limit: int) -> str:
    """As many blocks as fit, with a note where some don't."""
    note = "\n\n_Shortened: `ratchet gate --json` has everything._\n"
    text = ""
    for block in blocks:
        longer = f"{text}\n\n{block}" if text else block
        if len(longer.encode()) + len(note.encode()) > limit:
            return (text or _cut(block, limit - len(note.encode()))) + note
        text = longer
    return text + "\n"


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes, ending with a whole line."""
    kept = text.encode()[: max(limit, 0)].decode(errors="ignore")
    return kept.rpartition("\n")[0] or kept


def in_markdown(text: str, *, edges: bool = False) -> str:
    """Plain text that Markdown and HTML leave alone, on one line; with `edges` a blank at either
    end stays one.
    """
    said = _text(visible(text))
    if not edges:
        return said
    return f"{' ' * text[:1].isspace()}{said}{' ' * (bool(said) and text[-1:].isspace())}"


def _text(text: str) -> str:
    """Plain text that Markdown and HTML leave alone."""
    for mark in ("\\", "`", "*", "_", "<", "[", "]", "#", "@"):
        replacement = "&lt;" if mark == "<" else f"\\{mark}"
        text = text.replace(mark, replacement)
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _text(text).replace("|", "\\|")
