"""How busy this machine is: its memory, and its GPUs where there are any."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ASKED = "name,utilization.gpu,memory.used,memory.total"
_TIMEOUT_S = 3


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: `busy` is a share 0 to 1 or None where the driver can't say; memory in GiB."""

    name: str
    busy: float | None
    used: float
    total: float


@dataclass(frozen=True, slots=True)
class Machine:
    """Memory in GiB; `load` is runnable processes per core over the last minute."""

    used: float | None
    total: float | None
    load: float | None
    gpus: tuple[Gpu, ...]


def now() -> Machine:
    """What the system says at this moment. Whatever it doesn't say is None."""
    used, total = _memory(Path("/proc/meminfo"))
    return Machine(used, total, _load(), _gpus())


def _memory(source: Path) -> tuple[float | None, float | None]:
    try:
        lines = source.read_text(encoding="ascii").splitlines()
    except OSError:
        return None, None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if len(line.split()) > 1}
    total, free = kib.get("MemTotal"), kib.get("MemAvailable")
    if total is None or free is None:
        return None, None
    return (total - free) / 2**20, total / 2**20


def _load() -> float | None:
    import os

    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return None


def _gpus() -> tuple[Gpu, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    command = [program, f"--query-gpu={_ASKED}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(gpu for line in done.stdout.splitlines() if (gpu := parse(line)))


def parse(line: str) -> Gpu | None:
    """One line of nvidia-smi; None where it is not one. MIG slices have no utilisation."""
    parts = [part.strip() for part in line.split(",")]
    try:
        name, busy, used, total = parts
        share = float(busy) / 100 if busy.replace(".", "").isdigit() else None
        return Gpu(name, share, float(used) / 1024, float(total) / 1024)
    except ValueError:
        return None
