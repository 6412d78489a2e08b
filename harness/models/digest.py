"""The digest of a model's bytes, wherever they lie.

Hashing half a gigabyte takes a second, so each file's hash is remembered under its path, size,
times and inode; a file that changed in any of these is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

# Keys that say where the files came from or which version wrote them: the same model, saved again
# elsewhere, must have the same digest, for its answers are cached under it.
_NOT_CONTENT = frozenset(
    {"_name_or_path", "name_or_path", "base_model_name_or_path", "revision", "transformers_version"}
)
_NORMALIZED = frozenset(
    {"config.json", "adapter_config.json", "generation_config.json", "tokenizer_config.json"}
)
# A file may change twice within one tick of the file system's clock, and its times then don't show
# the second change: the hash of a file this young is not remembered. In nanoseconds.
_SETTLED_NS = 50_000_000


def digest_of_parts(parts: Iterable[tuple[str, Path]], memory: Path) -> str:
    """SHA-256 in hex over (role, file name, content) of every part, in sorted order.

    `memory` is the folder in which the hashes of single files are kept. Configuration files are
    normalized first: sorted keys, without those that say where the files came from.
    """
    total = hashlib.sha256()
    for role, path in sorted(parts, key=lambda part: (part[0], part[1].name)):
        total.update(f"{role}/{path.name}:{weights_digest(path, memory)}\n".encode())
    return total.hexdigest()


def weights_digest(path: Path, memory: Path) -> str:
    """SHA-256 in hex of one of a model's files; a configuration's as `digest_of_parts` takes it.

    The file is read only if its hash is not in the folder `memory`.
    """
    before = _identity(path)
    note = memory / hashlib.sha256(repr((str(path.resolve()), before)).encode()).hexdigest()[:32]
    try:
        return note.read_text(encoding="ascii")
    except OSError:
        digest = _normalized(path) if path.name in _NORMALIZED else _of_bytes(path)
    # Nor is the hash of a file that changed while it was read: those bytes are gone.
    settled = time.time_ns() - before[1] > _SETTLED_NS
    if settled and _identity(path) == before:
        _remember(note, digest)
    return digest


def _identity(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _of_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _normalized(path: Path) -> str:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return _of_bytes(path)
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key not in _NOT_CONTENT}
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _remember(note: Path, digest: str) -> None:
    note.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staged = tempfile.mkstemp(dir=note.parent, prefix=".staged-")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(digest)
    Path(staged).replace(note)
