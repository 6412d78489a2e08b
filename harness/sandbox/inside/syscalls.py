"""System calls that Python does not wrap, by ctypes, with their constants.

Numbers are from Linux's uapi headers. A failed call raises OSError with the call's name.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterable

# linux/sched.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000
MNT_DETACH = 0x2

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

# linux/capability.h
LINUX_CAPABILITY_VERSION_3 = 0x20080522

# linux/landlock.h; the three calls have the same numbers on every architecture
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_LANDLOCK_ADD_RULE = 445
SYS_LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1
LANDLOCK_ACCESS_FS_EXECUTE = 1 << 0
LANDLOCK_ACCESS_FS_WRITE_FILE = 1 << 1
LANDLOCK_ACCESS_FS_READ_FILE = 1 << 2
LANDLOCK_ACCESS_FS_READ_DIR = 1 << 3
LANDLOCK_ACCESS_FS_TRUNCATE = 1 << 14
LANDLOCK_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""How many rights on files an ABI knows; every ABI from 5 on knows 16."""
LANDLOCK_FS_RIGHTS_NEWEST = 16
LANDLOCK_ACCESS_NET_BIND_TCP = 1 << 0
LANDLOCK_ACCESS_NET_CONNECT_TCP = 1 << 1
LANDLOCK_ABI_NET = 4
LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
LANDLOCK_SCOPE_SIGNAL = 1 << 1
LANDLOCK_ABI_SCOPE = 6

# linux/time.h: the CPU clock of a whole process is made from its pid
CPUCLOCK_SCHED = 2

_libc = ctypes.CDLL(None, use_errno=True)


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _long(value: int) -> ctypes.c_ulong:
    return ctypes.c_ulong(value)


def unshare(flags: int) -> None:
    """Leave the named namespaces for new ones."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def setns(fd: int, flags: int) -> None:
    """Join the namespaces that `fd` (of a process, or of a namespace) stands for."""
    _checked("setns", _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, or bind or remount one, as the call of that name does."""
    _checked(
        f"mount {target}",
        _libc.mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() or None,
            _long(flags),
            options.encode() or None,
        ),
    )


def unmount(target: str) -> None:
    """Detach a mount at once; processes that use it keep it until they are done with it."""
    _checked(f"umount {target}", _libc.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH)))


def pivot_root_here() -> None:
    """Make the working directory the root, and drop the old root."""
    _checked("pivot_root", _libc.pivot_root(b".", b"."))
    unmount(".")
    os.chdir("/")


def prctl(option: int, argument: int = 0, pointer: object = None) -> None:
    """Set an attribute of this process, as the call of that name does."""
    _checked(
        f"prctl {option}",
        _libc.prctl(ctypes.c_int(option), _long(argument), pointer or _long(0), _long(0), _long(0)),
    )


def drop_capabilities() -> None:
    """Give up every capability, for good."""
    header = _CapHeader(LINUX_CAPABILITY_VERSION_3, 0)
    _checked("capset", _libc.capset(ctypes.byref(header), (_CapData * 2)()))


def install_filter(program: bytes) -> None:
    """Install a seccomp filter (compiled BPF, 8 bytes an instruction) on this process, for good."""
    held = ctypes.create_string_buffer(program, len(program))
    description = _Program(len(program) // 8, ctypes.cast(held, ctypes.c_void_p))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(description))


def landlock_abi() -> int:
    """The kernel's version of Landlock. Raises OSError where there is none."""
    version = _libc.syscall(
        ctypes.c_long(SYS_LANDLOCK_CREATE_RULESET),
        None,
        _long(0),
        ctypes.c_uint32(LANDLOCK_CREATE_RULESET_VERSION),
    )
    return _checked("landlock_create_ruleset", version)


def landlock_ruleset(readable: Iterable[str], writable: Iterable[str]) -> int:
    """A descriptor of Landlock's rules; raises OSError where the kernel has none.

    Files beneath `readable` may be read; beneath `writable` all is allowed but to run them. All
    else on files is refused, and on newer kernels TCP and signals to processes outside as well.
    """
    abi = landlock_abi()
    everything = (1 << LANDLOCK_FS_RIGHTS.get(abi, LANDLOCK_FS_RIGHTS_NEWEST)) - 1
    net = LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP
    scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL
    attributes = _Ruleset(
        everything,
        net if abi >= LANDLOCK_ABI_NET else 0,
        scoped if abi >= LANDLOCK_ABI_SCOPE else 0,
    )
    # An older kernel knows a shorter structure, and refuses a longer one unless its end is zero.
    ruleset = _checked(
        "landlock_create_ruleset",
        _libc.syscall(
            ctypes.c_long(SYS_LANDLOCK_CREATE_RULESET),
            ctypes.byref(attributes),
            _long(ctypes.sizeof(attributes)),
            ctypes.c_uint32(0),
        ),
    )
    reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR
    for paths, rights in (
        (readable, reading),
        (writable, everything & ~LANDLOCK_ACCESS_FS_EXECUTE),
    ):
        for path in paths:
            _allow_beneath(ruleset, path, rights & everything)
    return ruleset


def _allow_beneath(ruleset: int, path: str, rights: int) -> None:
    of_a_file = (
        LANDLOCK_ACCESS_FS_EXECUTE
        | LANDLOCK_ACCESS_FS_WRITE_FILE
        | LANDLOCK_ACCESS_FS_READ_FILE
        | LANDLOCK_ACCESS_FS_TRUNCATE
    )
    if not os.path.isdir(path):
        rights &= of_a_file
    parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = _PathBeneath(rights, parent)
        _checked(
            f"landlock_add_rule {path}",
            _libc.syscall(
                ctypes.c_long(SYS_LANDLOCK_ADD_RULE),
                ctypes.c_int(ruleset),
                ctypes.c_int(LANDLOCK_RULE_PATH_BENEATH),
                ctypes.byref(rule),
                ctypes.c_uint32(0),
            ),
        )
    finally:
        os.close(parent)


def landlock_restrict(ruleset: int) -> None:
    """Apply the rules to this process, for good. Needs no_new_privs."""
    _checked(
        "landlock_restrict_self",
        _libc.syscall(
            ctypes.c_long(SYS_LANDLOCK_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint32(0)
        ),
    )


def cpu_clock(pid: int) -> int:
    """The id, for `time.clock_gettime`, of the clock of process `pid`'s CPU time, all threads."""
    return (~pid << 3) | CPUCLOCK_SCHED


def cores() -> set[int]:
    """The cores that this process may use; none where the system doesn't say."""
    return os.sched_getaffinity(0) if sys.platform == "linux" else set()


def current_core() -> int:
    """The core that this process runs on."""
    return _checked("sched_getcpu", _libc.sched_getcpu())


def keep_to(pid: int, cores: set[int]) -> None:
    """Let process `pid` (0: this one) run on `cores` only, as far as this machine allows."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.sched_setaffinity(pid, cores)
