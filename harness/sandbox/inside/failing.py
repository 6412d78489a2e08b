"""Which line of the tests failed; the untrusted program's frames are left out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from types import TracebackType

LONGEST = 80
Place = tuple[int, int]
"""The first and the last line of what failed, from 1."""


def named(error: BaseException, sources: dict[str, str], entry_point: str) -> str:
    """``line 3, `assert candidate(2) == 4`: ``, to be put before what `error` says; or "".

    `sources` are the trusted texts by the names under which they were compiled, the tests first.
    The line is the innermost that calls the program, so that a helper which compares does not hide
    the case; else the innermost of all. It comes first in the detail, since what follows it may be
    the program's own words.
    """
    try:
        return _named(error.__traceback__, sources, entry_point)
    except MemoryError:  # what the program sent may fill the judge, which must go on all the same
        return ""


def _named(trace: TracebackType | None, sources: dict[str, str], entry_point: str) -> str:
    for name, source in sources.items():
        lines = re.split("\r\n|\r|\n", source)
        found = [
            (first, _shortened(" ".join(lines[first - 1 : last])))
            for first, last in _places(trace, name)
        ]
        if found:
            called = [place for place in found if _calls(place[1], entry_point)]
            first, text = (called or found)[-1]
            within = "" if name == next(iter(sources)) else f" of {name}"
            return f"line {first}{within}, `{text}`: "
    return ""


def _places(trace: TracebackType | None, name: str) -> Iterator[Place]:
    """The lines at which each frame of one source was, the outermost frame first."""
    while trace:
        code = trace.tb_frame.f_code
        if code.co_filename == name:
            at = next(itertools.islice(code.co_positions(), trace.tb_lasti // 2, None))
            first = at[0] or trace.tb_lineno
            yield first, at[1] or first
        trace = trace.tb_next


def _calls(text: str, entry_point: str) -> bool:
    names = "|".join(re.escape(name) for name in ("candidate", entry_point) if name)
    return re.search(rf"(?<!\w)(?:{names})\s*\(", text) is not None


def _shortened(text: str) -> str:
    """On one line of at most 80 characters. The middle is cut: the call is at the start, and what
    it should give at the end.
    """
    words = " ".join(text.split())
    return words if len(words) <= LONGEST else f"{words[: LONGEST // 2]} … {words[-30:]}"
