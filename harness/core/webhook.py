"""Posts one JSON message to a webhook; a failure is reported and never stops the caller."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 5.0


def call(url: str, message: Mapping[str, Any]) -> str | None:
    """POST `message` as JSON. Returns None where the answer was 2xx, else why it failed, in words.

    Waits at most `TIMEOUT_S` seconds, and raises nothing for a server that fails.
    """
    request = urllib.request.Request(
        url,
        data=json.dumps(message, ensure_ascii=False).encode(),
        headers={"Content-Type": "application/json", "User-Agent": "ratchet"},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}"
    except (OSError, ValueError) as error:
        return f"{getattr(error, 'reason', error)}"
