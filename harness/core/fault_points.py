"""Named points where fault-injection tests end this process; they do nothing otherwise.

Where the environment variable RATCHET_FAULT holds `label` or `label:n`, the n-th passage of that
point (the first by default) ends the process with SIGKILL, as a power cut would: no handler
runs, no buffer is flushed.
"""

from __future__ import annotations

import os
import signal

FAULT_VARIABLE = "RATCHET_FAULT"

LABELS = (
    "mid-append",
    "mid-create",
    "mid-drain",
    "after-commit",
    "mid-migration",
    "mid-checkpoint",
    "before-rename",
    "mid-promotion",
    "mid-rollback",
    "mid-import",
    "mid-push",
    "before-judgement",
    "before-rollback",
    "mid-rejection",
)
"""Every point there is: of the store, the artifacts and the registry, then of the trainers."""

_passages = 0


def fault_point(label: str) -> None:
    """End this process with SIGKILL if RATCHET_FAULT names this point; otherwise do nothing."""
    wanted = os.environ.get(FAULT_VARIABLE)
    if wanted is None:
        return
    name, _, count = wanted.partition(":")
    if name != label:
        return
    global _passages
    _passages += 1
    if _passages >= int(count or 1):
        os.kill(os.getpid(), signal.SIGKILL)
