"""`make bench`: every speed as a ratio against a named peer timed in the same run.

Writes docs/benchmarks.md. `--quick` uses small sizes and writes nothing; names of topics
(`store`, `lm_eval` …) choose some of them, whose rows then replace the old ones. `gpu` is a command
of its own with a page of its own, docs/gpu.md (`bench_gpu`).

`bench_*.py` measure speed; `figures_*.py` measure quality and print the tables that other pages
cite, each by a command of its own: `python -m tests.benchmarks.figures_watch`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "benchmarks.md"
ROWS = HERE.parents[1] / "docs" / "benchmarks.json"
COLUMNS = ("what", "ours", "peer", "ratio", "goal", "note")


def main() -> None:
    """Run the chosen topics and write the page."""
    if sys.argv[1:2] == ["gpu"]:
        sys.exit(importlib.import_module("tests.benchmarks.bench_gpu").main(sys.argv[2:]))
    found = {path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py")}
    topics = sorted(found - {"gpu"})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="*", choices=[*topics, []], default=topics)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    for topic in chosen.topics or topics:
        print(f"== {topic}", flush=True)
        machine = _machine()
        rows = importlib.import_module(f"tests.benchmarks.bench_{topic}").run(quick=chosen.quick)
        for row in rows:
            print("  " + " | ".join(str(row.get(column, "")) for column in COLUMNS), flush=True)
        if not chosen.quick:
            # Read late: another topic may have been measured meanwhile.
            kept = json.loads(ROWS.read_text(encoding="utf-8")) if ROWS.exists() else {}
            kept[topic] = {"on": str(date.today()), "machine": machine, "rows": rows}
            ROWS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
            PAGE.write_text(_page(kept), encoding="utf-8")


def _machine() -> str:
    # A busy machine slows both sides, yet seldom by the same factor: a reader must know.
    load = f"load {os.getloadavg()[0]:.1f} when it began"
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.machine()}, {python}, {load}"


def _page(kept: dict[str, dict[str, object]]) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; one topic by `.venv/bin/python -m tests.benchmarks TOPIC`. Each",
        "row is a ratio against a named peer that was timed in the same run, interleaved, medians.",
        "Absolute times are this machine's; the ratio is what carries over.",
    ]
    for topic, result in sorted(kept.items()):
        lines += ["", f"## {topic}", "", f"{result['on']}, {result['machine']}.", ""]
        lines += ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
        rows = result["rows"]
        assert isinstance(rows, list)
        for row in rows:
            cells = [_cell(row.get(column, "")) for column in COLUMNS]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
