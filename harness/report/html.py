"""A run as one self-contained HTML file: no script, nothing fetched, light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from harness.comparison.evidence import MetricSummary
from harness.core.escape import visible
from harness.core.format import number
from harness.core.types import Run
from harness.gate.explain import allowed_of, change_of, evidence_of, interval_of, sentences
from harness.gate.verdict import MetricVerdict, Verdict

REACH = 4.0
"""Margins to either side of the anchor that the picture shows; what lies further is drawn there."""

WIDTH, ROW, LABEL = 720, 34, 230

SIGNS = {"pass": "✓", "fail": "✗", "inconclusive": "◆", "incomparable": "○"}
COLORS = {"pass": "#009E73", "fail": "#D55E00", "inconclusive": "#E69F00"}
STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #8884}
.scroll{overflow-x:auto}th,td:not(:last-child){white-space:nowrap}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8881;padding:.6rem;border-radius:.3rem;
max-height:20rem;overflow:auto}
.quiet{opacity:.72;font-size:.85rem}.headline{font-size:1.1rem;font-weight:600}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(16rem,1fr));gap:1rem}
svg text{font:12px system-ui,sans-serif;fill:currentColor}
svg{width:100%;min-width:34rem;height:auto}
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
) -> str:
    """The whole page. Text of models and suites is escaped, and its invisible characters shown."""
    body = [f"<h1>{_text(run.model)}</h1>", *_facts(run)]
    if judged is not None:
        body += _verdict(judged)
    body += _metrics(metrics)
    if moved:
        body += ["<h2>Samples that moved most</h2>", *(_moved(sample) for sample in moved)]
    body += _provenance(run)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>Ratchet · {_text(run.model)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _facts(run: Run) -> Iterator[str]:
    facts = [
        f"run {run.id}",
        f"suite {run.suite} {run.suite_digest[:8]}",
        f"model {run.model_digest[:12]}",
        f"seed {run.seed}",
        f"{run.started_at:%Y-%m-%d %H:%M} UTC",
    ]
    yield f'<p class="quiet">{_text(" · ".join(facts))}</p>'


def _verdict(judged: Judged) -> Iterator[str]:
    verdict = judged.verdict
    yield "<h2>Verdict</h2>"
    first, *rest = sentences(verdict)
    yield f'<p class="headline">{SIGNS[verdict.outcome.value]} {_text(first)}</p>'
    for sentence in rest:
        yield f"<p>{_text(sentence)}</p>"
    drawn = [r for r in verdict.rows if r.allowed.change and r.measured.change is not None]
    yield from _forest(drawn)
    yield _table(
        ("metric", "role", "anchor", "candidate", "change", "margin", "evidence", "verdict"),
        [
            (
                row.name,
                row.role,
                number(row.measured.anchor),
                number(row.measured.candidate),
                f"{change_of(row)} {interval_of(row)}",
                allowed_of(row),
                evidence_of(row),
                f"{SIGNS[row.outcome.value]} {row.outcome.value}",
            )
            for row in verdict.rows
        ],
    )
    yield f'<p class="quiet">{_text(f"verdict {judged.id} against {judged.against}")}</p>'


def _forest(rows: Sequence[MetricVerdict]) -> Iterator[str]:
    """Changes with their intervals in units of the margin: 0 the anchor, −1 what is allowed."""
    if not rows:
        return
    height = ROW * len(rows) + 36
    yield '<div class="scroll">'
    yield f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="changes in margins">'
    left, zero, bottom = _x(-1.0), _x(0.0), ROW * len(rows)
    yield f'<rect x="{left}" width="{zero - left}" height="{bottom}" fill="#56B4E9" opacity=".16"/>'
    yield f'<line x1="{zero}" x2="{zero}" y2="{bottom}" stroke="#888"/>'
    yield f'<line x1="{left}" x2="{left}" y2="{bottom}" stroke="#D55E00" stroke-dasharray="5 4"/>'
    for place, row in enumerate(rows):
        yield from _bar(row, ROW * place + ROW // 2)
    for margin in (-4, -2, -1, 0, 2, 4):
        text = f"{margin:+d}".replace("-", "−") if margin else "0"
        yield f'<text x="{_x(margin)}" y="{bottom + 16}" text-anchor="middle">{text}</text>'
    yield f'<text x="{zero}" y="{bottom + 32}" text-anchor="middle">worse ← margins → better</text>'
    yield "</svg></div>"
    level = f"{rows[0].measured.level:.0%}"
    yield (
        '<p class="quiet">0 is the anchor, the dashed line the margin, the shaded band what it '
        f"allows. Bars are {level} intervals of the paired change; what lies beyond "
        "the edge is drawn on it.</p>"
    )


def _bar(row: MetricVerdict, y: int) -> Iterator[str]:
    allowed, change = row.allowed.change, row.measured.change
    assert allowed is not None
    assert change is not None
    color = COLORS.get(row.outcome.value, "#8C8C8C")
    ends = sorted(-end / allowed for end in row.measured.interval or (change, change))
    at, name = -change / allowed, row.name if row.required else f"({row.name})"
    yield f'<text x="{LABEL - 12}" y="{y + 4}" text-anchor="end">{_text(name)}</text>'
    yield (
        f'<line x1="{_x(ends[0])}" x2="{_x(ends[1])}" y1="{y}" y2="{y}" stroke="{color}" '
        'stroke-width="3" opacity=".7"/>'
    )
    yield f'<circle cx="{_x(at)}" cy="{y}" r="5" fill="{color}"/>'


def _x(margins: float) -> float:
    share = (min(max(margins, -REACH), REACH) + REACH) / (2 * REACH)
    return round(LABEL + share * (WIDTH - LABEL - 16), 1)


def _metrics(metrics: Sequence[MetricSummary]) -> Iterator[str]:
    yield "<h2>Metrics</h2>"
    yield _table(
        ("metric", "value", "95% interval", "scored", "unit", "not scored because"),
        [
            (
                ("↑ " if line.direction == "higher" else "↓ ") + line.metric,
                number(line.estimate.value),
                "–"
                if line.estimate.low is None
                else f"{number(line.estimate.low)} – {number(line.estimate.high)}",
                f"{line.counts.scored:,} of {line.counts.total:,}",
                line.unit,
                line.counts.reason or "",
            )
            for line in metrics
        ],
    )


def _moved(sample: Moved) -> str:
    head = (
        f"{sample.metric} · {sample.sample_id} · "
        f"{number(sample.anchor)} → {number(sample.candidate)}"
    )
    sides = "".join(
        f"<div><p>{name}</p>{''.join(_pre(text) for text in said)}</div>"
        for name, said in (("anchor", sample.anchor_said), ("candidate", sample.candidate_said))
    )
    return (
        f"<details><summary>{_text(head)}</summary>{_pre(sample.asked)}"
        f'<div class="sides">{sides}</div></details>'
    )


def _provenance(run: Run) -> Iterator[str]:
    yield "<h2>Where it comes from</h2>"
    parts: dict[str, Any] = {**run.fingerprint.subject, **run.fingerprint.provenance}
    rows = [(name, str(value)) for name, value in parts.items() if value is not None]
    yield _table(("what", "value"), rows)


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
