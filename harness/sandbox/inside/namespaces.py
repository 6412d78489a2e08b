"""Tier A: a root with only the interpreter's files, no network, its own process ids.

They are made once per worker; only a process namespace is made per program, within the worker's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence

from . import syscalls as sys_

OUTSIDE_IDS = (1_879_000_000, 65_534)
"""User ids that own no file on the host, tried in this order; the second is for containers that map
only few ids."""

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
WRITABLE = "/writable"
TEMPORARY = "/writable/tmp"
"""What /tmp points to. It is mounted anew after a program that left files there. Landlock's rules
name the folder above it: they hold through that, and rules on the mount itself would not."""

TEMPORARY_OPTIONS = "size=16m,nr_inodes=1024,mode=1777"
QUIET = sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC
FRESH = (
    sys_.CLONE_NEWUSER
    | sys_.CLONE_NEWNS
    | sys_.CLONE_NEWNET
    | sys_.CLONE_NEWIPC
    | sys_.CLONE_NEWUTS
    | sys_.CLONE_NEWPID
)


def enter(stage: str, shown: Sequence[str], hidden: Sequence[str]) -> int | None:
    """Move this process into new namespaces with a root of its own.

    Returns the user id, inside, that programs change to; None where they keep this process's.
    `stage` is an empty folder on which the new root is built; `shown` are the files and folders
    in it, read-only, without the folders `hidden`. The next process that is forked is the first
    of the new process namespace. Raises OSError where this machine forbids it.
    """
    if os.geteuid() == 0:
        # Only a process outside the new user namespace may map more than its own user.
        mapped = _mapper()
        sys_.unshare(sys_.CLONE_NEWNS)
        build_root(stage, shown, hidden)
        with contextlib.suppress(PermissionError):  # refused where no groups are mapped anyhow
            os.setgroups([])
        sys_.unshare(FRESH)
        user = mapped()
    else:
        uid, gid = os.geteuid(), os.getegid()
        sys_.unshare(FRESH)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
        build_root(stage, shown, hidden)
        user = None
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return user


def _mapper() -> Callable[[], int | None]:
    """Fork a helper that stays outside and maps this process's users when the returned function is
    called, which returns the user id that programs change to, or None.
    """
    pid = os.getpid()
    told, tell = os.pipe()
    answered, answer = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(tell)
        os.read(told, 1)
        os.write(answer, b"2" if _map_two(pid) else b"1" if _map_root(pid) else b"0")
        os._exit(0)
    os.close(told)
    os.close(answer)

    def mapped() -> int | None:
        os.write(tell, b"!")
        done = os.read(answered, 1)
        os.waitpid(helper, 0)
        os.close(tell)
        os.close(answered)
        if done not in (b"1", b"2"):
            raise PermissionError(1, "uid_map: Operation not permitted")
        return 1 if done == b"2" else None

    return mapped


def _map_two(pid: int) -> bool:
    for outside in OUTSIDE_IDS:
        with contextlib.suppress(OSError):
            for kind in ("uid", "gid"):
                _write(f"/proc/{pid}/{kind}_map", f"0 {outside} 1\n1 {outside + 1} 1")
            return True
    return False


def _map_root(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for kind in ("uid", "gid"):
            _write(f"/proc/{pid}/{kind}_map", "0 0 1")
        return True
    return False


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def build_root(stage: str, shown: Sequence[str], hidden: Sequence[str]) -> None:
    """Build a root on `stage` and move into it; the old root can't be reached any more."""
    sys_.mount("", "/", flags=sys_.MS_REC | sys_.MS_PRIVATE)
    sys_.mount("root", stage, "tmpfs", sys_.MS_NOSUID, "size=1m,nr_inodes=4096,mode=755")
    for path in shown:
        _show(stage, path)
    for path in hidden:
        sys_.mount("hidden", stage + path, "tmpfs", QUIET | sys_.MS_RDONLY, "size=4k,nr_inodes=2")
    for device in DEVICES:
        _show(stage, device)
    os.makedirs(stage + TEMPORARY)
    os.symlink(TEMPORARY, f"{stage}/tmp")
    os.chdir(stage)
    sys_.pivot_root_here()
    sys_.mount("", "/", flags=sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_RDONLY | sys_.MS_NOSUID)


def _show(stage: str, path: str) -> None:
    target = stage + path
    if os.path.islink(path):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    sys_.mount(path, target, flags=sys_.MS_BIND | sys_.MS_REC)
    if path in DEVICES:
        return
    # In a user namespace a remount must name again the flags that the mount has.
    has = os.statvfs(target).f_flag
    kept = (has & os.ST_NOEXEC and sys_.MS_NOEXEC) | (has & os.ST_NOATIME and sys_.MS_NOATIME)
    kept |= has & os.ST_NODIRATIME and sys_.MS_NODIRATIME
    kept |= has & os.ST_RELATIME and sys_.MS_RELATIME
    base = sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_RDONLY | sys_.MS_NOSUID | sys_.MS_NODEV
    sys_.mount("", target, flags=base | kept)


def fresh_temporary() -> None:
    """Mount a small empty /tmp for the next program."""
    with contextlib.suppress(OSError):
        sys_.unmount(TEMPORARY)
    sys_.mount("tmp", TEMPORARY, "tmpfs", QUIET, TEMPORARY_OPTIONS)


def temporary_is_dirty() -> bool:
    """Whether anything was left in /tmp: an empty one has a single inode, its root folder."""
    state = os.statvfs(TEMPORARY)
    return state.f_files - state.f_ffree > 1
