"""A run as files: exported and imported exactly, and refused where it is torn or changed."""

import json
import math
from datetime import UTC, datetime

import pyarrow.parquet as parquet
import pytest

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.store.bundle import export_run, import_bundle, read_bundle, run_id_of
from harness.store.store import Store

TASK = {"data": "digest-of-the-data", "reserve": 0.3, "prompt": {"user": "{{ 问 }}"}}
TABLES = ("runs", "run_events", "scores", "run_responses", "responses", "samples")


@pytest.fixture
def store(tmp_path):
    with Store(Workspace.at(tmp_path / "here")) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def elsewhere(tmp_path):
    with Store(Workspace.at(tmp_path / "there")) as opened:
        yield opened


def fill(store, run="r1", model="m"):
    store.append(
        "runs",
        [
            {
                "run_id": run,
                "model": model,
                "model_digest": "d",
                "suite": "quickstart",
                "seed": 7,
                "protocol": {"intents": {**TASK, "metrics": {"rouge_l": "v:1"}}, "@sampling": {}},
                "subject": {"dtype": "float32"},
                "provenance": {"torch": "2.13", "名": "值"},
                "started_at": datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
            }
        ],
    )
    names = [f"s{n}" for n in range(20)]
    for digest in (digest_of(TASK), "digest-of-another-suite"):
        store.append(
            "samples",
            [
                {"task_digest": digest, "task": "intents", "sample_id": name, "fields": {"q": name}}
                for name in names
            ],
        )
    link = {"task": "intents", "kind": "generation", "response_index": 0, "draw": 0}
    store.append(
        "responses",
        [
            {"key": f"k-{n}", "sample_id": n, "text": n, "logprobs": [-0.1, -math.inf], **link}
            for n in names
        ],
    )
    store.append(
        "run_responses", [{"run_id": run, "key": f"k-{n}", "sample_id": n, **link} for n in names]
    )
    score = {"run_id": run, "task": "intents", "metric": "rouge_l", "draw": 0, "outcome": "scored"}
    store.append(
        "scores", [score | {"sample_id": n, "value": 0.1, "stats": [1.0 / 3]} for n in names]
    )
    store.append("scores", [score | {"sample_id": "s3", "value": 0.3}])
    store.append("run_events", [{"run_id": run, "event": "finished", "detail": {"n": 20}}])


def content(store):
    """Everything of the run r1, as rows without seq."""
    found = {}
    for table in TABLES:
        name = "current_scores" if table == "scores" else table
        where = f"WHERE task_digest = '{digest_of(TASK)}'" if table == "samples" else ""
        found[table] = store.query(f"SELECT * EXCLUDE seq FROM {name} {where} ORDER BY ALL")
    return found


def test_an_exported_run_is_imported_exactly(store, elsewhere, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    assert import_bundle(elsewhere, folder) == "r1"
    assert content(elsewhere) == content(store)


def test_a_bundle_names_no_path_of_the_machine_it_was_made_on(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"protocol": {}, "suite_path": str(tmp_path / "suites" / "a.yaml")}
    store.append("runs", [row | {"run_id": "inside"}])
    store.append("runs", [row | {"run_id": "outside", "suite_path": "/far/away/b.yaml"}])
    for run, expected in (("inside", "suites/a.yaml"), ("outside", "b.yaml")):
        folder = export_run(store, run, tmp_path / run)
        assert read_bundle(folder).run["suite_path"] == expected
        assert import_bundle(store, folder) == run


def test_importing_twice_changes_nothing(store, elsewhere, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    import_bundle(elsewhere, folder)
    before = content(elsewhere)
    assert import_bundle(elsewhere, folder) == "r1"
    assert import_bundle(store, folder) == "r1"
    assert content(elsewhere) == before


def test_an_export_of_an_import_is_the_same_files(store, elsewhere, tmp_path):
    one = export_run(store, "r1", tmp_path / "one")
    import_bundle(elsewhere, one)
    other = export_run(elsewhere, "r1", tmp_path / "other")
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert [(one / n).read_bytes() for n in names] == [(other / n).read_bytes() for n in names]


def test_run_json_is_for_reading(store, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    text = (folder / "run.json").read_text(encoding="utf-8")
    run = json.loads(text)
    assert "值" in text
    assert text == json.dumps(run, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    assert run["format"] == 1
    assert run["summary"][0]["mean"] == pytest.approx(0.11)
    assert run["files"]["scores.parquet"]["rows"] == 20
    assert run_id_of(folder) == "r1"


def test_a_bundle_is_read_without_a_store(store, tmp_path):
    bundle = read_bundle(export_run(store, "r1", tmp_path / "bundle"))
    assert bundle.run_id == "r1"
    assert bundle.run["protocol"]["intents"]["data"] == "digest-of-the-data"
    assert bundle.scores.num_rows == bundle.responses.num_rows == bundle.samples.num_rows == 20
    assert bundle.events[0]["event"] == "finished"


def damage(path, how):
    raw = path.read_bytes()
    match how:
        case "torn":
            path.write_bytes(raw[: len(raw) // 2])
        case "flipped":
            middle = len(raw) // 2
            path.write_bytes(raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :])
        case "missing":
            path.unlink()


@pytest.mark.parametrize("how", ["torn", "flipped", "missing"])
@pytest.mark.parametrize(
    "name",
    [
        "run.json",
        "scores.parquet",
        "responses.parquet",
        "run_responses.parquet",
        "samples.parquet",
    ],
)
def test_a_torn_or_changed_file_is_refused_by_name(store, tmp_path, name, how):
    folder = export_run(store, "r1", tmp_path / "bundle")
    damage(folder / name, how)
    with pytest.raises(UserError) as refusal:
        read_bundle(folder)
    assert refusal.value.file == str(folder / name)


def test_a_changed_number_in_run_json_is_noticed(store, elsewhere, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(UserError, match=r"run\.json was changed"):
        import_bundle(elsewhere, folder)
    assert elsewhere.query("SELECT * FROM runs") == []


def test_a_swapped_table_is_noticed(store, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    table = parquet.read_table(folder / "scores.parquet")
    parquet.write_table(table.slice(1), folder / "scores.parquet")
    with pytest.raises(UserError, match=r"scores\.parquet"):
        read_bundle(folder)


def test_a_newer_format_asks_for_an_upgrade(store, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="format 2") as refusal:
        read_bundle(folder)
    assert "upgrade" in refusal.value.hint


def test_another_run_under_the_same_id_is_refused(store, elsewhere, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    fill(elsewhere, model="another")
    with pytest.raises(UserError, match="another run r1"):
        import_bundle(elsewhere, folder)


def test_export_replaces_a_bundle_and_nothing_else(store, tmp_path):
    folder = export_run(store, "r1", tmp_path / "bundle")
    (folder / "scores.parquet").write_bytes(b"torn")
    assert read_bundle(export_run(store, "r1", folder)).scores.num_rows == 20
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"it holds notes\.txt"):
        export_run(store, "r1", folder)
    work = tmp_path / "work"
    work.mkdir()
    (work / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="it holds thesis"):
        export_run(store, "r1", work)
    assert (work / "thesis.tex").exists()
    with pytest.raises(UserError, match="no run 'r2'"):
        export_run(store, "r2", tmp_path / "other")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "here", "work"]
