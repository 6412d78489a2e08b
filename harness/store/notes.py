"""What people wrote down about runs: tags and a note. The last of a run counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import UserError
from harness.store.store import Store

LONGEST = 2_000
"""Characters of a note."""


@dataclass(frozen=True, slots=True)
class Note:
    """Tags and words on a run, and who wrote them."""

    tags: tuple[str, ...] = ()
    text: str = ""
    actor: str = ""


def note_of(store: Store, run_id: str) -> Note:
    """What stands beside a run now; empty where nobody wrote anything."""
    rows = store.query(
        "SELECT tags, note, actor FROM run_notes WHERE run_id = ? ORDER BY seq DESC LIMIT 1",
        [run_id],
    )
    if not rows:
        return Note()
    return Note(tuple(rows[0]["tags"] or ()), rows[0]["note"] or "", rows[0]["actor"] or "")


def write_note(
    store: Store,
    run_id: str,
    *,
    actor: str,
    text: str | None = None,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
) -> Note:
    """Set the note of a run (None leaves it as it is), add tags and remove others.

    Raises UserError for a tag that is empty or has a space or a comma, and for a note that is too
    long.
    """
    for tag in add:
        if not tag or any(c.isspace() or c == "," for c in tag) or len(tag) > 40:
            raise UserError(
                f"{tag!r} is not a tag",
                field="--tag",
                hint="a word of 40 characters at most, without spaces and commas",
            )
    if text is not None and len(text) > LONGEST:
        raise UserError(f"a note has {LONGEST:,} characters at most", field="note")
    before = note_of(store, run_id)
    kept = [tag for tag in dict.fromkeys([*before.tags, *add]) if tag not in set(remove)]
    note = Note(tuple(kept), before.text if text is None else text.strip(), actor)
    row = {"run_id": run_id, "tags": list(note.tags), "note": note.text, "actor": actor}
    store.append("run_notes", [row])
    return note
