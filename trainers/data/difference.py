"""What differs between two versions of a data set: rows that came, went and changed, and why."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.types import Row
from harness.data.datasets import Version

Rows = Mapping[str, Sequence[Row]]
"""id -> the rows of that id, train before validation."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two versions, row by row; rows are the same row where their ids are.

    came      rows of the new version that the old one doesn't have, by what dropped them there
              (`step: reason`), or `not read there`
    went      rows of the old version that the new one doesn't have, likewise
    changed   (before, after) of rows that say something else
    moved     rows that went from train to validation or back
    """

    old: Version
    new: Version
    came: Mapping[str, Sequence[Row]]
    went: Mapping[str, Sequence[Row]]
    changed: Sequence[tuple[Row, Row]]
    moved: int
    same: int
    steps: Sequence[str]


def compared(old: Version, new: Version) -> Difference:
    """Raises UserError where a file of a version can't be read."""
    before, after = _rows(old), _rows(new)
    lost_before, lost_after = _drops(old), _drops(new)
    changed: list[tuple[Row, Row]] = []
    moved = same = 0
    came: dict[str, list[Row]] = defaultdict(list)
    went: dict[str, list[Row]] = defaultdict(list)
    for name in dict.fromkeys((*before, *after)):
        was, now = before.get(name, ()), after.get(name, ())
        for (part, row), (other, again) in zip(was, now, strict=False):
            moved += part != other
            same += row == again
            if row != again:
                changed.append((row, again))
        for _, row in was[len(now) :]:
            went[lost_after.get(name, "not read there")].append(row)
        for _, row in now[len(was) :]:
            came[lost_before.get(name, "not read there")].append(row)
    return Difference(old, new, _most(came), _most(went), changed, moved, same, _steps(old, new))


def _rows(version: Version) -> dict[str, list[tuple[str, Row]]]:
    found: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for part in ("train", "valid"):
        if version.meta["rows"][part]:
            for _, row in version.rows(part):
                found[str(row["id"])].append((part, row))
    return found


def _drops(version: Version) -> dict[str, str]:
    """By id: `step: reason` of the rows that a version dropped."""
    path = version.folder / "drops.jsonl"
    drops = map(json.loads, path.read_text(encoding="utf-8").split("\n")[:-1])
    return {drop["id"]: f"{drop['step']}: {drop['reason']}" for drop in drops if drop["id"]}


def _most(reasons: Mapping[str, list[Row]]) -> dict[str, list[Row]]:
    return dict(sorted(reasons.items(), key=lambda each: (-len(each[1]), each[0])))


def _steps(old: Version, new: Version) -> list[str]:
    """A line for each step that one of them alone has, or whose options differ."""
    before, after = (_named(version) for version in (old, new))
    lines = []
    for name in dict.fromkeys((*before, *after)):
        if name not in after:
            lines.append(f"{name}: gone")
        elif name not in before:
            lines.append(f"{name}: new, {_written(after[name]['options'])}")
        elif before[name]["signature"] != after[name]["signature"]:
            options = [_written(side[name]["options"]) for side in (before, after)]
            same = "the same options, another version of it or of what it reads"
            lines.append(f"{name}: {' → '.join(options) if options[0] != options[1] else same}")
    return lines


def _named(version: Version) -> dict[str, Any]:
    seen: Counter[str] = Counter()
    found = {}
    for step in version.meta["steps"]:
        seen[step["step"]] += 1
        again = seen[step["step"]]
        found[step["step"] if again == 1 else f"{step['step']} ({again})"] = step
    return found


def _written(options: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{k}: {json.dumps(v)}" for k, v in options.items()) + "}"
