"""Who may send observations: bearer tokens from a file or the environment, never from argv."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import UserError

VARIABLE = "RATCHET_WATCH_TOKENS"
_SHORTEST = 16


class Tokens:
    """Several tokens, each of which is accepted, so that a new one can be added before the old one
    is removed.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [_digest(token.encode()) for token in tokens]

    def admit(self, header: bytes | None) -> bool:
        """Whether an Authorization header holds one of them.

        All are compared in constant time, so that the time of an answer gives no token away.
        """
        scheme, _, token = (header or b"").partition(b" ")
        given = _digest(token.strip())
        found = [hmac.compare_digest(given, known) for known in self._digests]
        return scheme.lower() == b"bearer" and any(found)


def find_tokens(home: Path, file: Path | None) -> tuple[Tokens, Path | None]:
    """The tokens of `file` (one a line, # for remarks), else of RATCHET_WATCH_TOKENS (with commas
    or blanks between), else of `watch.tokens` in the workspace, made with one token if missing.

    Returns them with the file they come from. Raises UserError for a short token, none at all,
    or a file that others can read.
    """
    given = os.environ.get(VARIABLE, "")
    if file is None and given.strip():
        return Tokens(_checked(given.replace(",", " ").split(), VARIABLE)), None
    path = file or home / "watch.tokens"
    try:
        if file is None and not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise UserError("the tokens can be read by others", file=path, hint=f"chmod 600 {path}")
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(
            "there is no such file of tokens",
            file=path,
            hint="write a token into it and chmod 600 it; without --token-file, one is made",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the tokens can't be read: {getattr(error, 'strerror', None) or 'not UTF-8'}",
            file=path,
            hint="it must be UTF-8 text, one token a line, readable by its owner",
        ) from error
    named = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return Tokens(_checked(named, str(path))), path


def _checked(tokens: Sequence[str], where: str) -> Sequence[str]:
    if not tokens:
        raise UserError("it holds no token", file=where, hint="write one on a line of its own")
    if any(len(token) < _SHORTEST for token in tokens):
        raise UserError(
            f"a token has less than {_SHORTEST} characters",
            file=where,
            hint='make a longer one: python -c "import secrets; print(secrets.token_urlsafe(32))"',
        )
    return tokens


def _make(path: Path) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as handle:
        handle.write(f"{secrets.token_urlsafe(32)}\n")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
