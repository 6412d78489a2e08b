"""An installed package as Python sees one: a folder with modules and entry points."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def write_package(
    folder: Path, name: str, modules: Mapping[str, str], points: Mapping[str, Mapping[str, str]]
) -> Path:
    """Install the package `name` in `folder`: file -> source, and group -> name -> target."""
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    groups = [
        f"[{group}]\n" + "".join(f"{key} = {target}\n" for key, target in named.items())
        for group, named in points.items()
    ]
    (about / "entry_points.txt").write_text("\n".join(groups))
    for file, source in modules.items():
        (folder / file).write_text(source, encoding="utf-8")
    return folder


def ratchet_with(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `ratchet` where the packages in `folder` are installed, in the folder above it."""
    path = os.pathsep.join((str(folder), str(ROOT)))
    return subprocess.run(
        [sys.executable, "-m", "harness", *words],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
