"""Files of scores, and the run that an import says is here: for the tests of imports."""

from __future__ import annotations

from pathlib import Path

DATA = Path(__file__).parents[2] / "data"
LM_EVAL, INSPECT = DATA / "lm_eval", DATA / "inspect"

HEADER = "task,metric,direction,sample_id,value"


def run_named(said: str) -> str:
    """The run that an import says is here."""
    return said[: said.index(" is here; next:")].rpartition(" ")[2]


def write_csv(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    path = folder / "scores.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path
