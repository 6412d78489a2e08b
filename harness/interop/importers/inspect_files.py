"""Reads the files that Inspect writes: an .eval archive or a .json log."""

from __future__ import annotations

import binascii
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.interop.importers.common import parse_json, read_json

_ZSTD = 93

Log = Mapping[str, Any]
"""A part of a log, as its JSON reads."""


def read_log(path: Path) -> tuple[Log, list[Log]]:
    """What a log says of its evaluation as a whole, and each sample of each epoch.

    Raises UserError for a file that is not a log, is cut short, or whose evaluation didn't finish.
    """
    header, samples = _read(path)
    _check(path, header, samples)
    return header, [_with_scores(sample, header) for sample in samples]


def _with_scores(sample: Log, header: Log) -> Log:
    """The sample with its scores by name: early versions of Inspect kept the one `score` there was,
    and told its scorer's name among the results.
    """
    if "scores" in sample or not isinstance(sample.get("score"), Mapping):
        return sample
    results = header.get("results") or {}
    told = [results.get("scorer"), *(results.get("scores") or [])]
    names = [str(one["name"]) for one in told if isinstance(one, Mapping) and "name" in one]
    return {**sample, "scores": {[*names, "score"][0]: sample["score"]}}


def _read(path: Path) -> tuple[Log, list[Log]]:
    if path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, dict) or "eval" not in content:
            raise UserError(
                "this is not a log of Inspect",
                file=path,
                field="eval",
                hint="name an .eval or .json file that Inspect wrote",
            )
        return content, _mappings(path, content.get("samples") or [])
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as raw:
            members = {info.filename: info for info in archive.infolist()}
            if "header.json" not in members:
                raise UserError(
                    "the log has no header: its evaluation didn't finish",
                    file=path,
                    hint="`inspect eval-retry` finishes it",
                )

            def read(member: str) -> Any:
                data = _content(archive, raw, members[member])
                return parse_json(data.decode("utf-8"), path / member)

            header = read("header.json")
            names = [m for m in members if m.startswith("samples/") and m.endswith(".json")]
            return header, _mappings(path, [read(member) for member in names])
    except FileNotFoundError as error:
        raise UserError("there is no such file", file=path, hint="check its spelling") from error
    # NotImplementedError and RuntimeError: a packing that zipfile doesn't know, or a password.
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise UserError(
            f"this is not a log of Inspect: {error}", file=path, hint="name an .eval or .json file"
        ) from error


def _mappings(path: Path, samples: Any) -> list[Log]:
    if not isinstance(samples, list) or not all(isinstance(one, Mapping) for one in samples):
        raise UserError("a sample of the log is not a JSON object", file=path, field="samples")
    return samples


def _content(archive: zipfile.ZipFile, raw: Any, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes. Inspect packs with Zstandard, which Python's zipfile learns in 3.14."""
    if info.compress_type != _ZSTD:
        return archive.read(info)
    import pyarrow

    # The local header before the data: its lengths of name and extra field stand at byte 26, and
    # may differ from those of the archive's directory.
    raw.seek(info.header_offset + 26)
    sizes = raw.read(4)
    if len(sizes) < 4:
        raise zipfile.BadZipFile(f"{info.filename} begins beyond the file's end")
    name_size, extra_size = struct.unpack("<HH", sizes)
    raw.seek(name_size + extra_size, 1)
    packed = pyarrow.BufferReader(raw.read(info.compress_size))
    data: bytes = pyarrow.CompressedInputStream(packed, "zstd").read()
    if binascii.crc32(data) != info.CRC:
        raise zipfile.BadZipFile(f"{info.filename} is damaged")
    return data


def _check(path: Path, header: Log, samples: Sequence[Log]) -> None:
    status = header.get("status")
    if status != "success":
        raise UserError(
            f"the evaluation ended as {status!r}",
            file=path,
            field="status",
            hint="`inspect eval-retry` finishes it",
        )
    if not samples:
        raise UserError(
            "the log holds no samples", file=path, hint="run Inspect without --no-log-samples"
        )
    total = (header.get("results") or {}).get("total_samples")
    if isinstance(total, int) and total != len(samples):
        raise UserError(
            f"{len(samples)} samples are here, and Inspect evaluated {total}",
            file=path,
            hint="the file may be cut short: copy it again",
        )
