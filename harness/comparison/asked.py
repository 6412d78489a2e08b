"""Whether two runs were asked the same: the token ids that both models really read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.core.types import Run
from harness.store.store import Store

SETTLE = (
    "give both models one chat template (chat_template.jinja beside the tokenizer) and score again"
)
"""What makes two runs comparable whose prompts read otherwise."""

_SHOWN = 60
"""Characters of each prompt that are shown from where they part."""

_BOTH = """
WITH asked AS (
    SELECT l.run_id, l.task, l.kind, l.sample_id, l.response_index, r.asked, r.prompt,
           split_part(r.asked, ':', 1) AS vocabulary
    FROM run_responses l JOIN responses r USING (key) WHERE l.run_id IN (?, ?)
), pairs AS (
    SELECT a.task, a.sample_id, a.vocabulary = c.vocabulary AS same_tokens,
           a.asked = c.asked AS same, a.prompt AS ours, c.prompt AS theirs
    FROM asked a JOIN asked c USING (task, kind, sample_id, response_index)
    WHERE a.run_id = ? AND c.run_id = ?
)
"""
_COUNTS = (
    _BOTH
    + """
SELECT task, count(DISTINCT sample_id) AS samples, count(same) AS known,
       count(*) FILTER (NOT same_tokens) AS other_tokens,
       count(DISTINCT sample_id) FILTER (same_tokens AND NOT same) AS differ,
       arg_min({'id': sample_id, 'ours': ours, 'theirs': theirs},
               (CASE WHEN ours <> theirs THEN 0 ELSE 1 END, sample_id))
           FILTER (same_tokens AND NOT same) AS example
FROM pairs GROUP BY task ORDER BY task
"""
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What two runs' prompts have in common.

    problems  one sentence for each task in which two models that know the same tokens were asked in
              others: the runs can't be compared
    note      what could not be held to that, and why; None where all could
    """

    problems: tuple[str, ...]
    note: str | None

    @property
    def notes(self) -> dict[str, str]:
        """The note as a verdict takes it."""
        return {} if self.note is None else {"prompts": self.note}


def compare_asked(store: Store, anchor: Run, candidate: Run) -> Asked:
    """Hold two stored runs to the same token ids, sample by sample, in the tasks that both have.

    Models with different vocabularies can't be: what they have in common is the suite's own text,
    and the note says so. The same where a run was stored before ids were kept, or by a backend that
    doesn't know them. What was imported from another tool has no ids, and no note.
    """
    imported = any("imported" in run.fingerprint.provenance for run in (anchor, candidate))
    if imported or anchor.id == candidate.id:
        return Asked((), None)
    ids = [anchor.id, candidate.id]
    rows = store.query(_COUNTS, [*ids, *ids])
    problems = tuple(_problem(row) for row in rows if row["differ"])
    if any(row["other_tokens"] for row in rows):
        note = "the models know different tokens: each was asked through its own template"
    elif any(not row["known"] for row in rows):
        note = (
            "which tokens were asked isn't known of both runs, so that their templates may differ"
        )
    else:
        note = None
    return Asked(problems, note)


def _problem(row: Mapping[str, Any]) -> str:
    found = row["example"]
    what = (
        f"{row['task']}: {row['differ']} of {row['samples']} samples were asked in other tokens, "
        f"such as {found['id']!r}"
    )
    ours, theirs = found["ours"], found["theirs"]
    if ours is None or theirs is None or ours == theirs:
        return what
    at = next(
        (n for n, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]),
        min(len(ours), len(theirs)),
    )
    return (
        f"{what}, whose prompts part after {at} characters: anchor {_from(ours, at)}, "
        f"candidate {_from(theirs, at)}"
    )


def _from(text: str, at: int) -> str:
    rest = text[at : at + _SHOWN]
    return repr(rest + ("…" if len(text) > at + _SHOWN else "")) if rest else "its end"
