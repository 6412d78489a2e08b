"""Folders that are whole or absent: digests, manifests, staged and atomic writes.

A folder is written beside its place under a hidden name, fsynced, given a `MANIFEST.json` with
the size and SHA-256 of every file, and renamed. A kill at any moment leaves either the whole
folder or a hidden one that is never read. Used by the registry, the trainers and the bundles.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.fault_points import fault_point
from harness.core.lock import NO_LOCKS, without_locks

MANIFEST = "MANIFEST.json"
SET_ASIDE = "set-aside"
STAGING = ".staging-"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG}

_MODEL_SUFFIXES = {
    ".safetensors", ".bin", ".gguf", ".pt", ".pth",  # weights
    ".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm",  # configuration and tokenizer
    ".py",  # a model's own code
}  # fmt: skip
_NOT_THE_MODEL = {
    MANIFEST, "ratchet.json", "training_args.bin", "trainer_state.json", "optimizer.bin",
    "optimizer.pt", "scheduler.pt", "scheduler.bin", "scaler.pt", "zero_to_fp32.py",
}  # fmt: skip
# Beginnings of names: random state, DeepSpeed's shards, anything hidden.
_STATE_OF_TRAINING = ("rng_state", "global_step", ".")


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_files(folder: Path) -> list[Path]:
    """The files that decide what a model says, sorted by relative name.

    Weights, adapter, configuration, tokenizer, template and the model's own code; not the state
    of a training (optimizer, random numbers, DeepSpeed's shards), manifests, or anything hidden.
    """
    return [
        path
        for path in _files(folder)
        if path.suffix in _MODEL_SUFFIXES
        and path.name not in _NOT_THE_MODEL
        and not any(part.startswith(_STATE_OF_TRAINING) for part in path.relative_to(folder).parts)
    ]


def digest_of_folder(folder: Path) -> str:
    """The digest that names a checkpoint: SHA-256 over the names and bytes of its model files.

    64 hexadecimal digits, independent of times, permissions and where the folder is. Raises
    UserError where there is no model file.
    """
    files = model_files(folder)
    if not files:
        raise UserError(
            "the folder holds no model files",
            file=folder,
            hint="name a folder with weights or an adapter, and its configuration",
        )
    whole = hashlib.sha256()
    for path in files:
        name = path.relative_to(folder).as_posix()
        whole.update(f"{name}\0{path.stat().st_size}\0{sha256_of_file(path)}\n".encode())
    return whole.hexdigest()


@contextlib.contextmanager
def staged(final: Path, *, manifest: bool = True) -> Iterator[Path]:
    """A folder that appears complete or not at all, for a `with` statement.

    Yields an empty folder on the same file system. At the end it is committed as `final`; on an
    exception it is removed and `final` is not made. Raises UserError if `final` exists already,
    and where there is no room or no permission.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep(final.parent)
        staging, lock = _new_staging(final)
    except OSError as error:
        raise _cannot_write(final, error) from error
    try:
        yield staging
        commit_folder(staging, final, manifest=manifest)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        if error.errno in _NO_ROOM:
            raise _cannot_write(final, error) from error
        raise
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def commit_folder(staging: Path, final: Path, *, manifest: bool = True) -> None:
    """Write the manifest, fsync every file and folder, rename to `final`, fsync the parent.

    Raises UserError if `final` exists already.
    """
    fault_point("mid-checkpoint")
    if manifest:
        write_manifest(staging)
    # Every byte is on disk before the name is: were the rename to survive a power cut and the
    # bytes not, a torn folder would look like a complete one.
    for path in _files(staging):
        fsync(path)
    for folder in _folders(staging):
        fsync(folder)
    fault_point("before-rename")
    if final.exists():
        raise UserError(f"{final.name} is already there", file=final, hint="choose another name")
    staging.rename(final)
    fsync(final.parent)  # the new name is an entry of the parent, and needs its own fsync


def write_manifest(folder: Path) -> None:
    """Sizes in bytes and SHA-256 of every file of the folder, as `MANIFEST.json`."""
    files = {
        path.relative_to(folder).as_posix(): {
            "sha256": sha256_of_file(path),
            "size": path.stat().st_size,
        }
        for path in _files(folder)
        if path.name != MANIFEST
    }
    text = json.dumps({"files": files, "format": 1}, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Relative name -> {size, sha256}. Raises UserError where there is none, or a broken one."""
    path = folder / MANIFEST
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
        return {str(name): {"size": f["size"], "sha256": f["sha256"]} for name, f in files.items()}
    except FileNotFoundError as error:
        raise UserError("there is no manifest: it was never completed", file=path) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError("the manifest can't be read", file=path) from error


def verify(folder: Path) -> list[str]:
    """What is wrong with a committed folder, one sentence a problem; empty where there is none.

    Reads every byte. Missing, changed and surplus files are named.
    """
    if not folder.is_dir():
        return [f"{folder.name}: there is no such folder"]
    try:
        listed = read_manifest(folder)
    except UserError as error:
        return [f"{MANIFEST}: {error.what}"]
    problems = []
    for name, expected in sorted(listed.items()):
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif path.stat().st_size != expected["size"]:
            problems.append(f"{name}: {path.stat().st_size} bytes, not {expected['size']}")
        elif sha256_of_file(path) != expected["sha256"]:
            problems.append(f"{name}: its bytes have changed")
    present = {path.relative_to(folder).as_posix() for path in _files(folder)} - {MANIFEST}
    problems += [f"{name}: not in the manifest" for name in sorted(present - listed.keys())]
    return problems


def set_aside(folder: Path, reason: str) -> Path:
    """Move a broken folder to `set-aside/` beside it, with its reason. Nothing is deleted."""
    shelf = folder.parent / SET_ASIDE
    shelf.mkdir(exist_ok=True)
    number = 1
    while (place := shelf / f"{folder.name}.{number}").exists():
        number += 1
    folder.rename(place)
    write_atomic(shelf / f"{place.name}.reason.txt", reason + "\n")
    fsync(folder.parent)
    return place


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace a file's content at once: readers see all of the old or all of the new.

    Raises UserError where it can't be written.
    """
    content = data.encode() if isinstance(data, str) else data
    # In the same folder, since a rename is atomic only within one file system.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        fsync(temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error) from error
    fsync(path.parent)


def replace_symlink(link: Path, target: str | Path) -> None:
    """Point a symbolic link elsewhere; at every moment readers find the old target or the new."""
    temporary = link.with_name(f".{link.name}.{uuid.uuid4().hex[:8]}")
    temporary.symlink_to(target)
    temporary.replace(link)
    fsync(link.parent)


def copy_files(files: Iterable[Path], source: Path, target: Path, *, link: bool = False) -> None:
    """Copy files into another folder under their relative names.

    `link` shares the bytes instead (hard links), for sources that are never written to again;
    where the file system has no hard links, they are copied.
    """
    for path in files:
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if link:
            with contextlib.suppress(OSError):
                os.link(path, place)
                continue
        shutil.copyfile(path, place)


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in _files(folder))


def sweep(parent: Path) -> None:
    """Remove staging folders whose writer is gone."""
    for staging in parent.glob(f"{STAGING}*"):
        with contextlib.suppress(OSError):
            # A writer locks its folder for as long as it lives, and the kernel frees the lock of
            # one that was killed: a folder that can be locked has no writer.
            lock = os.open(staging, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(staging, ignore_errors=True)
            finally:
                os.close(lock)


def fsync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _new_staging(final: Path) -> tuple[Path, int]:
    """An empty folder, and the descriptor whose lock shows that its writer is alive."""
    # Between `mkdir` and the lock another process may sweep the folder away: then make another.
    while True:
        staging = final.parent / f"{STAGING}{final.name}-{uuid.uuid4().hex[:8]}"
        staging.mkdir()
        try:
            lock = os.open(staging, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            os.close(lock)
            staging.rmdir()
            if error.errno in NO_LOCKS:
                raise without_locks(final.parent) from error
            raise
        if staging.exists():
            return staging, lock
        os.close(lock)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _folders(folder: Path) -> list[Path]:
    return [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]


def _cannot_write(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path.name} can't be written: {error.strerror or error}",
        file=path,
        hint="free some space or fix the folder's permissions, then run it again",
    )
