"""One observation of a served model: its fields, and why one is refused.

`read` takes the plain form, a JSON object whose names are the columns of the table
`observations`. Whatever else was sent is kept under `detail`. One bad observation is refused by
itself, with the field and the reason; it never stops the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

TEXT_LIMIT = 1_000_000
"""Characters of one text. A longer one is refused, so that one sender can't fill the disk."""
ID_LIMIT = 200
DETAIL_DEPTH = 16
CLOCK_TOLERANCE = timedelta(minutes=5)
"""A sender's clock may be ahead by so much; beyond it, the observation is marked."""
CLOCK_LIMIT = timedelta(days=1)
"""Ahead by more than this, the observation is refused."""
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)
OUTCOMES = ("completed", "abandoned", "corrected")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_IDS = ("observation_id", "conversation_id", "retry_of", "about")
_TEXTS = ("prompt", "response", "error", "comment", "corrected_text")
_TOKENS = ("input_tokens", "output_tokens")
_SECONDS = ("latency_s", "first_token_s")
_SAYING = (*_TEXTS[:3], *_SECONDS, *_TOKENS, "stars", "thumb", "comment", "outcome",
           "corrected_text")  # fmt: skip
_KNOWN = frozenset(
    (*_IDS, *_TEXTS, *_TOKENS, *_SECONDS, "line", "model_digest", "stars", "thumb", "outcome",
     "detail", "observed_at")
)  # fmt: skip


