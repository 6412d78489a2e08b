"""What one machine pushes another pulls: exactly, once, whole, by several at a time."""

import json
import os
import signal
import subprocess
import sys

import pytest

from harness.core.errors import UnfinishedError, UserError
from harness.store.share.index import Index
from harness.store.share.place import open_place
from harness.store.share.pull import pull
from harness.store.share.push import push
from tests.harness.store.share.conftest import add_steps, content, fill, rescore

PUSH = """
import sys
from harness.store.store import Store
from harness.store.share.place import open_place
from harness.store.share.push import push
with Store(sys.argv[1]) as store:
    push(store, open_place(sys.argv[2]))
"""


BOTH = ["folder", pytest.param("bucket", marks=pytest.mark.long)]


@pytest.fixture
def where(request, tmp_path):
    if request.param == "folder":
        return str(tmp_path / "shared")
    request.getfixturevalue("bucket")
    return "s3://team/evaluations"


def take(store, where):
    return pull(store, Index(open_place(where), store))


def objects(where):
    return open_place(where).names("objects")


@pytest.mark.parametrize("where", ["folder", "bucket"], indirect=True)
def test_what_is_pushed_is_pulled_exactly_and_once(machine, where):
    box, lead = machine("box"), machine("lead")
    for run in ("r1", "r2"):
        fill(box, run)
    sent = push(box, open_place(where))
    assert sent.counts["runs"] == sent.counts["verdicts"] == 2
    assert take(lead, where) == sent.counts
    assert content(lead) == content(box)
    before, there = content(lead), open_place(where).names("")
    assert push(box, open_place(where)).counts == {}
    assert push(lead, open_place(where)).counts == {}, "what was pulled goes back"
    assert take(lead, where) == {}
    assert content(lead) == before
    assert open_place(where).names("") == there


def test_a_run_that_is_under_way_is_left_until_it_ends(machine, tmp_path):
    box = machine("box")
    fill(box)
    box.append("runs", [{"run_id": "open", "model": "m"}])
    push(box, open_place(str(tmp_path / "shared")))
    take(machine("lead"), str(tmp_path / "shared"))
    assert [row["run_id"] for row in machine("lead").query("SELECT run_id FROM runs")] == ["r1"]


def test_what_is_added_later_comes_later(machine, tmp_path):
    box, lead, where = machine("box"), machine("lead"), str(tmp_path / "shared")
    fill(box)
    push(box, open_place(where))
    take(lead, where)
    rescore(box, "r1", {"s1": 0.9}, hours=1)
    add_steps(box, "r1", range(4, 7))
    fill(box, "r2")
    assert push(box, open_place(where)).counts["runs"] == 2
    take(lead, where)
    assert content(lead) == content(box)


def test_two_machines_that_rescore_one_run_end_up_with_both(machine, tmp_path):
    box, other, where = machine("box"), machine("other"), str(tmp_path / "shared")
    fill(box)
    push(box, open_place(where))
    take(other, where)
    rescore(box, "r1", {"s1": 0.9}, hours=1)
    rescore(other, "r1", {"s2": 0.1}, hours=2)
    for _ in range(2):
        for store in (box, other):
            push(store, open_place(where))
            take(store, where)
    assert content(box) == content(other)
    events = box.query("SELECT event FROM run_events ORDER BY happened_at")
    assert len(events) == 3
    assert push(box, open_place(where)).counts == {}


def test_who_has_everything_is_asked_nothing_until_something_new_is_sent(
    machine, tmp_path, monkeypatch
):
    box, lead, where = machine("box"), machine("lead"), str(tmp_path / "shared")
    fill(box)
    push(box, open_place(where))
    index = Index(open_place(where), lead)
    assert pull(lead, index, only_new=True)["runs"] == 1
    with monkeypatch.context() as quiet:
        quiet.setattr(lead, "query", None)
        assert pull(lead, index, only_new=True) == {}
    fill(box, "r2")
    push(box, open_place(where))
    assert pull(lead, index, only_new=True)["runs"] == 1


def test_only_the_named_run_goes_with_the_verdicts_about_it(machine, tmp_path):
    box, lead, where = machine("box"), machine("lead"), str(tmp_path / "shared")
    for run in ("r1", "r2"):
        fill(box, run)
    push(box, open_place(where), only=["r2"])
    assert take(lead, where) == {"runs": 1, "verdicts": 1}
    assert lead.query("SELECT candidate_run FROM verdicts") == [{"candidate_run": "r2"}]


