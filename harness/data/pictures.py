"""Pictures that a prompt shows: found beside the data, and known by their bytes."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.core.types import Picture
from harness.data.messages import Message, MessagesError

_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
)
KNOWN = "PNG, JPEG, WebP, GIF or BMP"


def picture_of(source: Any, folder: Path) -> Picture:
    """The picture that a part of a message names: a file, relative to `folder`, or a `data:` URL.

    Nothing is fetched. Raises MessagesError for a file that isn't there, and for what is no
    picture.
    """
    if isinstance(source, Mapping):
        source = source.get("url")
    if not isinstance(source, str) or not source.strip():
        raise MessagesError("a picture is named by its file, or given as a data URL")
    if source.startswith("data:"):
        return _given(source)
    if source.startswith(("http://", "https://")):
        raise MessagesError(f"the picture {source} is not here: copy it beside the data")
    path = Path(source.removeprefix("file://")).expanduser()
    path = path if path.is_absolute() else folder / path
    try:
        stat = path.stat()
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except OSError:
        raise MessagesError(f"there is no picture {source!r} beside the data") from None


@lru_cache(maxsize=4096)
def _read(path: Path, _changed: int, _size: int) -> Picture:
    content = path.read_bytes()
    return Picture(*_identity(content, repr(path.name)), path=path)


def _given(source: str) -> Picture:
    head, comma, body = source.partition(",")
    try:
        content = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not comma or not head.endswith(";base64") or not content:
        raise MessagesError("a picture in the data is a URL data:image/png;base64,…")
    return Picture(*_identity(content, "the data URL"), content=content)


def _identity(content: bytes, name: str) -> tuple[str, str]:
    """(digest, kind) of a picture's bytes."""
    kind = next((kind for begins, kind in _KINDS if content.startswith(begins)), None)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise MessagesError(f"{name} is no picture: known are {KNOWN}")
    return hashlib.sha256(content).hexdigest(), kind


def as_stored(messages: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Picture, ...]]:
    """The messages with each picture as the digest of its bytes, which is what is stored and what
    answers are cached under; and the pictures, in the order in which they are shown.
    """
    pictures = [
        part["picture"]
        for turn in messages
        for part in turn.get("parts", ())
        if part["type"] == "image"
    ]
    turns = [
        turn
        if "parts" not in turn
        else {
            **turn,
            "parts": [
                {"type": "image", "kind": part["picture"].kind, "sha256": part["picture"].sha256}
                if part["type"] == "image"
                else part
                for part in turn["parts"]
            ],
        }
        for turn in messages
    ]
    return tuple(turns), tuple(pictures)
