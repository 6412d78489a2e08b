"""The command that measures a GPU goes its whole way on a CPU, and keeps rows by card."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.benchmarks import bench_gpu
from tests.benchmarks.gpu_parts import PARTS
from tests.benchmarks.gpu_world import TINY, in_turns, place

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "part", [pytest.param(part, marks=pytest.mark.long) for part in PARTS if part != "reading"]
)
def test_each_part_goes_its_way_on_a_cpu(tmp_path: Path, part: str) -> None:
    rows = bench_gpu.alone(part, "tiny", tmp_path)
    assert rows
    for row in rows:
        assert not str(row["ours"]).startswith(("failed", "not done")), row
        peers = [said for said in str(row.get("peer", "")).split("; ") if said]
        assert all(re.fullmatch(r"[\d.,]+", said.rsplit(": ", 1)[1]) for said in peers), row


def test_ours_and_its_peer_read_the_same_texts(tmp_path: Path) -> None:
    (row,) = PARTS["reading"](place(TINY, tmp_path))
    assert str(row["ours"]).endswith("tokens/s")
    assert str(row["peer"]).startswith("lm-eval hf: ")
    assert isinstance(row["ratio"], float)


def test_a_side_that_fails_is_a_line_and_stops_no_other() -> None:
    def broken(_: int) -> float:
        raise RuntimeError("CUDA out of memory. Tried")

    found = in_turns({"ours": float, "peer": broken}, 16, 0.0)
    assert isinstance(found["ours"], float)
    assert str(found["peer"]).startswith("RuntimeError")


def test_without_a_gpu_nothing_is_measured_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_gpu, "card_here", lambda: None)
    assert bench_gpu.main(["--to", str(tmp_path)]) == 3
    assert "There is no GPU here" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        bench_gpu.main(["--tiny", "wrting"])
    assert "no part 'wrting': there are writing, vllm" in capsys.readouterr().err


def test_rows_are_kept_by_card_and_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_gpu, "card_here", lambda: "Card, torch 9")
    row = {"what": "w", "ours": "1", "peer": "p: 2", "ratio": 0.5, "goal": "g", "note": ""}
    monkeypatch.setattr(bench_gpu, "alone", lambda part, *_: [row | {"what": part}])
    for parts in (["reading"], ["writing", "reading"]):
        assert bench_gpu.main([*parts, "--to", str(tmp_path)]) == 0
    kept = json.loads((tmp_path / "gpu.json").read_text("utf-8"))
    assert list(kept["Card, torch 9"]) == ["reading", "writing"]
    page = (tmp_path / "gpu.md").read_text("utf-8")
    assert page.count("### Card, torch 9") == 1
    assert "Not measured on this card yet: vllm, training" in page
    assert "No card has been measured" not in page.partition(bench_gpu.MARK)[2]


def test_the_page_names_every_part() -> None:
    page = (ROOT / "docs" / "gpu.md").read_text("utf-8")
    assert bench_gpu.MARK in page
    for part in PARTS:
        assert f"| `{part}` |" in page
