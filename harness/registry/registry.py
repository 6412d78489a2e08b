"""Checkpoints by the digest of their bytes, and the promoted version of each line.

What a line points to is kept on disk (see `registry.lines`), where any server can follow it; the
store keeps the events. The disk is right where they differ: an event that a kill kept from being
stored is stored by the next call.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core import files as artifacts
from harness.core.errors import UserError
from harness.core.lock import FairLock, Patience
from harness.core.workspace import Workspace
from harness.registry import lines, pruning
from harness.registry.events import RegistryEvents, who
from harness.registry.lines import PromotedVersion
from harness.registry.pruning import Pruned
from harness.store.store import Store

_LOCK_TIMEOUT_S = 60.0


class Registry:
    """The checkpoints and lines of one workspace. Safe for several processes at once."""

    def __init__(
        self,
        workspace: Workspace,
        store: Store,
        *,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self._workspace = workspace
        self._store = store
        self._events = RegistryEvents(store)
        self._on_wait = on_wait

    # Checkpoints.

    def add(
        self,
        folder: Path,
        *,
        training_id: str | None = None,
        step: int | None = None,
        run_id: str | None = None,
    ) -> str:
        """Copy a model's files into the workspace and return their digest, 64 hexadecimal digits.

        The same bytes are kept once. A folder may hold a whole model or an adapter, with its
        tokenizer; only files that decide its answers are copied (`core.files.model_files`). Raises
        UserError where there are none.
        """
        if not folder.is_dir():
            raise UserError("there is no such folder", file=folder)
        digest = artifacts.digest_of_folder(folder)
        with self._locked():
            place = self._workspace.checkpoints / digest
            # A stored copy that was damaged since is replaced, and kept aside with the reason.
            if place.exists() and artifacts.verify(place):
                artifacts.set_aside(place, "; ".join(artifacts.verify(place)))
            if not place.exists():
                self._take_in(folder, place, digest)
            provenance = {"training_id": training_id, "step": step, "run_id": run_id}
            if not self._events.contains(digest, provenance):
                self._events.append(digest, "added", **provenance)
        return digest

    def path(self, digest: str) -> Path:
        """The folder of a checkpoint, by its digest or the beginning of it (6 digits or more).

        Raises UserError where there is none, or more than one.
        """
        found = [
            path for path in self._folders() if len(digest) >= 6 and path.name.startswith(digest)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(f"{digest!r} begins more than one digest", hint="give more digits")
        raise UserError(
            f"there is no checkpoint {digest!r}",
            file=self._workspace.checkpoints,
            hint="name one of `ratchet history`, or add a folder",
        )

    # Lines.

    def promote(
        self,
        line: str,
        digest: str,
        *,
        verdict_id: str | None = None,
        actor: str | None = None,
        reason: str | None = None,
        override: str | None = None,
        run_id: str | None = None,
        expect: str | None = None,
    ) -> PromotedVersion:
        """Make a checkpoint the promoted one of a line; a kill leaves the old one or the new one.

        Its files must be intact, and its verdict `pass` (or `promotable` in the verdict's
        detail). The first promotion of a line needs no verdict; any other that lacks one needs
        `override`, a reason, which is recorded. `expect` is the digest that the verdict compared
        with: where another has been promoted meanwhile, nothing is changed. Raises UserError where
        one of these does not hold. Promoting what is promoted already changes nothing.
        """
        folder = self._line(line)
        checkpoint = self.path(digest)
        problems = artifacts.verify(checkpoint)
        if problems:
            raise UserError(f"the checkpoint is broken: {problems[0]}", file=checkpoint)
        with self._locked():
            before = lines.current(folder)
            _require_unchanged(line, before, expect)
            if before is not None and before.digest == checkpoint.name:
                return before
            if not override:
                self._require_verdict(line, verdict_id, first=before is None)
            promoted = self._promote(
                folder,
                checkpoint,
                event="promoted",
                before=before,
                previous=before.number if before else None,
                run_id=run_id or self._events.added(checkpoint.name).get("run_id"),
                verdict_id=verdict_id,
                actor=actor,
                reason=reason,
                override=override,
            )
        # After the disk, which decides: an event that a kill keeps from the store is made good by
        # the next `reconcile`, while one stored before the disk changed would be untrue.
        self.reconcile(line)
        return promoted

    def rollback(
        self,
        line: str,
        to: str | None = None,
        *,
        actor: str | None = None,
        reason: str | None = None,
        expect: str | None = None,
    ) -> PromotedVersion:
        """Promote an earlier version again: the one before, or the checkpoint `to`.

        That makes a new version with its own record; a second rollback goes further back. `expect`
        is as in `promote`. Raises UserError where another one has been promoted meanwhile, where
        there is nothing to go back to, or its files are damaged.
        """
        folder = self._line(line)
        with self._locked():
            history = lines.versions(folder)
            _require_unchanged(line, history[-1] if history else None, expect)
            target = lines.earlier(history, line, to)
            problems = artifacts.verify(target.path)
            if problems:
                raise UserError(
                    f"version {target.number} of {line} can't be gone back to: {problems[0]}",
                    file=target.path,
                    hint="name another with --to DIGEST",
                )
            promoted = self._promote(
                folder,
                target.path,
                event="rolled_back",
                before=history[-1],
                previous=target.previous,
                run_id=target.run_id,
                verdict_id=target.verdict_id,
                actor=actor,
                reason=reason,
                override=None,
            )
        self.reconcile(line)
        return promoted

    def promoted(self, line: str) -> PromotedVersion | None:
        """What is promoted now; None where nothing was ever promoted. Reads no model file."""
        return lines.current(self._line(line))

    def history(self, line: str) -> list[PromotedVersion]:
        """Every version of a line, oldest first."""
        return lines.versions(self._line(line))

    def run_of(self, digest: str) -> str | None:
        """The run that scored this checkpoint, as given when it was added; None if none was."""
        run_id = self._events.added(digest).get("run_id")
        return str(run_id) if run_id else None

    def latest_verdict(self, digest: str) -> str | None:
        """The id of the latest verdict on the run that scored this checkpoint; None if none is."""
        rows = self._store.query(
            "SELECT verdict_id FROM verdicts WHERE candidate_run = ? ORDER BY seq DESC LIMIT 1",
            [self._events.added(digest).get("run_id")],
        )
        return rows[0]["verdict_id"] if rows else None

    def lines(self) -> list[str]:
        """The names of all lines."""
        home = self._workspace.lines
        found = home.iterdir() if home.is_dir() else ()
        return sorted(path.name for path in found if path.is_dir() and path.name[0] != ".")

    def verify(self, line: str | None = None, *, baselines: Path | None = None) -> list[str]:
        """Everything that is wrong, one sentence each: pointers, bytes, and the baselines.

        Reads every byte of the promoted checkpoints (of all checkpoints where `line` is None).
        `baselines` is the folder of committed bundles that say what should be promoted.
        """
        found = []
        names = self.lines() if line is None else [line]
        for name in names:
            folder = self._line(name)
            wrong = lines.problems(folder)
            found += wrong
            promoted = lines.current(folder) if not wrong else None
            if promoted is not None:
                found += [f"{name}: {problem}" for problem in artifacts.verify(promoted.path)]
                found += _against_baseline(promoted, baselines)
            elif not wrong:
                found.append(f"{name}: nothing was ever promoted")
        if line is None:
            for folder in self._folders():
                found += [f"{folder.name[:12]}: {p}" for p in artifacts.verify(folder)]
        return list(dict.fromkeys(found))

    # Housekeeping.

    def prune(
        self, *, keep: int = 3, dry_run: bool = True, baselines: Path | None = None
    ) -> Pruned:
        """Delete checkpoints that nothing refers to. With `dry_run` only says which.

        Kept, however old: the last `keep` promoted digests of every line; what any verdict compared
        with (anchors, best checkpoints) or a committed baseline names; what an unfinished training
        made; what was added since the last promotion. Raises UserError for a `keep` below 1.
        """
        if keep < 1:
            raise UserError("--keep must be at least 1: a promoted checkpoint is never deleted")
        with self._locked():
            histories = [self.history(line) for line in self.lines()]
            plan = pruning.plan(self._folders(), histories, self._store, keep, baselines)
            if not dry_run:
                for digest, size in plan.freed:
                    pruning.delete(self._workspace.checkpoints / digest)
                    self._events.append(digest, "pruned", detail={"bytes": size})
        return plan

    def reconcile(self, line: str) -> None:
        """Store the events of versions that lack one: a kill may come between disk and store."""
        with self._locked():
            self._events.catch_up(line, lines.versions(self._line(line)))

    # The rest is private.

    def _line(self, line: str) -> Path:
        return self._workspace.lines / lines.check_name(line)

    def _folders(self) -> list[Path]:
        home = self._workspace.checkpoints
        found = home.iterdir() if home.is_dir() else ()
        return sorted(path for path in found if len(path.name) == 64 and path.is_dir())

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._workspace.ensure()
        lock = FairLock(self._workspace.lines / ".lock")
        with lock.pass_through(Patience(_LOCK_TIMEOUT_S, self._on_wait)):
            yield

    def _take_in(self, folder: Path, place: Path, digest: str) -> None:
        # Only a training's committed folder is never written to again, so that a hard link is safe.
        own = folder.resolve().is_relative_to(self._workspace.trainings.resolve())
        with artifacts.staged(place) as staging:
            artifacts.copy_files(
                artifacts.model_files(folder),
                folder,
                staging,
                link=own and not artifacts.verify(folder),
            )
            if artifacts.digest_of_folder(staging) != digest:
                raise UserError(
                    "the files changed while they were copied", file=folder, hint="try again"
                )

    def _require_verdict(self, line: str, verdict_id: str | None, *, first: bool) -> None:
        if verdict_id is None:
            if first:
                return
            raise UserError(
                f"a promotion of {line} needs a verdict",
                hint='run `ratchet gate` first, or say why not with --override "reason"',
            )
        rows = self._store.query(
            "SELECT outcome, headline, detail FROM verdicts WHERE verdict_id = ?", [verdict_id]
        )
        if not rows:
            raise UserError(
                f"there is no verdict {verdict_id!r}", hint="`ratchet gate` makes and stores one"
            )
        detail = rows[0]["detail"] or {}
        if rows[0]["outcome"] != "pass" and not detail.get("promotable"):
            raise UserError(
                f"verdict {verdict_id} is {rows[0]['outcome']}, not pass: {rows[0]['headline']}",
                hint='only --override "reason" promotes it, and the reason is recorded for good',
            )

    def _promote(
        self,
        folder: Path,
        checkpoint: Path,
        *,
        before: PromotedVersion | None,
        actor: str | None,
        **rest: Any,
    ) -> PromotedVersion:
        pointer = {
            "format": 1,
            "line": folder.name,
            "version": before.number + 1 if before else 1,
            "digest": checkpoint.name,
            "path": os.path.relpath(checkpoint, folder),
            "actor": actor or who(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            **rest,
        }
        return lines.promote(folder, checkpoint, pointer)


def _require_unchanged(line: str, before: PromotedVersion | None, expect: str | None) -> None:
    if expect is not None and (before is None or before.digest != expect):
        now = before.digest[:12] if before else "nothing"
        raise UserError(
            f"{line} changed meanwhile: {now} is promoted, not {expect[:12]}",
            hint="decide again, against what is promoted now",
        )


def _against_baseline(promoted: PromotedVersion, baselines: Path | None) -> list[str]:
    from harness.store.bundle import run_id_of

    if baselines is None or not (baselines / promoted.line / "run.json").is_file():
        return []
    committed = run_id_of(baselines / promoted.line)
    if committed == promoted.run_id:
        return []
    return [
        f"{promoted.line}: the committed baseline is run {committed}, "
        f"and here run {promoted.run_id} is promoted"
    ]
