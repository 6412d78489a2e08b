"""What the store does when the disk is full, gone or closed: nothing acknowledged is lost."""

import contextlib
import errno
import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.core.lock import FairLock, Patience
from harness.core.workspace import Workspace
from harness.store import journal
from harness.store.store import Store
from tests.harness.store.store_processes import (
    COUNT,
    count,
    in_child,
    step,
)


@pytest.fixture
def workspace(tmp_path):
    return Workspace.at(tmp_path / ".ratchet")


def test_a_journal_deleted_under_its_writer_is_noticed(workspace):
    store = Store(workspace)
    store.append("training_steps", [step(1)])
    assert store.query(COUNT) == [{"n": 1}]
    shutil.rmtree(workspace.journal)
    store.append("training_steps", [step(2)])
    assert store.query(COUNT) == [{"n": 2}]
    store.close()


def fill(workspace):
    """Append rows of 20 kB until that is refused; returns how many were acknowledged."""
    store = Store(workspace)
    for number in range(100_000):
        try:
            store.append("trainings", [{"training_id": str(number), "recipe": "x" * 20_000}])
        except UserError as error:
            return number if "space" in (error.hint or "") else 0
    raise AssertionError("it was never refused")


def test_a_file_size_limit_loses_nothing(workspace):
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        acknowledged = fill(workspace)
        store = Store(workspace)
        with pytest.raises(UserError):
            store.query(COUNT)
        return acknowledged

    acknowledged = in_child(work)
    assert acknowledged > 3
    with Store(workspace) as store:
        found = store.query("SELECT count(*) AS n, count(DISTINCT training_id) AS d FROM trainings")
        assert found == [{"n": acknowledged, "d": acknowledged}]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system needs root and mount; the file size limit is tested")
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting is not permitted here; the file size limit is tested")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(small_disk):
    workspace = Workspace.at(small_disk / ".ratchet")
    assert count(workspace) == 0
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 2_000_000)
    acknowledged = in_child(fill, workspace)
    assert acknowledged > 10

    def read_in_vain():
        store = Store(workspace)
        try:
            store.query("SELECT count(*) FROM trainings")
        except UserError as error:
            return error.render()
        return "served"

    assert "space" in in_child(read_in_vain)
    ballast.unlink()
    found = []
    with contextlib.suppress(UserError), Store(workspace) as store:
        found = store.query("SELECT count(*) AS n, count(DISTINCT training_id) AS d FROM trainings")
    if not found:  # the journal and the database together do not fit: make more room
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        with Store(workspace) as store:
            found = store.query(
                "SELECT count(*) AS n, count(DISTINCT training_id) AS d FROM trainings"
            )
    assert found == [{"n": acknowledged, "d": acknowledged}]


def test_a_read_only_folder_can_be_read_and_says_why_it_cannot_be_written(workspace):
    with Store(workspace) as store:
        store.append("training_steps", [step(1)])
    for path in (workspace.home, workspace.journal):
        path.chmod(0o555)
    workspace.database.chmod(0o444)

    def work():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setuid(65534)
        store = Store(workspace)
        assert store.query(COUNT) == [{"n": 1}]
        try:
            store.append("training_steps", [step(2)])
        except UserError as error:
            return [error.what, error.hint]
        return "appended"

    # The temporary folder of root lets nobody else in.
    top = Path(tempfile.gettempdir())
    parents = [p for p in workspace.home.parents if p.is_relative_to(top) and p != top]
    modes = {path: path.stat().st_mode for path in parents}
    for path, mode in modes.items():
        path.chmod(mode | 0o055)
    try:
        what, hint = in_child(work)
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
        for path in (workspace.home, workspace.journal):
            path.chmod(0o755)
    assert "permission" in what.lower()
    assert "--home" in hint or "permissions" in hint


def test_a_failed_append_leaves_the_journal_and_the_next_one_works(workspace, monkeypatch):
    store = Store(workspace)
    store.append("training_steps", [step(1)])

    def refuse(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "fsync", refuse)
        with pytest.raises(UserError, match="Input/output error"):
            store.append("training_steps", [step(2)])
    store.append("training_steps", [step(3)])
    assert store.query("SELECT step FROM training_steps ORDER BY step") == [
        {"step": 1},
        {"step": 3},
    ]
    store.close()


@pytest.mark.parametrize("passage", [1, 2])
def test_an_interrupted_append_spoils_nothing_that_follows(workspace, monkeypatch, passage):
    store = Store(workspace)
    store.append("training_steps", [step(1)])
    writes = []
    write = os.write

    def interrupted(file, data):
        writes.append(data)
        if len(writes) == passage:
            raise KeyboardInterrupt
        return write(file, data)

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.append("training_steps", [step(2)])
    store.append("training_steps", [step(3)])
    assert store.query("SELECT step FROM training_steps ORDER BY step") == [
        {"step": 1},
        {"step": 3},
    ]
    assert store.problems() == []
    store.close()


def test_a_lock_is_not_inherited_by_a_child_forked_while_it_is_held(workspace):
    store = Store(workspace)
    store.append("training_steps", [step(1)])
    done = os.pipe()
    with FairLock(workspace.home / "turnstile").pass_through(Patience(1.0, None)):
        child = os.fork()
        if child == 0:
            os.read(done[0], 1)
            os._exit(0)
    try:
        with Store(workspace, lock_timeout_s=2.0) as other:
            assert other.query(COUNT) == [{"n": 1}]
    finally:
        os.write(done[1], b"x")
        os.waitpid(child, 0)
        for end in done:
            os.close(end)
    store.close()