@pytest.mark.parametrize("where", BOTH, indirect=True)
def test_two_pushers_at_once_lose_nothing(machine, where, tmp_path):
    for name in ("a", "b"):
        for n in range(2):
            fill(machine(name), f"{name}{n}")
        # The same run on both, as after an import of the same bundle.
        fill(machine(name), "common")
        machine(name).close()
    pushers = [
        subprocess.Popen([sys.executable, "-c", PUSH, str(tmp_path / name), where])
        for name in ("a", "b", "a")
    ]
    assert [pusher.wait() for pusher in pushers] == [0, 0, 0]
    take(machine("lead"), where)
    found = {row["run_id"] for row in machine("lead").query("SELECT run_id FROM runs")}
    assert found == {f"{name}{n}" for name in "ab" for n in range(2)} | {"common"}
    scores = machine("lead").query("SELECT count(*) AS n FROM scores")
    assert scores == [{"n": 5 * 5}]


@pytest.mark.parametrize("where", BOTH, indirect=True)
@pytest.mark.parametrize("passage", [7, pytest.param(1, marks=pytest.mark.long)])
def test_a_push_that_was_killed_shows_nothing_half_and_the_next_one_completes(
    machine, where, tmp_path, passage
):
    box, lead = machine("box"), machine("lead")
    for run in ("r1", "r2"):
        fill(box, run)
    box.close()
    killed = subprocess.run(
        [sys.executable, "-c", PUSH, str(tmp_path / "box"), where],
        env={**os.environ, "RATCHET_FAULT": f"mid-push:{passage}"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    left = set(objects(where))
    assert left
    with pytest.raises(UserError, match="nothing was ever sent"):
        take(lead, where)
    push(box, open_place(where))
    assert left <= set(objects(where)), "what was sent before the kill is used"
    take(lead, where)
    assert content(lead) == content(box)


def test_a_bucket_that_dies_in_mid_push_is_gone_on_with(machine, bucket, monkeypatch):
    box, lead, where = machine("box"), machine("lead"), "s3://team/evaluations"
    for n in range(3):
        fill(box, f"r{n}")
    said = []

    def dies(message):
        said.append(message)
        if len(said) == 2:
            bucket.kill()

    with pytest.raises(UnfinishedError, match="can't be reached") as caught:
        push(box, open_place(where), say=dies)
    assert "secret-for-tests" not in caught.value.render()
    bucket.start()  # as empty as a server that lost its memory: everything must be sent anew
    bucket.make("team")
    assert push(box, open_place(where)).counts["runs"] == 3
    take(lead, where)
    assert content(lead) == content(box)


def test_a_damaged_object_is_refused_and_nothing_of_it_is_taken(machine, tmp_path):
    box, lead, where = machine("box"), machine("lead"), tmp_path / "shared"
    fill(box)
    push(box, open_place(str(where)))
    name = next(
        digest
        for path in where.glob("index/*/*.json")
        for item in json.loads(path.read_text())["items"]
        for file, digest in item["files"].items()
        if file == "scores.parquet"
    )
    path = where / "objects" / name[:2] / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"x")
    with pytest.raises(UserError, match="not what its name says"):
        take(lead, str(where))
    assert lead.query("SELECT count(*) AS n FROM runs") == [{"n": 0}]
    path.unlink()
    path.write_bytes(whole)
    take(lead, str(where))
    assert content(lead) == content(box)


def test_a_sending_of_a_newer_ratchet_is_said(machine, tmp_path):
    fill(machine("box"))
    push(machine("box"), open_place(str(tmp_path / "shared")))
    [path] = (tmp_path / "shared").glob("index/*/*.json")
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(UserError, match="newer Ratchet"):
        take(machine("lead"), str(tmp_path / "shared"))


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("ftp://host/x", "ftp:// is not a kind of place"),
        ("s3://", "the bucket is missing"),
        ("s3:///", "the bucket is missing"),
    ],
)
def test_a_place_that_can_not_be_is_refused(where, message):
    with pytest.raises(UserError, match=message):
        open_place(where)


def test_a_bucket_that_is_not_there_is_said(machine, bucket):
    fill(machine("box"))
    with pytest.raises(UserError, match="no such bucket"):
        push(machine("box"), open_place("s3://nobody/x"))


def test_a_place_is_a_folder_that_can_be_written(machine, tmp_path):
    fill(machine("box"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="shared folder can't be written"):
        push(machine("box"), open_place(str(tmp_path / "file")))
