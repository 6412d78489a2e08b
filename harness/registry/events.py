"""The registry's events in the store: added, promoted, rolled back, pruned."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from typing import Any

from harness.registry.lines import PromotedVersion
from harness.store.store import Store


class RegistryEvents:
    """The registry's events in one store: appended once, read back by digest or line."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def catch_up(self, line: str, versions: Sequence[PromotedVersion]) -> None:
        """Append an event for every version of a line that has none yet."""
        known = {
            row["version"]
            for row in self._store.query(
                "SELECT try_cast(detail ->> '$.version' AS INTEGER) AS version "
                "FROM checkpoints WHERE line = ? AND event IN ('promoted', 'rolled_back')",
                [line],
            )
        }
        for version in versions:
            if version.number not in known:
                self._append_version(version)

    def contains(self, digest: str, provenance: dict[str, Any]) -> bool:
        """Whether the checkpoint's latest event of `added` and `pruned` is `added` with this
        provenance (training_id, step, run_id).
        """
        rows = self._store.query(
            "SELECT event, training_id, step, run_id FROM checkpoints WHERE digest = ? "
            "AND event IN ('added', 'pruned') ORDER BY seq DESC LIMIT 1",
            [digest],
        )
        return rows == [{"event": "added", **provenance}]

    def added(self, digest: str) -> dict[str, Any]:
        """training_id, step and run_id of the checkpoint's latest `added` event, preferring one
        that names a run; empty where it was never added.
        """
        rows = self._store.query(
            "SELECT training_id, step, run_id FROM checkpoints WHERE digest = ? "
            "AND event = 'added' ORDER BY run_id IS NULL, seq DESC LIMIT 1",
            [digest],
        )
        return rows[0] if rows else {}

    def append(self, digest: str, event: str, **rest: Any) -> None:
        """Append one event; `rest` are further columns of the table `checkpoints`."""
        path = f"checkpoints/{digest}"
        actor = rest.pop("actor", None) or who()
        row = {"digest": digest, "event": event, "path": path, "actor": actor, **rest}
        self._store.append("checkpoints", [row])

    def _append_version(self, version: PromotedVersion) -> None:
        added = self.added(version.digest)
        self.append(
            version.digest,
            version.event,
            line=version.line,
            training_id=added.get("training_id"),
            step=added.get("step"),
            run_id=version.run_id,
            verdict_id=version.verdict_id,
            actor=version.actor,
            reason=version.override or version.reason,
            happened_at=version.at,
            detail={
                "version": version.number,
                "previous": version.previous,
                "override": version.override is not None,
            },
        )


def who() -> str:
    """The name recorded as an event's actor: the user's, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
