"""The seccomp filters, compiled by libseccomp: every system call not listed is refused.

Installing a long filter takes the kernel nearly a millisecond, a third of what a whole program
costs. So the long one is installed on the zygote once, whose children inherit it, and each child
adds a short one that takes away what only the zygote needs.
"""

from __future__ import annotations

import errno
import tempfile
from dataclasses import dataclass
from functools import cache
from typing import Any

CLONE_THREAD = 0x00010000
CLONE_NAMESPACES = 0x7E020080
"""Every flag of clone(2) that would make a namespace."""

AF_UNIX = 1

FILES = (
    *("read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "preadv2"),
    *("pwritev2", "lseek", "close", "close_range", "dup", "dup2", "dup3", "fcntl", "open"),
    *("openat", "openat2", "creat", "stat", "fstat", "lstat", "newfstatat", "statx", "access"),
    *("faccessat", "faccessat2", "readlink", "readlinkat", "getdents", "getdents64", "getcwd"),
    *("chdir", "fchdir", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename"),
    *("renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "truncate"),
    *("ftruncate", "fallocate", "utimensat", "utime", "utimes", "chmod", "fchmod", "fchmodat"),
    *("umask", "statfs", "fstatfs", "fsync", "fdatasync", "flock", "copy_file_range"),
    *("sendfile", "fadvise64"),
)
MEMORY = (
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "brk",
    "msync",
    "mincore",
    "membarrier",
)
TIME = (
    *("nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time"),
    *("times", "alarm", "setitimer", "getitimer", "pause"),
)
THREADS = (
    *("futex", "futex_wait", "futex_wake", "set_robust_list", "get_robust_list"),
    *("set_tid_address", "rseq", "restart_syscall", "sched_yield", "sched_getaffinity", "getcpu"),
    *("exit", "exit_group", "arch_prctl", "wait4", "waitid"),
)
SIGNALS = (
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigsuspend"),
    *("rt_sigtimedwait", "sigaltstack"),
)
KILLS = ("kill", "tkill", "tgkill")
ADDRESSED = ("socket", "connect", "bind", "listen", "accept", "accept4", "sendmsg")
"""Signals and named sockets: harmless in a program's own namespaces (tier A), and refused without
them (tier B), where they reach the host's processes and its sockets, which Landlock does not
guard."""

OWNERS = (8, 10, 15)
"""fcntl(2) commands that choose who gets a descriptor's signals, and which: a way round kill(2)."""

ABOUT_ITSELF = (
    *("getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid", "getgroups"),
    *("getresuid", "getresgid", "getpgrp", "getpgid", "getsid", "getrandom", "uname", "sysinfo"),
    *("getrusage", "getrlimit", "setrlimit", "prlimit64", "getpriority"),
)
WAITING = (
    *("poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl"),
    *("epoll_wait", "epoll_pwait", "eventfd", "eventfd2", "pipe", "pipe2"),
)
SOCKETS = (
    *("connect", "bind", "listen", "accept", "accept4", "sendto", "recvfrom", "sendmsg"),
    *("recvmsg", "shutdown", "getsockname", "getpeername", "setsockopt", "getsockopt"),
)
TERMINAL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""The only requests of ioctl(2): is it a terminal, its size, bytes to read, blocking, close on
exec."""

PR_SET_NAME, PR_GET_NAME = 15, 16
"""The only options of prctl(2) that a program may use: its threads' names."""

ZYGOTES = (
    *("fork", "setns", "unshare", "mount", "umount2", "pidfd_open", "memfd_create"),
    *("setresuid", "setresgid", "capset", "landlock_restrict_self", "sched_setaffinity"),
)
"""What the zygote needs between two programs, and each child's own filter refuses."""

REFUSED = (
    *("vfork", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev"),
    *("process_madvise", "kcmp", "pidfd_getfd", "pidfd_send_signal"),
    *("pivot_root", "chroot", "open_tree", "move_mount", "fsopen"),
    *("bpf", "perf_event_open", "keyctl", "add_key", "request_key", "io_uring_setup"),
    *("io_uring_enter", "io_uring_register", "userfaultfd", "memfd_secret"),
    *("shmget", "shmat", "shmctl", "semget", "semop", "semctl", "msgget", "msgsnd", "msgrcv"),
    *("mq_open", "setuid", "setgid", "setreuid", "setregid"),
    *("setgroups", "setfsuid", "setfsgid", "chown", "fchown", "lchown", "fchownat"),
    *("mknod", "mknodat", "setsid", "setpgid", "setpriority", "sched_setscheduler"),
    *("reboot", "kexec_load", "init_module", "finit_module"),
    *("delete_module", "swapon", "swapoff", "sethostname", "setdomainname", "settimeofday"),
    *("clock_settime", "adjtimex", "quotactl", "acct", "syslog", "personality", "seccomp"),
    *("landlock_create_ruleset", "name_to_handle_at", "open_by_handle_at", "fanotify_init"),
    *("inotify_init", "inotify_init1", "iopl", "ioperm", "vhangup", "mlock", "mlockall"),
)


@dataclass(frozen=True, slots=True)
class Filters:
    """Compiled BPF: `zygote` is inherited by every child, `child` is what each adds."""

    zygote: bytes
    child: bytes


@cache
def compiled(own_processes: bool) -> Filters:
    """The filters for this machine; raises RuntimeError where libseccomp is missing.

    `own_processes`: whether a program has a process namespace to itself, so that it may signal
    what is in it. Calls in `REFUSED` answer EPERM, all unknown ones ENOSYS, and clone3 too: the C
    library then falls back to clone, whose flags a filter can read.
    """
    try:
        import pyseccomp as seccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise RuntimeError(str(error)) from error
    return Filters(_long(seccomp), _short(seccomp, own_processes))


def _long(seccomp: Any) -> bytes:
    forbidden = seccomp.ERRNO(errno.EPERM)
    rules = seccomp.SyscallFilter(seccomp.ERRNO(errno.ENOSYS))
    plain = (*FILES, *MEMORY, *TIME, *THREADS, *SIGNALS, *ABOUT_ITSELF, *WAITING, *SOCKETS)
    for name in (*plain, *KILLS, *ZYGOTES, "prctl"):
        _add(rules, seccomp.ALLOW, name)
    for name in REFUSED:
        _add(rules, forbidden, name)
    # A new process, but none with a namespace flag.
    here = seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_NAMESPACES, 0)
    _add(rules, seccomp.ALLOW, "clone", here)
    for call in ("socket", "socketpair"):
        _add(rules, seccomp.ALLOW, call, seccomp.Arg(0, seccomp.EQ, AF_UNIX))
        _add(rules, forbidden, call, seccomp.Arg(0, seccomp.NE, AF_UNIX))
    for request in TERMINAL:
        _add(rules, seccomp.ALLOW, "ioctl", seccomp.Arg(1, seccomp.EQ, request))
    return _exported(rules)


def _short(seccomp: Any, alone: bool) -> bytes:
    forbidden = seccomp.ERRNO(errno.EPERM)
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    for name in ZYGOTES + (() if alone else KILLS + ADDRESSED):
        _add(rules, forbidden, name)
    if not alone:
        # With an address `sendto` reaches named sockets, as `connect` does; without, it is `send`.
        _add(rules, forbidden, "sendto", seccomp.Arg(4, seccomp.NE, 0))
    for command in OWNERS:
        _add(rules, forbidden, "fcntl", seccomp.Arg(1, seccomp.EQ, command))
    # Limits of its own only (PID 0), and threads but no processes.
    _add(rules, forbidden, "prlimit64", seccomp.Arg(0, seccomp.NE, 0))
    _add(rules, forbidden, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, CLONE_THREAD, 0))
    _add(rules, forbidden, "prctl", seccomp.Arg(0, seccomp.LT, PR_SET_NAME))
    _add(rules, forbidden, "prctl", seccomp.Arg(0, seccomp.GT, PR_GET_NAME))
    return _exported(rules)


def _exported(rules: Any) -> bytes:
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def _add(rules: Any, action: int, name: str, *conditions: Any) -> None:
    """Add a rule; a call that this architecture lacks needs none."""
    try:
        rules.add_rule(action, name, *conditions)
    except (ValueError, OSError) as error:
        if getattr(error, "errno", errno.EINVAL) not in (errno.EINVAL, errno.EFAULT, errno.EDOM):
            raise
