"""A reviewer accepts or rejects harvested rows; only accepted ones are written out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.core.errors import UserError
from harness.core.files import write_atomic
from harness.data.duplicates import Index, Passage, first_like
from harness.watch.intake.masking import mask

if TYPE_CHECKING:
    from harness.store.store import Store
    from harness.watch.feedback.harvest import Side

Goal = Literal["suite", "rating", "sft", "preference"]
SIDES: Mapping[Goal, Side] = {
    "suite": "sample",
    "rating": "sample",
    "sft": "training",
    "preference": "training",
}
"""Each goal, and the side whose items it is made from."""

SOURCE = "ratchet watch"
_EDITABLE = ("prompt", "target")


@dataclass(frozen=True, slots=True)
class HarvestedItem:
    """A harvested item that waits for a person's decision."""

    item_id: str
    kind: Side
    reason: str
    item: Mapping[str, Any]
    observation_id: str
    model_digest: str | None


@dataclass(frozen=True, slots=True)
class Approved:
    """An item as a person left it, with who said yes and when."""

    item_id: str
    kind: Side
    item: Mapping[str, Any]
    observation_id: str
    model_digest: str | None
    reason: str
    reviewer: str
    reviewed_at: datetime

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            "source": SOURCE,
            "observation_id": self.observation_id,
            "model_digest": self.model_digest,
            "reason": self.reason,
            "reviewer": self.reviewer,
            "reviewed_at": self.reviewed_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows a file got, and the items that were left out, each with the reason."""

    path: Path
    rows: int
    left_out: Mapping[str, str]


def goal_of(name: str) -> Goal:
    """The goal of that name. Raises UserError where there is none."""
    for goal in SIDES:
        if goal == name:
            return goal
    raise UserError(f"{name!r} is not a goal", field="--to", hint=f"one of {', '.join(SIDES)}")


def pending(store: Store, limit: int = 50) -> list[HarvestedItem]:
    """What waits for a person, the oldest first."""
    rows = store.query(
        "SELECT item_id, kind, reason, item, observation_id, model_digest FROM harvested h "
        "WHERE NOT EXISTS (SELECT 1 FROM harvest_reviews r WHERE r.item_id = h.item_id) "
        "ORDER BY seq LIMIT ?",
        [limit],
    )
    return [HarvestedItem(**row) for row in rows]


def review(
    store: Store,
    item: str,
    *,
    yes: bool,
    reviewer: str,
    edits: Mapping[str, str] | None = None,
    reason: str | None = None,
) -> str:
    """Record a person's decision about an item (its id, or the beginning of it); the full id.

    `edits` are a new prompt or target, masked like everything else. The last decision counts.
    Raises UserError for an unknown item, an empty reviewer, and a yes to training without a target.
    """
    found = _find(store, item)
    if not reviewer.strip():
        raise UserError("a decision needs a reviewer's name", field="--by", hint="say who decides")
    content = dict(found.item)
    for name, text in (edits or {}).items():
        if name not in _EDITABLE:
            raise UserError(f"{name!r} can't be edited", field=name, hint="prompt or target")
        content[name] = mask(text).text.strip() or None
    if yes and not content.get("prompt"):
        raise UserError("the item has no prompt", field="prompt", hint="give one with --prompt")
    if yes and found.kind == "training" and not content.get("target"):
        raise UserError(
            "the item has no better answer to train on",
            field="target",
            hint="give one with --target",
        )
    row = {
        "item_id": found.item_id,
        "decision": "yes" if yes else "no",
        "reviewer": reviewer.strip(),
        "item": content if edits else None,
        "reason": reason,
    }
    store.append("harvest_reviews", [row])
    return found.item_id


def approved(store: Store) -> list[Approved]:
    """Every item whose last decision is yes, in the order of the decisions."""
    rows = store.query(
        """
        SELECT h.item_id, h.kind, coalesce(r.item, h.item) AS item, h.observation_id,
            h.model_digest, h.reason, r.reviewer, r.reviewed_at
        FROM harvested h JOIN (
            SELECT * FROM harvest_reviews
            QUALIFY row_number() OVER (PARTITION BY item_id ORDER BY seq DESC) = 1
        ) r USING (item_id) WHERE r.decision = 'yes' ORDER BY r.seq
        """
    )
    return [Approved(**row) for row in rows]


def write(store: Store, goal: Goal, path: Path, *, against: Sequence[Passage] = ()) -> Written:
    """Write the approved items of a goal as JSONL, whole or not at all.

    A file that this function wrote before is replaced.

    suite        {id, prompt, response, target where there is one}: `prompt: {user: "{{ prompt }}"}`
    rating       {prompt, better, worse}: known pairs for `ratchet rate create --gold`
    sft          {id, prompt, completion}
    preference   {id, prompt, chosen, rejected}

    Each row says where it comes from. Left out is what is nearly the same as something approved
    before it on the other side, which an edit can bring about, or as a text of `against`. Raises
    UserError where nothing is left, or the file was written by something else.
    """
    _require_own_file(path)
    kept, left_out = _apart(approved(store), SIDES[goal], Index(against))
    rows = []
    for item in kept:
        row = _ROWS[goal](item)
        if row is None:
            left_out[item.item_id] = "no better answer is known"
        else:
            rows.append(row | item.provenance)
    if not rows:
        raise UserError(
            f"nothing that a person said yes to goes into {goal}",
            hint="see what waits with `ratchet watch review`",
        )
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, text)
    return Written(path, len(rows), left_out)


# The rest is private.


def _find(store: Store, item: str) -> HarvestedItem:
    rows = store.query(
        "SELECT item_id, kind, reason, item, observation_id, model_digest FROM harvested "
        "WHERE starts_with(item_id, ?) LIMIT 2",
        [item],
    )
    if len(rows) != 1 or not item:
        what = "begins several items" if rows else "is not a harvested item"
        raise UserError(
            f"{item!r} {what}", field="item", hint="`ratchet watch review` lists what waits"
        )
    return HarvestedItem(**rows[0])


def _apart(
    items: Sequence[Approved], side: Side, against: Index
) -> tuple[list[Approved], dict[str, str]]:
    """The items of one side, and why others of it are left out.

    Of two that are nearly the same, the one approved first stays: a later decision must not
    remove what a file of the other side already holds.
    """
    sides: dict[str, Index] = {"sample": Index(), "training": Index()}
    kept, left_out = [], {}
    for item in items:
        prompt = str(item.item["prompt"])
        other = sides["training" if item.kind == "sample" else "sample"]
        twin = first_like(other, [prompt])
        known = first_like(against, [prompt], besides=item.item_id) if item.kind == side else None
        if twin is None:
            sides[item.kind].add([Passage(item.kind, item.item_id, (prompt,))])
        if item.kind != side:
            continue
        if twin is not None:
            left_out[item.item_id] = f"nearly the same as {twin.name}, which is {twin.group}"
        elif known is not None:
            left_out[item.item_id] = f"nearly the same as {known.group} {known.name}"
        else:
            kept.append(item)
    return kept, left_out


def _suite(item: Approved) -> dict[str, Any]:
    row = {"id": item.item_id, "prompt": item.item["prompt"], "response": item.item["response"]}
    return row | ({"target": item.item["target"]} if item.item.get("target") else {})


def _rating(item: Approved) -> dict[str, Any] | None:
    better, worse = item.item.get("target"), item.item["response"]
    if not better or not worse or better == worse:
        return None
    return {"prompt": item.item["prompt"], "better": better, "worse": worse}


def _sft(item: Approved) -> dict[str, Any]:
    return {
        "id": item.item_id,
        "prompt": item.item["prompt"],
        "completion": item.item["target"],
    }


def _preference(item: Approved) -> dict[str, Any] | None:
    chosen, rejected = item.item["target"], item.item["response"]
    if not rejected or chosen == rejected:
        return None
    return {
        "id": item.item_id,
        "prompt": item.item["prompt"],
        "chosen": chosen,
        "rejected": rejected,
    }


_ROWS = {"suite": _suite, "rating": _rating, "sft": _sft, "preference": _preference}


def _require_own_file(path: Path) -> None:
    if path.suffix.lower() != ".jsonl":
        raise UserError("the file must be JSONL", file=path, hint="name it .jsonl")
    try:
        with path.open(encoding="utf-8") as file:
            first = file.readline()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError):
        first = ""
    try:
        ours = json.loads(first).get("source") == SOURCE
    except (ValueError, AttributeError):
        ours = False
    if not ours:
        raise UserError(
            "this file was not written by `ratchet watch harvest`, and would be lost",
            file=path,
            hint="name another file with --out",
        )
