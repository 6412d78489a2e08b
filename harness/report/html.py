"""A run as one self-contained HTML file: no script, nothing fetched, light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from harness.comparison.evidence import MetricSummary
from harness.core.escape import visible
from harness.core.format import number
from harness.core.types import Run
from harness.gate.explain import (
    allowed_of,
    change_of,
    evidence_of,
    interval_of,
    row_in_margins,
    sentences,
)
from harness.gate.verdict import MetricVerdict, Verdict
from harness.report import zh_verdict
from harness.report.zh_report import Language, Say, in_language

REACH = 20.0
"""Margins to either side of the anchor that the picture shows, on a scale that is linear about the
anchor and logarithmic further out; what lies beyond stands at the edge, with an arrow."""

WIDTH, ROW, SIDE = 420, 46, 14
"""Of the picture, in pixels of a phone: its width, the height of a row, and what is left free."""

NAME = 56
"""Characters of a metric's name that fit above its bar."""

SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "◆", "incomparable": "○"}
COLORS = {"pass": "#009E73", "fail": "#D55E00", "inconclusive": "#E69F00"}
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
overflow-wrap:anywhere}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884}
.scroll{overflow-x:auto;overflow-wrap:normal}td:last-child{min-width:7rem}th,td:not(:last-child){white-space:nowrap}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;padding:.6rem;border-radius:.3rem;
max-height:20rem;overflow:auto}
.quiet{opacity:.72;font-size:.85rem}.headline{font-size:1.1rem;font-weight:600}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:1rem}
svg text{font:12px system-ui,sans-serif;fill:currentColor}
svg{display:block;width:100%;max-width:48rem;height:auto}
""".strip()
# Nothing that a model wrote could run or be fetched even if the escaping failed.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Moved:
    """One sample that moved most, with what was asked and what both sides said."""

    metric: str
    sample_id: str
    anchor: float
    candidate: float
    asked: str
    anchor_said: Sequence[str]
    candidate_said: Sequence[str]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on a run, its id, and the run that it was compared with."""

    id: str
    verdict: Verdict
    against: str


