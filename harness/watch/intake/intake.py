"""Takes observations in: validates each, masks personal data, drops repeats, appends.

`Intake` counts everything that passes. `take` reads and masks and touches no file; `keep` makes
what was taken durable, for many senders at once. A sender hears that an observation was taken in
only after `keep` has returned.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.store.store import Store
from harness.watch.intake.masking import mask_observation
from harness.watch.intake.observation import Observation, Refused, read

BLANK = object()
"""Stands in for a blank line: the lines after it keep their numbers, and nothing is counted."""

REMEMBERED = 200_000
"""Ids of the latest observations, kept in memory to count repeats. An older repeat is appended once
more, and the store ignores it: `observation_id` is the table's key."""


@dataclass(slots=True)
class Counts:
    """What has passed since the process started, in observations.

    `refused` counts by the field that was at fault; `ignored` are spans of other kinds; `clocks`
    came from a clock ahead of this machine's. `masked` counts pieces of personal data instead.
    """

    accepted: int = 0
    duplicates: int = 0
    ignored: int = 0
    clocks: int = 0
    masked: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, refusal: Refused) -> None:
        name = refusal.field or "form"
        self.refused[name] = self.refused.get(name, 0) + 1

    def said(self) -> dict[str, Any]:
        """The counts as a JSON object, under the names that people read."""
        return {
            "accepted": self.accepted,
            "duplicates": self.duplicates,
            "refused": sum(self.refused.values()),
            "refused_by_field": dict(sorted(self.refused.items())),
            "ignored": self.ignored,
            "clocks_ahead": self.clocks,
            "masked": self.masked,
        }


@dataclass(frozen=True, slots=True)
class Taken:
    """What one sender sent together: what is fit to be kept, and what was refused."""

    observations: Sequence[Observation]
    refused: Sequence[Refused]


class Intake:
    """The way into one store. `take` and `keep` may run in different threads."""

    def __init__(self, store: Store, *, line: str | None = None) -> None:
        self.store = store
        self.line = line
        self.counts = Counts()
        self._key = masking_key(store.workspace.home)
        self._known: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def take(
        self,
        sent: Iterable[Any],
        *,
        source: str = "plain",
        reader: Callable[..., Observation] = read,
    ) -> Taken:
        """Read and mask each. `sent` holds JSON values, or a Refused or BLANK in place of one."""
        now = datetime.now(UTC)
        good, bad = [], []
        for index, item in enumerate(sent):
            if item is BLANK:
                continue
            try:
                if isinstance(item, Refused):
                    raise item
                seen = reader(item, now=now, line=self.line, source=source)
            except Refused as refusal:
                refusal.index = index
                bad.append(refusal)
            else:
                # Before anything is written: no file ever holds the text as it was sent.
                good.append(mask_observation(seen, self._key))
        return Taken(good, bad)

    def keep(self, many: Sequence[Taken]) -> list[int]:
        """Make all of it durable with one append. Returns the number of duplicates of each.

        Raises UserError where the store can't be written; nothing is then kept or counted.
        """
        with self._lock:
            fresh: dict[str, Observation] = {}
            duplicates = []
            for taken in many:
                before = len(fresh)
                for seen in taken.observations:
                    if seen.observation_id not in self._known:
                        fresh.setdefault(seen.observation_id, seen)
                duplicates.append(len(taken.observations) - (len(fresh) - before))
            self.store.append("observations", [seen.row() for seen in fresh.values()])
            # Only now: where the append failed, the sender tries again and must not be ignored.
            self._remember(fresh)
            self._count(many, fresh.values(), sum(duplicates))
        return duplicates

    def _remember(self, fresh: Iterable[str]) -> None:
        self._known.update(dict.fromkeys(fresh))
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def _count(self, many: Sequence[Taken], fresh: Iterable[Observation], duplicates: int) -> None:
        counts = self.counts
        counts.duplicates += duplicates
        for seen in fresh:
            counts.accepted += 1
            counts.masked += seen.masked or 0
            counts.clocks += isinstance(seen.detail, dict) and "clock_ahead_s" in seen.detail
        for taken in many:
            for refusal in taken.refused:
                counts.refuse(refusal)


def parse_json(text: bytes | str) -> Any:
    """The JSON value. NaN and numbers of any length are let through, for the field that holds one
    is what is refused later.

    Raises Refused where the text is not JSON, not UTF-8, or nested too deep.
    """
    # The two named errors are ValueErrors too, and must not be taken for a number that is too long.
    try:
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            raise
        except UnicodeDecodeError:
            raise
        except ValueError:  # a whole number of thousands of digits
            return json.loads(text, parse_int=float)
    except json.JSONDecodeError as error:
        raise Refused(
            f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except UnicodeDecodeError as error:
        raise Refused(f"not UTF-8: byte {error.start}") from None
    except RecursionError:
        raise Refused("nested too deep") from None


def parse_lines(text: bytes) -> Iterator[Any]:
    """For each line its value, BLANK where it is empty, or a Refused where it is not JSON."""
    for line in text.split(b"\n"):
        yield parse_line(line) if line.strip() else BLANK


def parse_line(line: bytes | str) -> Any:
    """The value of one line, or a Refused."""
    try:
        return parse_json(line)
    except Refused as refusal:
        return refusal


def masking_key(home: Path) -> bytes:
    """The workspace's 32-byte key for digests of ids, made on first use, for its owner to read.

    Raises UserError where it can't be written or read.
    """
    path = home / "masking.key"
    staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        if not path.exists():
            file = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "wb") as handle:
                handle.write(secrets.token_bytes(32))
                handle.flush()
                os.fsync(handle.fileno())
            try:
                os.link(staged, path)  # fails, unlike a rename, where another process was first
            except FileExistsError:
                pass
            finally:
                staged.unlink()
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the key for masked ids can't be kept: {error.strerror}",
            file=path,
            hint="fix the folder's permissions",
        ) from error
