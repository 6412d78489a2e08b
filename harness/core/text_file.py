"""Reads text files in UTF-8; a wrong encoding or separator is named by what it looks like."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.core.errors import UserError

_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
MOST_IN_A_CELL = 2**31 - 1
"""Characters in one cell of a CSV; Python's own limit is 131,072, and texts are longer."""

_HIGH = re.compile(rb"[\x80-\xff]+")
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def is_there(path: Path) -> bool:
    """Whether a path leads to something; a name that is longer than any file's leads nowhere."""
    try:
        return path.exists()
    except OSError:
        return False


def read_text(path: Path, *, what: str) -> str:
    """A UTF-8 file's text. Raises UserError where it can't be read; `what` names its kind."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"no such {what}: {path.name}", file=path, hint="check the path's spelling"
        ) from None
    except IsADirectoryError:
        raise UserError(f"a {what} was expected here, not a folder", file=path) from None
    except OSError as error:
        raise UserError(f"the {what} can't be read: {error.strerror}", file=path) from None
    return decode(data, path, what=what)


def decode(data: bytes, path: Path, *, what: str) -> str:
    """The text of a file's bytes. Raises UserError naming the encoding that they look like."""
    looks = encoding_of(data)
    if looks is None:
        return data.decode("utf-8-sig")
    name, place = looks
    spelled = f"; it looks like {name}" if name else ""
    cure = f"iconv -f {name.partition(' ')[0]} -t UTF-8 {path.name} > NEW" if name else None
    hint = f"save it as UTF-8{f', such as with `{cure}`' if cure else ''}"
    raise UserError(f"the {what} is not UTF-8 (byte {place}){spelled}", file=path, hint=hint)


def encoding_of(data: bytes) -> tuple[str, int] | None:
    """What bytes that aren't UTF-8 look like ("" where nothing fits), and the first bad byte.

    None for UTF-8. A guess for a message, never for reading: a text of GBK has its high bytes in
    pairs, one of a Western code page has them one by one, and UTF-16 is full of zeros.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name, 0
    zeros = data[:4096].count(0)
    if zeros > len(data[:4096]) // 5:
        even = data[:4096:2].count(0)
        return ("UTF-16BE" if even > zeros // 2 else "UTF-16LE"), data.index(0)
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _code_page(data), error.start
    return None


def _code_page(data: bytes) -> str:
    runs = [len(run) for run in _HIGH.findall(data)]
    paired = sum(length for length in runs if length % 2 == 0)
    if paired >= 0.8 * sum(runs):
        for name, codec in (("GBK", "gb18030"), ("Shift-JIS", "cp932"), ("Big5", "big5")):
            try:
                data.decode(codec)
            except UnicodeDecodeError:
                continue
            return name
    # ISO-8859-1 has no printing character below 0xA0; Windows has quotes and dashes there.
    windows = any(0x80 <= byte < 0xA0 for byte in data)
    return "WINDOWS-1252 (Western)" if windows else "ISO-8859-1 (Latin-1)"


def check_separator(path: Path, header: Sequence[str], first_line: str) -> None:
    """Raise UserError where the columns of a CSV seem to be separated by something but commas.

    `header` holds the columns that commas make, `first_line` is the file's first line as it is.
    """
    declared = re.fullmatch(r"sep=(.)\s*", first_line)
    for mark, name in _SEPARATORS.items():
        if (declared and declared.group(1) == mark) or (len(header) == 1 and mark in first_line):
            raise UserError(
                f"the columns are separated by {name}, not by commas",
                file=path,
                line=1,
                hint="save it with commas (in a spreadsheet: CSV, separator comma; in pandas: "
                f"`pd.read_csv(FILE, sep={mark!r}).to_csv(NEW, index=False)`)",
            )
    if declared:
        raise UserError(
            "the first line names a separator, for spreadsheets, and is no header",
            file=path,
            line=1,
            hint="delete that line",
        )


def check_columns(path: Path, header: Iterable[str], *, line: int | None = 1) -> None:
    """Raise UserError where two columns have one name: which was meant, nobody can say."""
    seen: set[str] = set()
    for column in header:
        if column in seen:
            raise UserError(
                f"two columns are called {column!r}",
                file=path,
                line=line,
                field=column or None,
                hint="rename one of them, or delete it",
            )
        seen.add(column)


def without_halves(text: str) -> str:
    """The text with U+FFFD for each lone surrogate: half a character, which no file can hold."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def is_whole(text: str) -> bool:
    """Whether a text holds no lone surrogate."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
