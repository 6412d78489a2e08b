"""How long the processor's threads wait for each other before they give their core away."""

from __future__ import annotations

import os

SPINS = "3000"
"""Turns of the loop in which GNU OpenMP waits. Its own 300,000 are milliseconds: alone that is
free, but where another process has a core, nearly every wait lasts as long as that process's turn,
and is spent spinning. At 3,000 a lone process is a few percent slower and a crowded one ten times
as fast (`python -m tests.benchmarks crowded`).
"""


def wait_briefly() -> None:
    """Let threads that wait for each other sleep soon, unless the environment says how they wait.

    Must come before torch is imported: its OpenMP reads this once. Child processes inherit it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