class Refused(Exception):  # noqa: N818 - an answer to a sender, not a failure
    """One observation that is not taken in: what is wrong, in which field, at which place.

    `index` counts from 0 within what was sent together; None where it stands alone.
    """

    def __init__(self, what: str, field: str | None = None, index: int | None = None) -> None:
        self.what = what
        self.field = field
        self.index = index
        super().__init__(what)

    def said(self) -> dict[str, Any]:
        """For JSON: `{what, field, index}`, without what is not known."""
        parts = {"index": self.index, "field": self.field, "what": self.what}
        return {name: value for name, value in parts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Observation:
    """One row of the table `observations`, whose columns are described there.

    Every field but the id may be None: it was not sent.

    `about` names an observation that this one only adds feedback to; it is then not counted as a
    request. `detail` is JSON.
    """

    observation_id: str
    line: str | None = None
    model_digest: str | None = None
    conversation_id: str | None = None
    prompt: str | None = None
    response: str | None = None
    retry_of: str | None = None
    about: str | None = None
    latency_s: float | None = None
    first_token_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    stars: float | None = None
    thumb: int | None = None
    comment: str | None = None
    outcome: str | None = None
    corrected_text: str | None = None
    masked: int | None = None
    source: str | None = None
    detail: Any = None
    observed_at: datetime | None = None

    def row(self) -> dict[str, Any]:
        """The columns that are known, as `Store.append` takes them."""
        return {
            name: value for name in self.__slots__ if (value := getattr(self, name)) is not None
        }


def read(
    sent: Any, *, now: datetime, line: str | None = None, source: str = "plain"
) -> Observation:
    """Read an observation from a JSON object in the plain form. Raises Refused.

    `now` is this machine's time (UTC), taken for an observation without `observed_at`. `line` is
    the line of one that names neither a line nor a model.
    """
    if not isinstance(sent, Mapping):
        raise Refused(f"an observation is a JSON object, not {_kind(sent)}")
    found: dict[str, Any] = {}
    for name in _IDS:
        found[name] = _id(sent, name)
    if found["observation_id"] is None:
        raise Refused("it has no observation_id", "observation_id")
    found["line"] = _matching(sent, "line", _LINE, "the name of a line")
    found["model_digest"] = _matching(sent, "model_digest", _DIGEST, "64 hexadecimal digits")
    if found["line"] is None and found["model_digest"] is None:
        found["line"] = line
        if line is None:
            raise Refused("it names neither a line nor a model_digest", "line")
    for name in _TEXTS:
        found[name] = _text(sent, name)
    for name in _SECONDS:
        found[name] = _number(sent, name, 0, 86_400)
    for name in _TOKENS:
        found[name] = _whole(sent, name, 0, 2**40)
    found["stars"] = _number(sent, "stars", 1, 5)
    found["thumb"] = _whole(sent, "thumb", -1, 1)
    if found["thumb"] == 0:
        raise Refused("thumb is 1 (up) or -1 (down)", "thumb")
    found["outcome"] = _outcome(sent)
    if all(found[name] is None for name in _SAYING):
        raise Refused("it says nothing: no text, time, tokens, error or feedback")
    detail = _detail(sent)
    found["observed_at"], ahead_s = _moment(sent.get("observed_at"), now)
    if ahead_s:
        detail["clock_ahead_s"] = ahead_s
    return Observation(**found, source=source, detail=detail or None)


def _id(sent: Mapping[str, Any], name: str) -> str | None:
    text = _text(sent, name)
    if text is not None and not 0 < len(text) <= ID_LIMIT:
        raise Refused(f"{name} has 1 to {ID_LIMIT} characters, not {len(text)}", name)
    return text


def _matching(sent: Mapping[str, Any], name: str, form: re.Pattern[str], wanted: str) -> str | None:
    text = _text(sent, name)
    if text is not None and not form.fullmatch(text):
        raise Refused(f"{name} is {wanted}", name)
    return text


def _text(sent: Mapping[str, Any], name: str) -> str | None:
    value = sent.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused(f"{name} takes text, not {_kind(value)}", name)
    return _sound(value, name)


def _sound(text: str, name: str) -> str:
    if len(text) > TEXT_LIMIT:
        raise Refused(f"{name} has {len(text):,} characters; {TEXT_LIMIT:,} are taken", name)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Refused(
            f"{name} holds a lone surrogate at character {error.start}, which is not text", name
        ) from None
    return text


def _number(sent: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = sent.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{name} takes a number, not {_kind(value)}", name)
    if not low <= value <= high:  # nor NaN
        raise Refused(f"{name} is a finite number from {low:g} to {high:g}", name)
    return float(value)


def _whole(sent: Mapping[str, Any], name: str, low: int, high: int) -> int | None:
    value = sent.get(name)
    # Parquet and many senders have counts as 12.0.
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Refused(f"{name} takes a whole number, not {_kind(value)}", name)
    if value is not None and not low <= value <= high:
        raise Refused(f"{name} is from {low} to {high}", name)
    return value


def _outcome(sent: Mapping[str, Any]) -> str | None:
    value = _text(sent, "outcome")
    if value is not None and value not in OUTCOMES:
        raise Refused(f"outcome is one of {', '.join(OUTCOMES)}", "outcome")
    return value


def _detail(sent: Mapping[str, Any]) -> dict[str, Any]:
    value = sent.get("detail")
    if value is not None and not isinstance(value, Mapping):
        raise Refused(f"detail takes a JSON object, not {_kind(value)}", "detail")
    detail = dict(value or {})
    for name in sent.keys() - _KNOWN:
        detail[name] = sent[name]
    _check_detail(detail, DETAIL_DEPTH)
    return detail


def _check_detail(value: Any, depth: int) -> None:
    if depth < 0:
        raise Refused(f"detail is nested more than {DETAIL_DEPTH} deep", "detail")
    if isinstance(value, str):
        _sound(value, "detail")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _sound(name, "detail")
            _check_detail(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check_detail(item, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Refused("detail holds a number that is not finite", "detail")


def _moment(value: Any, now: datetime) -> tuple[datetime, float]:
    """The moment in UTC, and the seconds by which it is ahead of `now`; 0 within the tolerance."""
    if value is None:
        return now, 0.0
    moment = _parsed(value)
    if moment < EARLIEST:
        raise Refused(f"observed_at is before {EARLIEST:%Y}: a clock that was never set",
                      "observed_at")  # fmt: skip
    ahead = moment - now
    if ahead > CLOCK_LIMIT:
        raise Refused("observed_at is more than a day ahead of this machine's clock", "observed_at")
    return moment, round(ahead.total_seconds(), 3) if ahead > CLOCK_TOLERANCE else 0.0


def _parsed(value: Any) -> datetime:
    if isinstance(value, bool) or not isinstance(value, str | int | float | datetime):
        raise Refused(f"observed_at takes a moment, not {_kind(value)}", "observed_at")
    try:
        if isinstance(value, int | float):
            return datetime.fromtimestamp(value, UTC)
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise Refused(
            "observed_at is not a moment: use ISO 8601 with a time zone, or seconds since 1970",
            "observed_at",
        ) from None
    raise Refused("observed_at has no time zone", "observed_at")


def _kind(value: Any) -> str:
    """The value's type in JSON's words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number",
             float: "a number", type(None): "null"}  # fmt: skip
    return names.get(type(value), type(value).__name__)