def to_html(
    run: Run,
    metrics: Sequence[MetricSummary],
    judged: Judged | None = None,
    moved: Sequence[Moved] = (),
    standing: Sequence[str] = (),
    *,
    language: Language = "en",
) -> str:
    """The whole page, in English or Chinese. `standing` is what its lines have to say of it.

    Text of models and suites is escaped, and its invisible characters shown.
    """
    say = in_language(language)
    body = [f"<h1>{_text(run.model)}</h1>", *_facts(run, say)]
    body += [f"<p>{_text(said)}</p>" for said in standing]
    if judged is not None:
        body += _verdict(judged, say, language)
    body += _metrics(metrics, say)
    if moved:
        body += [f"<h2>{say('Samples that moved most')}</h2>", *(_moved(one, say) for one in moved)]
    body += _provenance(run, say)
    code = {"zh": "zh-CN"}.get(language, language)
    return (
        f'<!doctype html>\n<html lang="{code}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Ratchet · {_text(run.model)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _facts(run: Run, say: Say) -> Iterator[str]:
    facts = [
        f"{say('run')} {run.id}",
        f"{say('suite')} {run.suite} {run.suite_digest[:8]}",
        f"{say('model')} {run.model_digest[:12]}",
        f"{say('seed')} {run.seed}",
        f"{run.started_at:%Y-%m-%d %H:%M} UTC",
    ]
    yield f'<p class="quiet">{_text(" · ".join(facts))}</p>'


def _verdict(judged: Judged, say: Say, language: Language) -> Iterator[str]:
    verdict = judged.verdict
    chinese = language == "zh"
    yield f"<h2>{say('Verdict')}</h2>"
    first, *rest = zh_verdict.sentences(verdict) if chinese else sentences(verdict)
    yield f'<p class="headline">{SIGNS[verdict.outcome.value]} {_text(first)}</p>'
    for sentence in rest:
        yield f"<p>{_text(sentence)}</p>"
    yield from _forest([row for row in verdict.rows if row_in_margins(row) is not None], say)
    names = ("metric", "role", "anchor", "candidate", "change", "margin", "evidence", "verdict")
    yield _table(
        [say(name) for name in names],
        [
            (
                row.name,
                say(row.role),
                number(row.measured.anchor),
                number(row.measured.candidate),
                f"{change_of(row)} {interval_of(row)}",
                allowed_of(row),
                zh_verdict.evidence(row) if chinese else evidence_of(row),
                f"{SIGNS[row.outcome.value]} {say(row.outcome.value)}",
            )
            for row in verdict.rows
        ],
    )
    against = judged.against.replace("run", say("run"), 1)
    source = f"{say('verdict')} {judged.id} {say('against')} {against}"
    yield f'<p class="quiet">{_text(source)}</p>'


def _forest(rows: Sequence[MetricVerdict], say: Say) -> Iterator[str]:
    """Changes with their intervals in units of the margin: 0 the anchor, −1 what is allowed."""
    if not rows:
        return
    height = ROW * len(rows) + 40
    yield (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{say("changes in margins")}">'
    )
    left, zero, bottom = _x(-1.0), _x(0.0), ROW * len(rows)
    width = round(zero - left, 1)
    yield f'<rect x="{left}" width="{width}" height="{bottom}" fill="#56B4E9" opacity=".16"/>'
    yield f'<line x1="{zero}" x2="{zero}" y2="{bottom}" stroke="#888"/>'
    yield f'<line x1="{left}" x2="{left}" y2="{bottom}" stroke="#D55E00" stroke-dasharray="5 4"/>'
    for place, row in enumerate(rows):
        yield from _bar(row, ROW * place)
    for margin in (-20, -5, -2, -1, 0, 1, 2, 5, 20):
        text = f"{margin:+d}".replace("-", "−") if margin else "0"
        yield f'<text x="{_x(margin)}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
    axis = say("worse ← margins → better")
    yield f'<text x="{zero}" y="{bottom + 34}" text-anchor="middle">{axis}</text>'
    yield "</svg>"
    level = f"{rows[0].measured.level:.0%}"
    said = say(
        "0 is the anchor, the dashed line the margin, the shaded band what it allows. Bars are "
        "{level} intervals of the paired change; what lies beyond the scale stands at its edge, "
        "with an arrow."
    )
    yield f'<p class="quiet">{said.format(level=level)}</p>'


def _bar(row: MetricVerdict, top: int) -> Iterator[str]:
    """The row's name, and below it its change, or at the edge what lies beyond the scale."""
    found = row_in_margins(row)
    assert found is not None
    at, low, high = found
    color = COLORS.get(row.outcome.value, "#8C8C8C")
    name = row.name if row.required else f"({row.name})"
    short = name if len(name) <= NAME else f"{name[: NAME - 1]}…"
    y = top + 31
    yield f'<text x="{SIDE}" y="{top + 16}">{_text(short)}</text>'
    if abs(at) > REACH:
        side, said = ("end", f"{change_of(row)} →") if at > 0 else ("start", f"← {change_of(row)}")
        yield (
            f'<text x="{_x(at)}" y="{y + 4}" text-anchor="{side}" style="fill:{color}">'
            f"{_text(said)}</text>"
        )
        return
    yield (
        f'<line x1="{_x(low)}" x2="{_x(high)}" y1="{y}" y2="{y}" stroke="{color}" '
        'stroke-width="3" opacity=".7"/>'
    )
    yield f'<circle cx="{_x(at)}" cy="{y}" r="5" fill="{color}"/>'


def _x(margins: float) -> float:
    held = min(max(margins, -REACH), REACH)
    share = (math.copysign(math.log1p(abs(held)), held) / math.log1p(REACH) + 1) / 2
    return round(SIDE + share * (WIDTH - 2 * SIDE), 1)


def _metrics(metrics: Sequence[MetricSummary], say: Say) -> Iterator[str]:
    yield f"<h2>{say('Metrics')}</h2>"
    names = ("metric", "value", "95% interval", "scored", "unit", "not scored because")
    yield _table(
        [say(name) for name in names],
        [
            (
                ("↑ " if line.direction == "higher" else "↓ ") + line.metric,
                number(line.estimate.value),
                "–"
                if line.estimate.low is None
                else f"{number(line.estimate.low)} – {number(line.estimate.high)}",
                f"{line.counts.scored:,} / {line.counts.total:,}",
                say(line.unit),
                line.counts.reason or "",
            )
            for line in metrics
        ],
    )


def _moved(sample: Moved, say: Say) -> str:
    head = (
        f"{sample.metric} · {sample.sample_id} · "
        f"{number(sample.anchor)} → {number(sample.candidate)}"
    )
    sides = "".join(
        f"<div><p>{say(name)}</p>{''.join(_pre(text) for text in said)}</div>"
        for name, said in (("anchor", sample.anchor_said), ("candidate", sample.candidate_said))
    )
    return (
        f"<details><summary>{_text(head)}</summary>{_pre(sample.asked)}"
        f'<div class="sides">{sides}</div></details>'
    )


def _provenance(run: Run, say: Say) -> Iterator[str]:
    yield f"<h2>{say('Where it comes from')}</h2>"
    parts: dict[str, Any] = {**run.fingerprint.subject, **run.fingerprint.provenance}
    rows = [(name, str(value)) for name, value in parts.items() if value is not None]
    yield _table((say("setting"), say("value")), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    names = "".join(f"<th>{_text(name)}</th>" for name in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>\n" for row in rows
    )
    return f'<div class="scroll"><table><tr>{names}</tr>\n{lines}</table></div>'


def _pre(text: str) -> str:
    return f"<pre>{_text(text)}</pre>"


def _text(text: str) -> str:
    return escape(visible(text))
