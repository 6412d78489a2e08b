"""What a hostile program is, and the forms that many of them share."""

from __future__ import annotations

from dataclasses import dataclass

TESTS = "assert candidate(2, 3) == 5\nassert candidate(10, 4) == 14\n"


@dataclass(frozen=True)
class Hostile:
    name: str
    program: str
    label: str
    in_b: str | None = None  # where tier B says something else
    tests: str = TESTS

    def expected(self, tier: str) -> list[str]:
        """The labels that are right: one, or several where they depend on the interpreter.

        What takes much computing may be too much for a machine that is busy with other work.
        """
        labels = (self.in_b if tier == "B" and self.in_b else self.label).split()
        return [*labels, "timeout:wall-busy"] if "timeout:cpu" in labels else labels


def right(at_load: str) -> str:
    return f"{at_load}\ndef solve(a, b):\n    return a + b\n"


def wrong(at_load: str) -> str:
    return f"{at_load}\ndef solve(a, b):\n    return 0\n"


def in_call(body: str) -> str:
    return "def solve(a, b):\n" + "\n".join(f"    {line}" for line in body.splitlines()) + "\n"


def held(attempt: str) -> str:
    """`attempt` must raise OSError or ValueError, or the answer is wrong."""
    lines = "\n".join(f"        {line}" for line in attempt.splitlines())
    return (
        "import ctypes, mmap, os, resource, signal, socket, sys, threading\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "def call(*a):\n"
        "    if libc.syscall(*a) < 0:\n"
        "        raise OSError(ctypes.get_errno(), 'refused')\n"
        "def solve(a, b):\n"
        f"    try:\n{lines}\n"
        "    except (OSError, ValueError):\n"
        "        return a + b\n"
        "    return -1\n"
    )


def always_equal(base: str, value: str) -> str:
    return (
        f"class Equal({base}):\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    def __hash__(self): return 5\n"
        "    def __bool__(self): return True\n"
        f"def solve(a, b): return Equal({value})\n"
    )
