"""Whether a model's files, written by another program, are all there to their last byte."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

from harness.models.resolve import ADAPTER_CONFIG

_HEADER_BYTES = 8
_LONGEST_HEADER = 100_000_000


def why_not_whole(folder: Path) -> str | None:
    """What is missing or cut off, in a sentence; None where nothing is. Reads no weights: the
    length that a file of weights says it has must be the length that it has.
    """
    try:
        return _why_not(folder)
    except OSError as error:
        # Deleted while it was looked at, or not readable yet.
        return f"it can't be read: {error}"


def _why_not(folder: Path) -> str | None:
    if not any((folder / name).is_file() for name in ("config.json", ADAPTER_CONFIG)):
        return f"neither config.json nor {ADAPTER_CONFIG} is there"
    for path in sorted(folder.glob("*.json")):
        content = read_json(path)
        if content is None:
            return f"{path.name} is cut off"
        named = content.get("weight_map") if path.name.endswith(".index.json") else None
        missing = sorted({n for n in (named or {}).values() if not (folder / n).is_file()})
        if missing:
            return f"{missing[0]} is missing"
    weights = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.bin"))]
    weights = [path for path in weights if path.name.startswith(("model", "adapter", "pytorch_"))]
    if not weights:
        return "there are no weights"
    cut = next((path.name for path in weights if not _is_whole(path)), None)
    return None if cut is None else f"{cut} is cut off"


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where it is not there, or not all of it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_whole(path: Path) -> bool:
    if path.suffix == ".bin":
        # The directory of a zip file, as torch writes them, is its end.
        return zipfile.is_zipfile(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES:
            return False
        (length,) = struct.unpack("<Q", head)
        if length > min(size, _LONGEST_HEADER):
            return False
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"]
    whole: int = _HEADER_BYTES + length + max(ends, default=0)
    return size == whole
