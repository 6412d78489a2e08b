"""Unpacks one file that gzip, Zstandard, bzip2 or xz has packed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

from harness.core.errors import UserError


def unpacked(path: Path) -> bytes:
    """The bytes of a file whose suffix is one of `PACKED`. Raises UserError for one that is not
    there, is packed otherwise or ends too soon.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(
            f"no such data file: {path.name}", file=path, hint="check the path's spelling"
        ) from None
    except OSError as error:
        raise UserError(f"the data file can't be read: {error.strerror}", file=path) from None
    try:
        return PACKED[path.suffix.lower()](data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f"this can't be unpacked as {path.suffix}: {str(error) or type(error).__name__}",
            file=path,
            hint="it may have been cut short, or be packed in another way: fetch it again",
        ) from None


def _zst(data: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
        found: bytes = stream.read()
    return found


PACKED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".zst": _zst,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
"""How the bytes of each kind of packing are read, by its suffix."""
