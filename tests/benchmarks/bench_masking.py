"""What masking finds and what it costs, against Presidio's patterns in the same run.

The figures of docs/watch-intake.md: `python -m tests.benchmarks masking`.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.bench_watch import PROMPT, RESPONSE
from tests.benchmarks.peers import python_of
from tests.harness.watch.personal_table import TABLE, plain, precision_and_recall

PEER = Path(__file__).with_name("presidio_peer.py")
VERSION = "2.2.366"
LANGUAGES = {"en": "English", "zh": "Chinese"}
CHARACTERS = 200

KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
    "US_SSN": "ID",
    "US_PASSPORT": "ID",
}
"""Presidio's names of what the table marks. What else it looks for by default (dates, web
addresses, driving licences, NHS numbers) is not asked for: the table has none of them marked, so
each hit would only count against it."""


def run(quick: bool = False) -> list[dict[str, object]]:
    """Precision, recall and CPU time; no rows where the peer can't be installed."""
    python = python_of("presidio", (f"presidio-analyzer=={VERSION}",))
    if python is None:
        return []
    with subprocess.Popen(
        [str(python), str(PEER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        rows = [found(peer, language) for language in LANGUAGES]
        rows.append(cost(peer, texts=100 if quick else 1_000, rounds=1 if quick else 5))
        assert peer.stdin is not None
        peer.stdin.close()
    return rows


def found(peer: subprocess.Popen[str], language: str) -> dict[str, object]:
    """How much of the personal data in one language's texts is found, each with its kind."""
    rows = [row for row in TABLE if row["language"] == language]
    texts = [plain(row) for row in rows]
    _, theirs = _ask(peer, language, texts)
    ours = precision_and_recall(rows, [_masked_kinds(text) for text in texts])
    other = precision_and_recall(rows, [Counter(KINDS[kind] for kind in each) for each in theirs])
    return _row(
        f"recall of personal data, {LANGUAGES[language]}, {len(rows)} short texts",
        f"{ours[1]:.2f}",
        f"{other[1]:.2f}",
        ours[1] / other[1],
        "at least .92",
        f"precision: ours {ours[0]:.2f}, peer {other[0]:.2f}; the texts are ours",
    )


def cost(peer: subprocess.Popen[str], texts: int, rounds: int) -> dict[str, object]:
    """CPU time of one text as most are: some words, an order's number, nothing personal."""
    from harness.watch.intake.masking import mask

    # No two alike, so that nothing is found in a cache.
    many = [f"{PROMPT} {number}. {RESPONSE}"[:CHARACTERS] for number in range(texts)]
    assert all(mask(text).replaced == 0 and len(text) == CHARACTERS for text in many)
    ours, theirs = [], []
    for _ in range(rounds):
        began = time.process_time()
        for text in many:
            mask(text)
        ours.append((time.process_time() - began) / texts)
        theirs.append(_ask(peer, "en", many)[0] / texts)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return _row(
        f"CPU time of masking a text of {CHARACTERS} characters",
        f"{1e3 * mine:.3f} ms",
        f"{1e3 * other:.2f} ms",
        mine / other,
        "below 0.1",
        f"one core masks {1 / mine:,.0f} such texts a second, the peer {1 / other:,.0f}",
    )


def _masked_kinds(text: str) -> Counter[str]:
    from harness.watch.intake.masking import KINDS as OURS
    from harness.watch.intake.masking import mask

    return Counter(re.findall(rf"\[({'|'.join(OURS)})\]", mask(text).text))


def _ask(
    peer: subprocess.Popen[str], language: str, texts: Sequence[str]
) -> tuple[float, list[list[str]]]:
    assert peer.stdin is not None
    assert peer.stdout is not None
    asked = {"language": language, "texts": list(texts), "entities": list(KINDS)}
    peer.stdin.write(json.dumps(asked) + "\n")
    peer.stdin.flush()
    said = json.loads(peer.stdout.readline())
    return said["cpu_s"], said["found"]


def _row(what: str, ours: str, peer: str, ratio: float, goal: str, note: str) -> dict[str, Any]:
    return {
        "what": what,
        "ours": ours,
        "peer": f"{peer} (presidio-analyzer {VERSION}, its patterns, no model)",
        "ratio": ratio,
        "goal": goal,
        "note": note,
    }


if __name__ == "__main__":
    for line in run():
        print(json.dumps(line, ensure_ascii=False))
