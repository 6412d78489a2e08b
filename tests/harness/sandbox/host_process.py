"""A child process of the tests that hosts a sandbox, so that a leak harms only this process.

Run by `sandbox_builders`, inside an outer process namespace where the machine allows one. Reads a
line of JSON per request on stdin, answers with one on stdout.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.sandbox.outcome import Job, Limits
from harness.sandbox.pool import Sandbox


def facts() -> dict[str, Any]:
    """What must not grow: descriptors here, processes and their memory anywhere beneath."""
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "processes": len(processes),
        "memory": sum(_resident(pid) for pid in processes),
        "temporary": sorted(str(path) for path in Path("/tmp").glob("ratchet-sandbox-*")),
    }


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def main() -> None:
    workers, tier = int(sys.argv[1]), sys.argv[2]
    with Sandbox(workers=workers, tier=tier) as sandbox:  # type: ignore[arg-type]
        print(json.dumps({"tier": sandbox.tier}), flush=True)
        for line in sys.stdin:
            jobs = [Job(**{**row, "limits": Limits(**row["limits"])}) for row in json.loads(line)]
            outcomes = [asdict(outcome) for outcome in sandbox.run_many(jobs)]
            print(json.dumps({"outcomes": outcomes, **facts()}), flush=True)


if __name__ == "__main__":
    main()
