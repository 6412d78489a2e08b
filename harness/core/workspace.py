"""The folder `.ratchet/` beside the user's work, and what lies where in it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UserError
from harness.core.text_file import is_whole

HOME_VARIABLE = "RATCHET_HOME"


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths under one `.ratchet/`. Nothing is written elsewhere, unless a verb is given a path."""

    home: Path

    @classmethod
    def at(cls, home: str | Path | None = None) -> Workspace:
        """The workspace named by `home`, else by RATCHET_HOME, else `./.ratchet`. Raises UserError
        for a name that no program can be told.
        """
        place = Path(home or os.environ.get(HOME_VARIABLE) or ".ratchet").absolute()
        if not is_whole(str(place)):
            raise UserError(
                "the workspace's path is not UTF-8, and the database can't be given it",
                file=place,
                hint="choose another folder with --home DIR, or rename the one that holds it",
            )
        return cls(place)

    @property
    def database(self) -> Path:
        return self.home / "ratchet.duckdb"

    @property
    def journal(self) -> Path:
        return self.home / "journal"

    @property
    def checkpoints(self) -> Path:
        """Immutable model folders, each named by the digest of its bytes."""
        return self.home / "checkpoints"

    @property
    def lines(self) -> Path:
        return self.home / "lines"

    @property
    def trainings(self) -> Path:
        return self.home / "trainings"

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def require(self) -> Workspace:
        """The workspace itself, for who only reads. Raises UserError where there is none."""
        if not self.home.is_dir():
            raise UserError(
                "there is no workspace here",
                file=self.home,
                field="--home",
                hint="name the folder that `ratchet score` or `ratchet train` wrote",
            )
        return self

    def ensure(self) -> Workspace:
        """Create the folders. Raises UserError where that is not permitted."""
        folders = (
            self.home,
            self.journal,
            self.checkpoints,
            self.lines,
            self.trainings,
            self.cache,
            self.logs,
        )
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
            # A workspace inside somebody's repository is not to be committed.
            ignore = self.home / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"the workspace can't be written: {error.strerror}",
                file=error.filename or self.home,
                hint="choose another folder with --home DIR, or fix its permissions",
            ) from error
        return self
