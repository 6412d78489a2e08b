"""What Inspect's logs and a CSV hold becomes runs; and the verb that takes them in."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from harness.comparison.evidence import summarize
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.interop.importers.common import take_in
from harness.interop.importers.csv_scores import read_csv
from harness.interop.importers.inspect_log import read_inspect
from harness.store.runs import run_responses
from harness.store.store import Store
from tests.harness.interop.import_builders import HEADER, INSPECT, LM_EVAL, run_named, write_csv
from tests.harness.suite_builders import Ratchet

# Inspect.


@pytest.mark.parametrize(("log", "level"), [("good", 0.875), ("bad", 0.5)])
def test_an_inspect_log_gives_what_inspect_reported(log: str, level: float, store: Store) -> None:
    run, _ = take_in(store, read_inspect(INSPECT / f"{log}.eval", lower=["length"]))
    lines = {line.metric: line for line in summarize(store, run)}
    assert lines["capitals/match"].estimate.value == pytest.approx(level)
    assert lines["capitals/style.short"].estimate.value == pytest.approx(level)
    assert lines["capitals/length"].direction == "lower"
    assert lines["capitals/match"].direction == "higher"
    assert {line.counts.scored for line in lines.values()} == {16}
    counts = store.query("SELECT count(*) AS n FROM scores WHERE metric = 'match'")
    assert counts == [{"n": 32}], "two epochs of sixteen samples"
    assert len(run_responses(store, run.id)) == 32


def test_an_archive_whose_directory_points_beyond_its_end_is_one_message(tmp_path: Path) -> None:
    packed = bytearray((INSPECT / "good.eval").read_bytes())
    entry = packed.rindex(b"PK\x01\x02")  # of the archive's directory: the last one in it
    packed[entry + 42 : entry + 46] = len(packed).to_bytes(4, "little")
    (tmp_path / "log.eval").write_bytes(packed)
    with pytest.raises(UserError, match="not a log of Inspect") as caught:
        read_inspect(tmp_path / "log.eval")
    assert str(caught.value.file) == str(tmp_path / "log.eval")


def test_a_json_log_is_the_same_thing(store: Store) -> None:
    run, _ = take_in(store, read_inspect(INSPECT / "small.json"))
    assert run.model == "mockllm/good"
    assert {line.counts.scored for line in summarize(store, run)} == {2}


def test_inspect_logs_are_gated(home: Workspace, ratchet: Ratchet) -> None:
    said = [ratchet("import", "inspect", INSPECT / f"{n}.eval") for n in ("good", "bad")]
    good, bad = (run_named(text) for _, text in said)
    code, text = ratchet("gate", bad, "--against", good)
    assert (code, "FAIL: capitals/" in text) == (1, True)
    code, text = ratchet("import", "inspect", INSPECT / "good.eval", "--lower", "lenght")
    assert (code, "no metric 'lenght'" in text) == (3, True)


def test_logs_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    torn = tmp_path / "torn.eval"
    torn.write_bytes((INSPECT / "good.eval").read_bytes()[:40_000])
    with pytest.raises(UserError, match="not a log of Inspect"):
        read_inspect(torn)
    content = json.loads((INSPECT / "small.json").read_text())
    for change, says in (
        ({"status": "cancelled"}, "ended as 'cancelled'"),
        ({"samples": []}, "holds no samples"),
        ({"samples": content["samples"][:1]}, "1 samples are here"),
    ):
        path = tmp_path / "log.json"
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(UserError, match=says):
            read_inspect(path)
    path.write_text("{}")
    with pytest.raises(UserError, match="not a log of Inspect"):
        read_inspect(path)
    with pytest.raises(UserError, match="no such file"):
        read_inspect(tmp_path / "nothing.eval")


def test_an_errored_sample_is_an_error_and_a_nan_is_unscored(tmp_path: Path, store: Store) -> None:
    content = json.loads((INSPECT / "small.json").read_text())
    first, second, *_ = content["samples"]
    first.update(error={"message": "the sandbox died\nat line 3"}, scores={})
    second["scores"]["match"]["value"] = math.nan
    path = tmp_path / "log.json"
    path.write_text(json.dumps(content))
    run, _ = take_in(store, read_inspect(path))
    rows = store.query(
        "SELECT DISTINCT sample_id, outcome, reason FROM scores "
        "WHERE run_id = ? AND metric = 'match' AND value IS NULL ORDER BY ALL",
        [run.id],
    )
    assert {(row["sample_id"], row["outcome"], row["reason"]) for row in rows} == {
        (first["id"], "error", "the sandbox died"),
        (second["id"], "unscored", "Inspect left it unscored"),
    }


# CSV.


def test_a_csv_in_a_minute(home: Workspace, tmp_path: Path, ratchet: Ratchet) -> None:
    runs = []
    for name, wrong in (("ours", 3), ("theirs", 60)):
        rows = [f"qa,exact_match,higher,q{n},{int(n >= wrong)}" for n in range(200)]
        path = write_csv(tmp_path, rows)
        code, said = ratchet("import", "csv", path, "--run", name)
        assert code == 0, said
        runs.append(run_named(said))
    code, said = ratchet("gate", runs[1], "--against", runs[0])
    assert (code, "fell from 0.985 to 0.700 on 200 samples" in said) == (1, True)
    assert ratchet("gate", runs[0], "--against", runs[0])[0] == 0
    assert "theirs" in ratchet("runs")[1]


def test_responses_clusters_and_scales(tmp_path: Path, store: Store) -> None:
    rows = [
        f"chat,reward,higher,s{n},{value},{k},author {n % 3},interval"
        for n in range(9)
        for k, value in enumerate((-1.5, 0.25 * n))
    ]
    path = write_csv(tmp_path, rows, f"{HEADER},response,cluster,scale")
    run, _ = take_in(store, read_csv(path, name="x"))
    from harness.comparison.evidence import metric_scores

    scores = metric_scores(store, run)["chat/reward"]
    assert scores.scale == "interval"
    assert scores.responses == 2
    assert set(scores.clusters.values()) == {"author 0", "author 1", "author 2"}
    assert scores.values["s4"] == pytest.approx((-1.5 + 1.0) / 2)


def test_an_empty_value_is_an_error_never_a_zero(tmp_path: Path, store: Store) -> None:
    path = write_csv(tmp_path, ["qa,em,higher,a,1", "qa,em,higher,b,"])
    run, _ = take_in(store, read_csv(path, name="x"))
    [line] = summarize(store, run)
    assert (line.estimate.value, line.counts.scored, line.counts.total, line.counts.errors) == (
        1.0,
        1,
        2,
        1,
    )


def test_missing_samples_are_named_by_the_gate(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    runs = []
    for last in (50, 48):
        path = write_csv(tmp_path, [f"qa,em,higher,q{n},1" for n in range(last)])
        said = ratchet("import", "csv", path, "--run", f"r{last}")[1]
        runs.append(run_named(said))
    code, said = ratchet("gate", runs[1], "--against", runs[0])
    assert (code, "no value for 2 samples (q48, q49)" in said) == (3, True)


@pytest.mark.parametrize(
    ("rows", "line", "field", "says"),
    [
        (["qa,em,higher,a,1", "qa,em,up,b,1"], 3, "direction", "not a direction"),
        (["qa,em,higher,a,NaN"], 2, "value", "not a finite number"),
        (["qa,em,higher,a,one"], 2, "value", "not a finite number"),
        (["qa,em,higher,a,-1"], 2, "value", "below 0"),
        (["qa,em,higher,a,1", "qa,em,lower,b,1"], 3, "direction", "another direction on line 2"),
        (["qa,em,higher,a,1", "", "qa,em,higher,a,0"], 4, None, "on line 2 already"),
        (["qa,em,higher,,1"], 2, "sample_id", "sample_id is empty"),
        (["qa,em,higher,a"], 2, None, "more or fewer cells"),
        (["qa,em,higher,a,1,2"], 2, None, "more or fewer cells"),
        ([], None, None, "no rows"),
    ],
)
def test_a_bad_row_is_named(
    tmp_path: Path, rows: list[str], line: int | None, field: str | None, says: str
) -> None:
    with pytest.raises(UserError, match=says) as refused:
        read_csv(write_csv(tmp_path, rows), name="x")
    assert (refused.value.line, refused.value.field or None) == (line, field)


@pytest.mark.parametrize(
    ("header", "says"),
    [("task,metric,sample_id,value", "lacks direction"), (f"{HEADER},clusters", "clusters")],
)
def test_a_bad_header_is_named(tmp_path: Path, header: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as refused:
        read_csv(write_csv(tmp_path, ["x"], header), name="x")
    assert refused.value.line == 1


# The verb.


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lm-eval"], "with the results of lm-eval is missing"),
        (["lmeval", "dir"], "did you mean lm-eval"),
        (["csv", "x.csv"], "name it: --run NAME"),
        (["csv", "x.csv", "--run", "x"], "no such file"),
        (["inspect", "x.eval"], "no such file"),
        (["lm-eval", "nowhere"], "no such folder"),
        (["nowhere"], "there is no bundle here"),
        (["bundle", "nowhere"], "there is no bundle here"),
        (["nowhere", "--run", "x"], "leave --run out"),
        (["lm-eval", "x", "--lower", "y"], "leave --lower out"),
    ],
)
def test_what_can_be_wrong_with_an_import_is_said(
    words: list[str], says: str, home: Workspace, ratchet: Ratchet
) -> None:
    code, said = ratchet("import", *words)
    assert (code, says in said) == (3, True), said


def test_an_imported_run_travels_as_a_bundle(
    home: Workspace, tmp_path: Path, ratchet: Ratchet
) -> None:
    runs = {}
    for side in ("a", "b"):
        said = ratchet("import", "lm-eval", LM_EVAL / side)[1]
        runs[side] = run_named(said)
        assert ratchet("export", runs[side], tmp_path / side)[0] == 0
    elsewhere = ("--home", tmp_path / "elsewhere")
    code, said = ratchet(
        "gate", f"bundle:{tmp_path / 'b'}", "--against", f"bundle:{tmp_path / 'a'}",
        *elsewhere,
    )  # fmt: skip
    assert (code, "FAIL" in said) == (1, True)
