"""Whether a program printed the expected output."""

from __future__ import annotations


def difference(printed: str, expected: str) -> str | None:
    """The first line that differs, in words; None where they agree.

    Space at line ends and empty lines at the end do not count.
    """
    ours, theirs = _lines(printed), _lines(expected)
    if ours == theirs:
        return None
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), 1):
        if mine != other:
            return f"line {number}: {mine[:100]!r} instead of {other[:100]!r}"
    return f"{len(ours)} lines instead of {len(theirs)}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
