"""A file system without locks is said, wherever a lock is asked for first."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.core.lock import FairLock, Patience
from harness.core.workspace import Workspace
from harness.store.store import Store


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(file: int, how: int) -> None:
        raise OSError(request.param, "no")

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_lock_says_that_there_are_none(no_locks: None, tmp_path: Path) -> None:
    lock = FairLock(tmp_path / "lock")
    with (
        pytest.raises(UserError, match="file system has no locks") as caught,
        lock.pass_through(Patience(1.0, None)),
    ):
        pass
    assert "--home" in (caught.value.hint or "")
    assert str(tmp_path) in (caught.value.file or "")


def test_a_store_says_so_for_reading_and_for_writing(no_locks: None, tmp_path: Path) -> None:
    store = Store(Workspace.at(tmp_path / "home").ensure())
    for act in (
        lambda: store.query("SELECT 1"),
        lambda: store.append("trainings", [{"training_id": "1", "recipe": "x"}]),
    ):
        with pytest.raises(UserError, match="file system has no locks"):
            act()


def test_another_error_of_the_system_stays_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int, how: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.raises(OSError, match="Input/output"),
        FairLock(tmp_path / "lock").pass_through(Patience(1.0, None)),
    ):
        pass
