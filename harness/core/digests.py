"""The digest of a document: one hash for the same keys and values, in any order."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def digest_of(value: Any) -> str:
    """SHA-256 of canonical JSON, first 16 hexadecimal digits.

    Canonical: sorted keys, no spaces. What JSON does not know is written as `str` writes it.
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    # JSON may carry a lone surrogate: it is hashed as it is, not refused.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
