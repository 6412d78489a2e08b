"""How `ratchet dashboard` tells its server what it may do."""

from __future__ import annotations

ACTIONS_VARIABLE = "RATCHET_DASHBOARD_ACTIONS"
"""`1`: promote, roll back and mark as anchor are offered."""

OIDC_VARIABLE = "RATCHET_DASHBOARD_OIDC"
"""Not empty: nobody enters without a log-in."""
