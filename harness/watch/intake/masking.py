"""Masks personal data in text before anything is written.

What is found is replaced by its kind in brackets: [EMAIL], [PHONE], [ID], [CARD], [IBAN],
[SECRET]. Everything else stays as it was, and to mask a masked text changes nothing.

Checks that have a published form come from libraries: telephone numbers from `phonenumbers`
(Google's libphonenumber), identity numbers, cards and IBANs from `python-stdnum`. A detector runs
only where a cheap sign of what it looks for is there, because most texts hold nothing: that, and
that no language model is asked, is why it keeps up with a receiver. Names and addresses are not
found: no pattern tells them from other words.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from harness.watch.intake.observation import Observation
from harness.watch.intake.personal_numbers import ibans, lettered, numbers
from harness.watch.intake.personal_secrets import secrets

KINDS = ("EMAIL", "PHONE", "ID", "CARD", "IBAN", "SECRET")

_TEXTS = ("prompt", "response", "error", "comment", "corrected_text")
_IDS = ("observation_id", "conversation_id", "retry_of", "about")
# UUIDs, trace and span ids, digests: made by a machine, they identify no person, even where some of
# their digits look like a telephone number.
_MADE = re.compile(
    r"[0-9A-Fa-f]{32}(?:-[0-9A-Fa-f]{16})?|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)

# An address begins where its run of characters begins: tried from there only, a text of a
# million letters costs a million steps.
_LOCAL = r"A-Za-z0-9._%+'-"
_EMAIL = re.compile(
    rf"(?<![{_LOCAL}])[{_LOCAL}]++ ?(?:@|[\[(] ?(?:at|AT) ?[\])]) ?"
    r"[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}"
)


class Span(NamedTuple):
    """A stretch of the text, and the kind of personal data that it is."""

    start: int
    end: int
    kind: str


class Masked(NamedTuple):
    """The text without personal data, and how many were replaced."""

    text: str
    replaced: int


class _Width(dict[int, str]):
    """Full-width forms, dashes and blanks as ASCII.

    One character for one, so that a place in the translated text is the same in the original.
    """

    def __missing__(self, code: int) -> str:
        if 0xFF01 <= code <= 0xFF5E:
            shown = chr(code - 0xFEE0)
        elif code in (0x3000, 0xA0, 0x202F, 0x205F, 0xFEFF) or 0x2000 <= code <= 0x200F:
            shown = " "
        elif 0x2010 <= code <= 0x2015 or code in (0x2212, 0xFE63, 0x30FC):
            shown = "-"
        else:
            shown = chr(code)
        self[code] = shown
        return shown


_WIDTH = _Width()


def mask(text: str) -> Masked:
    """The text with every personal datum replaced by its kind in brackets."""
    count = 0
    # What is left beside a placeholder may be personal by itself. Two passes are the rule; the
    # bound is for a text that was made to give up one datum at a time.
    for _ in range(_PASSES):
        found = _found(text)
        if not found:
            break
        text = _replaced(text, found)
        count += len(found)
    return Masked(text, count)


def mask_observation(observation: Observation, key: bytes) -> Observation:
    """The observation without personal data in any of its texts; `masked` says how many.

    An id in which there is any becomes a digest under `key`: two that were equal stay equal, so
    a conversation whose id is an e-mail address is still one conversation.
    """
    changed: dict[str, Any] = {}
    total = 0
    for name in _TEXTS:
        text = getattr(observation, name)
        if text and (found := mask(text)).replaced:
            changed[name] = found.text
            total += found.replaced
    for name in _IDS:
        text = getattr(observation, name)
        if text and not _MADE.fullmatch(text) and (found := mask(text)).replaced:
            changed[name] = "masked-" + hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
            total += found.replaced
    if observation.detail:
        detail, count = mask_json(observation.detail)
        if count:
            changed["detail"] = detail
            total += count
    return replace(observation, masked=total, **changed)


def mask_json(value: Any) -> tuple[Any, int]:
    """A JSON value with every string masked, names of fields too, and how many were replaced.

    A number that would be personal data as text becomes the masked text.
    """
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return _mask_fields(value)
    if isinstance(value, list):
        items = [mask_json(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= 1e6:
        found = mask(str(value))
        return (found.text, found.replaced) if found.replaced else (value, 0)
    return value, 0


def _mask_fields(value: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    fields: dict[str, Any] = {}
    total = 0
    for name, item in value.items():
        shown, in_name = mask(name)
        while shown in fields:  # two names that became one: neither value may be lost
            shown += "'"
        fields[shown], in_item = mask_json(item)
        total += in_name + in_item
    return fields, total


def _found(text: str) -> list[Span]:
    """What is personal in the text, in order, without overlaps."""
    plain = text if text.isascii() else text.translate(_WIDTH)
    spans: list[Span] = []
    digits = sum(map(plain.count, "0123456789"))
    for detect in _IN_ANY if digits < _FEWEST_DIGITS else _IN_ALL:
        spans.extend(Span(*span) for span in detect(plain))
    return _apart(spans) if len(spans) > 1 else spans


def _emails(text: str) -> Iterable[tuple[int, int, str]]:
    if "@" in text or "at]" in text or "at)" in text or "AT" in text:
        for match in _EMAIL.finditer(text):
            yield match.start(), match.end(), "EMAIL"


_Detector = Callable[[str], Iterable[tuple[int, int, str]]]
_FEWEST_DIGITS = 5  # with fewer, no number can be found, and the slower detectors needn't look
_PASSES = 10
# Of two that claim a stretch, the first names its kind.
_IN_ANY: tuple[_Detector, ...] = (secrets, _emails)
_IN_ALL: tuple[_Detector, ...] = (*_IN_ANY, ibans, lettered, numbers)


def _apart(spans: list[Span]) -> list[Span]:
    """The spans without overlaps: of two that overlap, the one whose detector comes first.

    What that leaves uncovered is looked at in the next pass of `mask`.
    """
    rank = {span: place for place, span in reversed(list(enumerate(spans)))}
    kept: list[Span] = []
    for span in sorted(rank):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
        elif rank[span] < rank[kept[-1]]:
            kept[-1] = span
    return kept


def _replaced(text: str, spans: list[Span]) -> str:
    parts: list[str] = []
    end = 0
    for span in spans:
        parts += (text[end : span.start], f"[{span.kind}]")
        end = span.end
    return "".join((*parts, text[end:]))
