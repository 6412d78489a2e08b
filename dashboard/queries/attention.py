"""The list of what needs a human, for the first page and for the webhook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dashboard.queries import history
from dashboard.queries.change_points import Forecast, forecast, margin_left
from harness.core.types import Row
from harness.store.store import Store

Level = Literal["act", "look"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to do.

    text    an English sentence with {places}; `values` fills them, also in translation
    level   `act`: something stands still until a human decides; `look`: worth a look
    page    the view that shows it, with its `params`
    """

    text: str
    level: Level
    page: str
    values: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return self.text.format(**self.values)


def margins(store: Store, line: str, limit: int = 30) -> dict[str, list[Row]]:
    """Required metric -> the margin that was left at the line's last verdicts, oldest first.

    Only verdicts against what is promoted now: another anchor is another history.
    """
    rows = store.query(
        "SELECT v.verdict_id, v.decided_at, v.detail -> '$.rows' AS found FROM verdicts v "
        "WHERE v.seq IN (SELECT seq FROM verdicts WHERE against = 'anchor' AND anchor_run = "
        "(SELECT run_id FROM checkpoints WHERE line = ? "
        "AND event IN ('promoted', 'rolled_back') ORDER BY seq DESC LIMIT 1) "
        "ORDER BY seq DESC LIMIT ?) ORDER BY v.seq DESC",
        [line, limit],
    )
    left: dict[str, list[Row]] = {}
    for place, row in enumerate(reversed(rows), start=1):
        for found in row["found"] or ():
            if not _held(found):
                continue
            room = found["allowed"]
            ends = sorted(margin_left(end, room) for end in found["interval"] or ())
            at = margin_left(found["change"], room)
            left.setdefault(found["name"], []).append(
                {
                    "place": place,
                    "verdict_id": row["verdict_id"],
                    "at": row["decided_at"],
                    "left": at,
                    "low": ends[0] if ends else at,
                    "high": ends[1] if ends else at,
                }
            )
    return left


def forecasts(left: Mapping[str, list[Row]]) -> dict[str, Forecast]:
    """Metric -> where its margin goes, for those with enough of a history."""
    found = {name: forecast([row["left"] for row in rows]) for name, rows in left.items()}
    return {name: seen for name, seen in found.items() if seen is not None}


def attention(store: Store) -> list[Item]:
    """Everything that waits for somebody, the most urgent first."""
    items: list[Item] = []
    for line in history.lines(store):
        items += _of_line(line)
        for metric, seen in forecasts(margins(store, line["line"])).items():
            if seen.is_alarming:
                items.append(
                    Item(
                        "{line}: at this slope the margin of {metric} is gone in {n} checkpoints.",
                        "look",
                        "drift",
                        {"line": line["line"], "metric": metric, "n": seen.gone_in},
                        {"line": line["line"]},
                    )
                )
    for trouble in history.troubles(store):
        items.append(_of_trouble(trouble))
    return sorted(items, key=lambda item: item.level)


def _of_line(line: Row) -> list[Item]:
    found = []
    place = {"verdict": line["last_verdict"]} if line["last_verdict"] else {}
    says = {
        "fail": ("{line}: the last candidate failed. Find out why, or leave it.", "look"),
        "inconclusive": (
            "{line}: the last candidate is undecided. More samples would settle it.",
            "act",
        ),
        "incomparable": (
            "{line}: the last candidate could not be compared with the anchor.",
            "act",
        ),
    }.get(line["last_outcome"] or "")
    if says is not None:
        level: Level = "act" if says[1] == "act" else "look"
        found.append(Item(says[0], level, "verdict", {"line": line["line"]}, place))
    if line["last_outcome"] == "pass" and not line["last_is_promoted"]:
        text = "{line}: the last candidate passed and is not promoted yet."
        found.append(Item(text, "act", "verdict", {"line": line["line"]}, place))
    if line["overridden"]:
        text = "{line}: the promoted version was promoted by override."
        found.append(Item(text, "look", "overview", {"line": line["line"]}))
    return found


def _of_trouble(trouble: Row) -> Item:
    name = trouble["name"] or trouble["id"]
    if trouble["kind"] == "run":
        text = "Run {id} of {name} never finished ({status}). The same command goes on with it."
        values = {"id": trouble["id"], "name": name, "status": trouble["detail"]}
        return Item(text, "look", "trend", values)
    text = "Training {id} has stopped ({status}) and waits for you."
    values = {"id": trouble["id"], "status": trouble["detail"]}
    return Item(text, "act", "trainings", values, {"training": trouble["id"]})


def _held(found: Mapping[str, Any]) -> bool:
    return bool(
        found.get("required")
        and found.get("requirement") is None
        and found.get("allowed")
        and found.get("change") is not None
    )
