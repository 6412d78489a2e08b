"""Peers live in virtual environments of their own, beside `.venv`, made when first asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_of(name: str, *installs: tuple[str, ...]) -> Path | None:
    """The Python of `.venv-NAME`, after each of `installs` was given to pip, in that order.

    None, said aloud, where an installation fails: the caller leaves the peer's row out.
    """
    folder = ROOT / f".venv-{name}"
    python, done = folder / "bin" / "python", folder / ".installed"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            for packages in installs:
                subprocess.run([*pip, *packages], check=True)
            done.touch()
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"  {name} can't be installed, its row is left out: {error}", flush=True)
        return None
    return python
