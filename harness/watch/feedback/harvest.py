"""Answers that users rated low or corrected, proposed as new suite or training rows.

An item is for one of the two from the start, by the digest of its prompt, and nothing nearly the
same is ever proposed again, for either: a model must not be tested on what it was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.core.errors import UserError
from harness.data.duplicates import Index, Passage, first_like, normalized
from harness.suite.passages import of_suite
from harness.watch.intake.masking import mask

if TYPE_CHECKING:
    from harness.store.store import Store

Side = Literal["sample", "training"]
Reason = Literal["corrected", "thumb_down", "low_rated"]

LOW_STARS = 2.0
AT_ONCE = 50_000
"""Badly rated answers that one call looks at, the newest, so that any number fits in memory."""

LIMIT = 200
"""Proposals of one call: as many as a person reads in a sitting."""

SUITE_SHARE = 0.3
"""Share of the corrected answers that go to the suite's side."""


@dataclass(frozen=True, slots=True)
class Item:
    """One answer that may be learned from: a row of the table harvested.

    `item` holds prompt, response, target (the user's correction, or None), comment and stars.
    """

    item_id: str
    kind: Side
    observation_id: str
    model_digest: str | None
    reason: Reason
    item: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Harvest:
    """What was proposed, how many were nearly the same as something known, and how many answers
    were left for the next call.
    """

    proposed: tuple[Item, ...]
    alike: int
    left: int


def harvest(
    store: Store,
    line: str,
    *,
    since: datetime | None = None,
    limit: int = LIMIT,
    suite_share: float = SUITE_SHARE,
    against: Sequence[Passage] = (),
) -> Harvest:
    """Propose what was not proposed yet, and record it; a person must approve it before any use.

    An answer is taken where its last rating is 2 stars or fewer or a thumb down, or where the user
    corrected it. Without a correction there is no answer to train on, and it goes to the suite's
    side. `against` are texts that are known already: suites, training data. Raises UserError for a
    share outside 0 to 1.
    """
    if not 0 <= suite_share <= 1:
        raise UserError(
            f"{suite_share:g} is not a share", field="--suite-share", hint="from 0 to 1"
        )
    rows = _answers(store, line, since)
    known = store.query("SELECT item_id, item ->> '$.prompt' AS prompt FROM harvested")
    index = Index(against)
    index.add(Passage("harvested", row["item_id"], (row["prompt"],)) for row in known)
    proposed: list[Item] = []
    alike = looked_at = 0
    for row in sorted(rows, key=_worth):
        if len(proposed) == limit:
            break
        looked_at += 1
        item = _item(row, suite_share)
        if item is None:
            continue
        if first_like(index, [item.item["prompt"]]) is not None:
            alike += 1
            continue
        index.add([Passage("harvested", item.item_id, (item.item["prompt"],))])
        proposed.append(item)
    store.append("harvested", [_row(item) for item in proposed])
    return Harvest(tuple(proposed), alike, len(rows) - looked_at)


def passages(path: Path) -> list[Passage]:
    """Every text that a suite (YAML) asks, or that a file of rows holds. Raises UserError."""
    if path.suffix in (".yaml", ".yml"):
        from harness.suite.load import load_suite

        return of_suite(load_suite(path))
    from harness.data.rows import read_rows

    return [
        Passage(
            path.name,
            str(row.get("id") or line),
            tuple(v for v in row.values() if isinstance(v, str)),
        )
        for line, row in read_rows(path)
    ]


def side_of(prompt: str, corrected: bool, suite_share: float) -> Side:
    """The side of a prompt, by its digest: the same words get the same side in every workspace."""
    if not corrected:
        return "sample"
    digest = hashlib.sha256(normalized(prompt).encode()).digest()
    return "sample" if int.from_bytes(digest[:8], "big") / 2**64 < suite_share else "training"


# The rest is private.


def _answers(store: Store, line: str, since: datetime | None) -> list[dict[str, Any]]:
    """The newest answers with their latest feedback, where it is bad or corrects them."""
    return store.query(
        f"""
        WITH said AS (
            SELECT coalesce(about, observation_id) AS answer, arg_max(stars, seq) AS stars,
                arg_max(thumb, seq) AS thumb, arg_max(corrected_text, seq) AS corrected,
                arg_max(comment, seq) AS comment
            FROM observations
            WHERE coalesce(stars, thumb) IS NOT NULL OR corrected_text IS NOT NULL
                OR comment IS NOT NULL
            GROUP BY ALL
        )
        SELECT o.observation_id, o.model_digest, o.prompt, o.response, s.stars, s.thumb,
            s.corrected, s.comment
        FROM said s JOIN observations o ON o.observation_id = s.answer
        WHERE (o.line = $1 OR (o.line IS NULL AND o.model_digest IN (
                SELECT digest FROM checkpoints WHERE line = $1)))
            AND o.about IS NULL AND o.error IS NULL AND o.received_at >= $2
            AND length(trim(o.prompt)) > 0 AND o.response IS NOT NULL
            AND (s.stars <= {LOW_STARS} OR s.thumb = -1 OR length(trim(s.corrected)) > 0)
            AND o.observation_id NOT IN (SELECT observation_id FROM harvested)
        ORDER BY o.seq DESC LIMIT {AT_ONCE}
        """,
        [line, since or datetime.min],
    )


def _worth(row: Mapping[str, Any]) -> tuple[bool, float]:
    """A sort key: of answers to nearly the same prompt, the corrected one is kept, else the worst
    rated.
    """
    return (not (row["corrected"] or "").strip(), row["stars"] or 0.0)


def _item(row: Mapping[str, Any], suite_share: float) -> Item | None:
    texts = {
        name: mask(row[column]).text.strip() if row[column] else None
        for name, column in _TEXTS.items()
    }
    corrected = bool(texts["target"]) and texts["target"] != texts["response"]
    low = row["stars"] is not None and row["stars"] <= LOW_STARS
    if not (corrected or low or row["thumb"] == -1) or not texts["prompt"]:
        return None
    reason: Reason = "corrected" if corrected else "low_rated" if low else "thumb_down"
    kind = side_of(texts["prompt"], corrected, suite_share)
    content = {**texts, "target": texts["target"] if corrected else None, "stars": row["stars"]}
    name = hashlib.sha256(
        "\n".join(
            [kind, texts["prompt"], texts["response"] or "", content["target"] or ""]
        ).encode()
    )
    return Item(
        name.hexdigest()[:16], kind, row["observation_id"], row["model_digest"], reason, content
    )


def _row(item: Item) -> dict[str, Any]:
    return {name: getattr(item, name) for name in item.__slots__} | {"item": dict(item.item)}


_TEXTS = {"prompt": "prompt", "response": "response", "target": "corrected", "comment": "comment"}
