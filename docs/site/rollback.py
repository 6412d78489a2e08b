"""Draw what a real quickstart training did: quickstart-run.json holds its recorded figures.

`python docs/site/rollback.py .ratchet` takes them anew from a workspace in which `make demo` ran.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
RECORD = Path(__file__).parent / "quickstart-run.json"
METRIC = "intents/json_match"

from svg import Picture  # noqa: E402

Checkpoint = Mapping[str, Any]


def recorded() -> dict[str, Any]:
    """The training's id, metric, checkpoints in the order of their scoring, and its rollback."""
    return json.loads(RECORD.read_text(encoding="utf-8"))


def draw_rollback() -> Picture:
    """Every checkpoint's score; the one that failed, and the way back from it."""
    run = recorded()
    kept = [one for one in run["checkpoints"] if one["kept"]]
    failed = [one for one in run["checkpoints"] if not one["kept"]]
    last = max(one["step"] for one in kept)
    picture = Picture(
        "A training rolls back, and goes on to a better model",
        f"Share of right answers at each checkpoint of training {run['training']}: "
        + ", ".join(f"step {one['step']}: {one['score']:.0%}" for one in run["checkpoints"]),
        (0, last),
        (0, 1),
        height=330,
        right=176,
    )
    steps = sorted({one["step"] for one in run["checkpoints"]})
    ys = [(v, f"{v:.0%}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)]
    picture.axes([(s, f"step {s}") for s in steps], ys, "right JSON answers to held-out messages")
    picture.line([_point(one) for one in kept], "good")
    for one in failed:
        _draw_failure(picture, one, kept)
    for one in kept:
        picture.dot(_point(one), "good", 6)
    for before, one in pairwise(kept):
        beside = any(f["step"] == one["step"] for f in failed)
        left = one["step"] != last and one["score"] >= before["score"]
        picture.word(
            _point(one),
            f"{one['score']:.0%}" + ("" if one["step"] != last else ": promoted"),
            "good",
            anchor="end" if left and not beside else "start" if one["step"] == last else "middle",
            dx=-10 if left and not beside else 12 if one["step"] == last else 0,
            dy=4 if one["step"] == last else -12,
        )
    return picture


def _draw_failure(picture: Picture, one: Checkpoint, kept: Sequence[Checkpoint]) -> None:
    back = max((k for k in kept if k["step"] <= one["back_to"]), key=lambda k: k["step"])
    picture.line([_point(back), _point(one)], "bad")
    _draw_way_back(picture, _point(one), _point(back))
    picture.dot(_point(one), "bad", 7)
    picture.dot(_point(back), "good", 6)
    picture.word(_point(one), f"{one['score']:.0%}: fails", "bad", dx=14, dy=-6)
    middle = ((one["step"] + back["step"]) / 2, (one["score"] + back["score"]) / 4)
    picture.word(middle, "rolled back", "bad", anchor="end", dx=-60, dy=14)


def _draw_way_back(picture: Picture, start: tuple[float, float], end: tuple[float, float]) -> None:
    """A dashed curve below the fall, with an arrow's head at the state that is restored."""
    (x0, y0), (x1, y1) = picture.at(*start), picture.at(*end)
    bend_x, bend_y = x1 + 4, y0 - 0.06 * (y0 - y1)
    tip_x, tip_y = x1, y1 + 9
    picture.parts.append(
        f'<path class="line bad dash" d="M{x0:.1f},{y0:.1f} Q{bend_x:.1f},{bend_y:.1f} '
        f'{tip_x:.1f},{tip_y + 8:.1f}"/>'
        f'<path class="dot bad" d="M{tip_x - 6:.1f},{tip_y + 10:.1f} L{tip_x + 6:.1f},'
        f'{tip_y + 10:.1f} L{tip_x:.1f},{tip_y:.1f} Z"/>'
    )


def _point(one: Checkpoint) -> tuple[float, float]:
    return (float(one["step"]), float(one["score"]))


def record(home: Path) -> dict[str, Any]:
    """What a workspace holds of its newest training with a rollback, as `quickstart-run.json`."""
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    with Store(Workspace.at(home)) as store:
        rollback = store.query(
            "SELECT training_id, step, attempt, detail FROM training_events "
            "WHERE event = 'rolled_back' ORDER BY seq DESC LIMIT 1"
        )[0]
        training = rollback["training_id"]
        state = json.loads((home / "trainings" / training / "state.json").read_text("utf-8"))
        judged = [
            {
                "step": one["step"],
                "attempt": one["attempt"],
                "score": _right(store, one["run_id"]),
                "kept": one["outcome"] != "fail",
                **({"back_to": rollback["detail"]["to"]} if one["outcome"] == "fail" else {}),
            }
            for one in state["judged"]
        ]
        rows = store.query(
            "SELECT metric, anchor, candidate, change, low, high, margin, samples, outcome "
            "FROM verdict_metrics WHERE verdict_id = ? ORDER BY seq",
            [rollback["detail"]["verdicts"][-1]],
        )
    return {"training": training, "metric": METRIC, "checkpoints": judged, "failed": rows}


def _right(store: Any, run: str) -> float:
    """The share of right answers in a run, the reserve left out."""
    row = store.query(
        "SELECT avg(value) AS share FROM scores WHERE run_id = ? AND task || '/' || metric = ? "
        "AND sample_id NOT IN (SELECT sample_id FROM samples WHERE task = scores.task AND reserve)",
        [run, METRIC],
    )
    return float(round(row[0]["share"], 4))


if __name__ == "__main__":
    found = record(Path(sys.argv[1]))
    RECORD.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
