"""Folders appear complete or not at all, and a change to one is found."""

import errno
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core import files as artifacts
from harness.core.errors import UserError


def make(folder, **files):
    with artifacts.staged(folder) as staging:
        for name, content in (files or {"model.safetensors": "weights"}).items():
            path = staging / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return folder


def test_a_committed_folder_verifies_and_leaves_nothing_else(tmp_path):
    folder = make(tmp_path / "step-8", **{"a.bin": "a", "inner__b.bin": ""})
    assert artifacts.verify(folder) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-8"]
    manifest = artifacts.read_manifest(folder)
    assert manifest["a.bin"]["size"] == 1
    assert manifest["inner/b.bin"]["size"] == 0


def test_an_exception_leaves_nothing(tmp_path):
    def fail_halfway():
        with artifacts.staged(tmp_path / "step-8") as staging:
            (staging / "a.bin").write_text("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_overwritten(tmp_path):
    folder = make(tmp_path / "step-8")
    with pytest.raises(UserError, match="already there"):
        make(folder)
    assert artifacts.verify(folder) == []


def test_a_full_disk_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="No space left"), artifacts.staged(tmp_path / "step-8"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda f: (f / "model.safetensors").write_text("wEights"), "bytes have changed"),
        (lambda f: (f / "model.safetensors").write_text("short"), "5 bytes, not 7"),
        (lambda f: (f / "model.safetensors").unlink(), "missing"),
        (lambda f: (f / "surplus.bin").write_text(""), "not in the manifest"),
        (lambda f: (f / "MANIFEST.json").unlink(), "no manifest"),
        (lambda f: (f / "MANIFEST.json").write_text("{"), "can't be read"),
        (lambda f: (f / "MANIFEST.json").write_text('{"files": 3}'), "can't be read"),
    ],
)
def test_verify_names_each_damaged_file(tmp_path, damage, word):
    folder = make(tmp_path / "step-8")
    damage(folder)
    [problem] = artifacts.verify(folder)
    assert word in problem


def test_a_broken_folder_is_set_aside_with_its_reason(tmp_path):
    for number in (1, 2):
        folder = make(tmp_path / "step-3")
        (folder / "model.safetensors").unlink()
        place = artifacts.set_aside(folder, "; ".join(artifacts.verify(folder)))
        assert place == tmp_path / artifacts.SET_ASIDE / f"step-3.{number}"
        assert place.is_dir()
        assert not folder.exists()
        reason = place.with_name(f"step-3.{number}.reason.txt")
        assert "missing" in reason.read_text()


def test_a_staging_folder_is_swept_only_when_its_writer_is_gone(tmp_path):
    abandoned = tmp_path / f"{artifacts.STAGING}step-1-0000"
    abandoned.mkdir()
    with artifacts.staged(tmp_path / "step-2") as alive:
        assert not abandoned.exists()
        make(tmp_path / "step-3")
        assert alive.exists()


names = st.text("abcdefgh", min_size=1, max_size=8).map(lambda name: f"{name}.bin")


@given(files=st.dictionaries(names, st.binary(max_size=50), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_the_digest_is_of_names_and_bytes_and_nothing_else(files, tmp_path_factory):
    def written(order):
        folder = tmp_path_factory.mktemp("model")
        for name in order:
            (folder / name).write_bytes(files[name])
        return folder

    one, other = written(files), written(reversed(list(files)))
    (other / "global_step8").mkdir()
    for name in ("optimizer.pt", "rng_state_0.pth", "ratchet.json", "global_step8/shard.pt"):
        (other / name).write_bytes(b"not the model")
    (other / ".hidden.json").write_bytes(b"not the model")
    (other / "README.md").write_bytes(b"not the model")
    assert artifacts.digest_of_folder(one) == artifacts.digest_of_folder(other)
    name = next(iter(files))
    (other / name).write_bytes(files[name] + b"!")
    assert artifacts.digest_of_folder(one) != artifacts.digest_of_folder(other)
    (one / name).rename(one / "renamed.bin")
    assert artifacts.digest_of_folder(one) != artifacts.digest_of_folder(written(files))


def test_bytes_moved_between_files_change_the_digest(tmp_path):
    one = make(tmp_path / "one", **{"a.bin": "xy", "b.bin": "z"})
    other = make(tmp_path / "other", **{"a.bin": "x", "b.bin": "yz"})
    assert artifacts.digest_of_folder(one) != artifacts.digest_of_folder(other)


def test_a_folder_without_a_model_has_no_digest(tmp_path):
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(UserError, match="no model files"):
        artifacts.digest_of_folder(tmp_path)


def test_an_atomic_write_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "pointer.json"
    artifacts.write_atomic(path, "old")
    artifacts.write_atomic(path, b"new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="can't be written"):
        artifacts.write_atomic(tmp_path / "nowhere" / "a.json", json.dumps({}))


def test_links_share_bytes_and_copies_do_not(tmp_path):
    source = make(tmp_path / "source", **{"inner__a.bin": "a"})
    files = artifacts.model_files(source)
    for link in (True, False):
        target = tmp_path / f"target-{link}"
        artifacts.copy_files(files, source, target, link=link)
        assert (target / "inner/a.bin").samefile(source / "inner/a.bin") is link
