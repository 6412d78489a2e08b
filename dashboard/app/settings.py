"""Environment variables by which `ratchet dashboard` passes its options to Streamlit."""

from __future__ import annotations

import contextlib
import os

NICENESS = 10

ACTIONS_VARIABLE = "RATCHET_DASHBOARD_ACTIONS"
"""`1`: promote, roll back and mark as anchor are offered."""

OIDC_VARIABLE = "RATCHET_DASHBOARD_OIDC"
"""Not empty: nobody enters without a log-in."""


def give_way() -> None:
    """Those who train, score and rate on this machine go first: a page can wait. For this process
    and those that it becomes or starts.
    """
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
