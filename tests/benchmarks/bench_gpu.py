"""`python -m tests.benchmarks gpu`: what Ratchet makes of a GPU, beside its peers.

Random weights, no network. Parts named after `gpu` are run alone (`… gpu reading`); each takes
under 90 s, in a process of its own. The rows replace those of the same card in docs/gpu.json, and
docs/gpu.md is written anew. `--tiny` goes the whole way on a CPU with a model of some kilobytes:
it shows that the command works, and its rates say nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

from tests.benchmarks.gpu_parts import PARTS, ROOT, Rows
from tests.benchmarks.gpu_world import SIZES, TINY, WHOLE, place

PART_S = 90
COLUMNS = ("what", "ours", "peer", "ratio", "goal", "note")
DOCS = ROOT / "docs"


def run(quick: bool = False) -> Rows:
    """Rows of every part in this process; `quick` takes the tiny model."""
    with tempfile.TemporaryDirectory() as folder:
        here = place(TINY if quick else WHOLE, Path(folder))
        return [row for part in PARTS.values() for row in part(here)]


def main(arguments: list[str]) -> int:
    """Run the parts that are named, or all, and write the page. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks gpu", description=__doc__)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--tiny", action="store_true", help="the whole way on a CPU, in a minute")
    parser.add_argument("--to", type=Path, default=DOCS, help="where gpu.json and gpu.md go")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.parts) - set(PARTS)):
        parser.error(f"no part {unknown[0]!r}: there are {', '.join(PARTS)}")
    card = card_here()
    if card is None and not chosen.tiny:
        print("There is no GPU here. `--tiny` goes the whole way on a CPU, and measures nothing.")
        return 3
    size = TINY if chosen.tiny else WHOLE
    rows: dict[str, Rows] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in chosen.parts or PARTS:
            print(f"== {part}", flush=True)
            rows[part] = alone(part, size.name, Path(folder))
            for row in rows[part]:
                print("  " + " | ".join(shown(row, column) for column in COLUMNS), flush=True)
    if not chosen.tiny:
        kept_at = chosen.to / "gpu.json"
        kept = json.loads(kept_at.read_text("utf-8")) if kept_at.exists() else {}
        of_card = kept.setdefault(str(card), {})
        for part, found in rows.items():
            of_card[part] = {"on": str(date.today()), "rows": found}
        kept_at.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
        before = (DOCS / "gpu.md").read_text("utf-8")
        (chosen.to / "gpu.md").write_text(page(before, kept), encoding="utf-8")
    return 0


def alone(part: str, size: str, folder: Path) -> Rows:
    """The rows of a part that runs in a process of its own; what went wrong as its one row."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_gpu", part, size, str(folder)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PART_S * 4 / 3, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return [{"what": part, "ours": f"not done after {PART_S * 4 / 3:.0f} s"}]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
        return [{"what": part, "ours": f"failed: {last[:200]}"}]
    rows: Rows = json.loads(done.stdout.splitlines()[-1])
    return rows


def card_here() -> str | None:
    """The GPU's name and the libraries that a figure hangs on; None where there is no GPU."""
    import torch
    import transformers

    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return f"{name}, torch {torch.__version__}, transformers {transformers.__version__}"


def shown(row: dict[str, object], column: str) -> str:
    value = row.get(column, "")
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


MARK = "<!-- written by tests/benchmarks/bench_gpu.py from here on -->"


def page(before: str, kept: dict[str, dict[str, dict[str, object]]]) -> str:
    """docs/gpu.md as it was up to the mark, and then a table for each card."""
    head, mark, _ = before.partition(MARK)
    if not mark:
        raise SystemExit(f"docs/gpu.md has lost its line {MARK}")
    lines = [head + mark]
    for card, parts in sorted(kept.items()):
        lines += [f"\n### {card}\n"]
        lines += ["| part | " + " | ".join(COLUMNS) + " |", "| --- " * (1 + len(COLUMNS)) + "|"]
        for part, found in parts.items():
            rows = found["rows"]
            assert isinstance(rows, list)
            for row in rows:
                cells = [f"{part}, {found['on']}", *(shown(row, column) for column in COLUMNS)]
                lines.append("| " + " | ".join(cells) + " |")
        if missing := [part for part in PARTS if part not in parts]:
            lines.append(f"\nNot measured on this card yet: {', '.join(missing)}.")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    _, name, how_much, where = sys.argv
    print(json.dumps(PARTS[name](place(SIZES[how_much], Path(where)))))
