"""The harness's own time: many samples through a backend that answers at once."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from tests.benchmarks.peers import ROOT

SAMPLES = 100_000
METRICS = ("exact_match", "rouge_l", "length")
AGAIN = (sys.executable, "-m", "tests.benchmarks.bench_harness")


def run(quick: bool = False) -> list[dict[str, object]]:
    """Rows for all samples, for half of them (what memory adds per sample), and for a second call
    that finds nothing left; each in a process of its own.
    """
    samples = SAMPLES // (50 if quick else 1)
    with tempfile.TemporaryDirectory() as folder:
        suites = {n: _suite(Path(folder), n) for n in (samples // 2, samples)}
        half = _apart(suites[samples // 2], Path(folder) / "half")
        whole = _apart(suites[samples], Path(folder) / "whole")
        again = _apart(suites[samples], Path(folder) / "whole")
    rate = samples / whole["seconds"]
    more = (whole["mb"] - half["mb"]) * 1e3 / (samples / 2)
    note = f"{', '.join(METRICS)}; a backend that answers at once"
    memory = f"{half['mb']:,.0f} MB for half as many: {more:.1f} kB a sample; not streamed"
    return [
        {
            "what": f"{samples:,} samples with {len(METRICS)} metrics",
            "ours": f"{whole['seconds']:.1f} s",
            "peer": "4,000 samples/s (goal)",
            "ratio": 4000 / rate,
            "goal": "≤ 1",
            "note": f"{rate:,.0f} samples/s; {note}",
        },
        {
            "what": "asked again, nothing left",
            "ours": f"{again['seconds']:.1f} s",
            "peer": "5 s (goal)",
            "ratio": again["seconds"] / 5,
            "goal": "≤ 1",
            "note": note,
        },
        {
            "what": "peak memory",
            "ours": f"{whole['mb']:,.0f} MB",
            "peer": f"{half['mb']:,.0f} MB (half the samples)",
            "ratio": whole["mb"] / half["mb"],
            "goal": "≤ 1 past 100,000",
            "note": memory,
        },
    ]


def _suite(folder: Path, samples: int) -> Path:
    data = folder / f"{samples}.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for n in range(samples):
            row = {"id": f"s{n}", "q": f"What is {n} plus {n % 7}?", "a": f"It is {n + n % 7}."}
            file.write(json.dumps(row) + "\n")
    task = {
        "data": data.name,
        "prompt": {"user": "{{ q }}"},
        "reference": "{{ a }}",
        "metrics": list(METRICS),
    }
    path = folder / f"{samples}.yaml"
    path.write_text(yaml.safe_dump({"name": "many", "tasks": {"sums": task}}), "utf-8")
    return path


def _apart(suite: Path, home: Path) -> dict[str, float]:
    done = subprocess.run(
        [*AGAIN, str(suite), str(home)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _score(suite: Path, home: Path) -> dict[str, float]:
    from harness.backends.base import Candidate
    from harness.backends.scripted import ScriptedBackend
    from harness.core.workspace import Workspace
    from harness.evaluation.runner import score
    from harness.store.store import Store
    from harness.suite.load import load_suite

    backend = ScriptedBackend(lambda prompt, _: prompt.split("What is ")[-1][:20])
    candidate = Candidate("scripted", "0" * 64, backend.subject, lambda: backend)
    began = time.perf_counter()
    with Store(Workspace.at(home)) as store:
        score(candidate, load_suite(suite), store)
    taken = time.perf_counter() - began
    return {"seconds": taken, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    print(json.dumps(_score(Path(sys.argv[1]), Path(sys.argv[2]))))
