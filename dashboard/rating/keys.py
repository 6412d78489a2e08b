"""Signed links and tickets: who may rate, and which item an answer belongs to.

One key per workspace signs both. A link names its rater and when it ends. A ticket names a place in
a rater's sequence of answers, when it was given out, and what was shown: an opaque digest, so that
the page's source says nothing about the models.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.core.errors import UserError
from harness.ratings.session import Register

Refusal = Literal["tampered", "expired", "revoked"]
_MAC = 22  # characters of base64: 128 bits


@dataclass(frozen=True, slots=True)
class Link:
    """What a personal link says. `expires_at` is in seconds since 1970."""

    session: str
    rater: str
    id: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """What one page may answer: place `serial` of the rater's sequence.

    `issued_ms` is when it was shown, in milliseconds since 1970; `ref` names what was shown.
    """

    form: str
    serial: int
    issued_ms: int
    ref: str


class Refused(Exception):  # noqa: N818 - an answer to a visitor, not an error
    """A link that doesn't open, and why."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why)
        self.why: Refusal = why


def workspace_key(home: Path) -> bytes:
    """The workspace's 32-byte key, made on first use, readable by its owner only.

    Raises UserError where others can read it, or where it is damaged.
    """
    path = home / "rating.key"
    fresh = secrets.token_bytes(32)
    staging = home / f".rating.key.{os.getpid()}"
    with contextlib.suppress(FileExistsError):
        if not path.exists():
            handle = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(fresh)
                file.flush()
                os.fsync(file.fileno())
            # Linked, not renamed: the second of two processes must not replace a key in use.
            with contextlib.suppress(FileExistsError):
                os.link(staging, path)
            staging.unlink()
    if path.stat().st_mode & 0o077:
        raise UserError(
            "the key of the rating links can be read by others",
            file=path,
            hint=f"chmod 600 {path}; delete it to make a new one (old links end)",
        )
    key = path.read_bytes()
    if len(key) < 32:
        raise UserError(
            "the key of the rating links is damaged",
            file=path,
            hint="delete it to make a new one (old links end)",
        )
    return key


def sign_link(key: bytes, link: Link) -> str:
    """The token that stands in a personal URL."""
    fields = [link.session, link.rater, link.id, link.expires_at]
    body = _encode(json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode())
    return f"{body}.{_mac(key, 'link', body)}"


def read_link(key: bytes, token: str) -> Link:
    """The link of a token that this key signed. Raises Refused("tampered") otherwise."""
    body, _, mac = token.partition(".")
    if not _same(mac, _mac(key, "link", body)):
        raise Refused("tampered")
    try:
        session, rater, link, expires_at = json.loads(_decode(body))
        return Link(str(session), str(rater), str(link), int(expires_at))
    except (ValueError, TypeError, binascii.Error) as error:
        raise Refused("tampered") from error


def admit(link: Link, register: Register, now: float) -> None:
    """Raises Refused where the link has ended, was never given out, or was revoked.

    The signature alone is not enough: links that were revoked keep a valid one.
    """
    found = next((i for i in register.invitations if i.link == link.id), None)
    if found is None or found.rater != link.rater:
        raise Refused("tampered")
    if found.revoked is not None:
        raise Refused("revoked")
    if now >= link.expires_at:
        raise Refused("expired")


def reference(key: bytes, *parts: object) -> str:
    """An opaque name of what was shown; only with the key can one tell what it names."""
    return _mac(key, "shown", *parts)


def sign_ticket(key: bytes, rater: str, ticket: Ticket) -> str:
    """The ticket as the page carries it; good for this rater alone."""
    body = f"{ticket.form}.{ticket.serial}.{ticket.issued_ms}.{ticket.ref}"
    return f"{body}.{_mac(key, 'ticket', rater, body)}"


def read_ticket(key: bytes, rater: str, text: str) -> Ticket | None:
    """The ticket, where this server gave it to this rater; None otherwise."""
    body, _, mac = text.rpartition(".")
    parts = body.split(".")
    if not _same(mac, _mac(key, "ticket", rater, body)) or len(parts) != 4:
        return None
    return Ticket(parts[0], int(parts[1]), int(parts[2]), parts[3])


def _mac(key: bytes, *parts: object) -> str:
    # The first part says what is signed, so that a ticket can't pass for a link.
    message = "\x1f".join(str(part) for part in parts).encode("utf-8", "surrogatepass")
    return _encode(hmac.digest(key, message, hashlib.sha256))[:_MAC]


def _same(given: str, ours: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), ours.encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
