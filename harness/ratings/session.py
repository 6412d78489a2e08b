"""Rating sessions: which answers are compared, under which rules.

A session is frozen when it is made: its items, its salt, its looks and its consent text are one
row. What happens later (invitations, revocations, exclusions) is added as further rows; nothing is
changed or deleted.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.types import Run
from harness.ratings.items import Item, answered_by_all
from harness.statistics.pair_selection import Design
from harness.store.store import Store

RatingForm = Literal["pairs", "questions", "stars"]
Kind = Literal["human", "reward_model", "llm"]
FORMS: tuple[RatingForm, ...] = ("pairs", "questions", "stars")
KINDS: tuple[Kind, ...] = ("human", "reward_model", "llm")
CHOICES = ("left", "right", "tie", "both_bad")

STANDARD = ("relevance", "fluency", "safety", "domain")
"""The questionnaire's own dimensions: 0 to 5 each, but for safety, which passes or fails."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A run whose answers are compared. The first of a session is its anchor."""

    run: str
    model: str
    digest: str


@dataclass(frozen=True, slots=True)
class Gold:
    """A pair whose better answer is known, to check that a rater reads the answers."""

    prompt: str
    better: str
    worse: str

    @property
    def keys(self) -> tuple[str, str]:
        """The names of the better and the worse text in the votes: their digests."""
        return _short(self.prompt, self.better), _short(self.prompt, self.worse)


@dataclass(frozen=True)
class Rules:
    """What a session asks of its raters and what it promises them.

    votes         the budget: plain votes of all people together
    overlap       share of votes on pairs that somebody else has judged, for agreement
    gold, repeats, swaps   shares of votes on known pairs, on a pair seen before, and on one seen
                  before with its sides swapped
    everyone      contenders also meet each other, not only the anchor
    forms         which pages raters have: pairs, questions, stars
    dimensions    of the questionnaire; any name besides `safety` is a scale from 0 to 5
    target        answers wanted per dimension
    looks         planned looks at the verdict, cumulative shares of the budget
    alpha         of the session's verdict, its own
    claim         `panel`: the verdict is about these raters; `people`: about any like them, which
                  asks that it holds with raters as the unit as well
    min_dwell_ms  a pair must be visible for so long before a vote counts
    """

    title: str
    votes: int = 500
    overlap: float = 0.2
    gold: float = 0.05
    repeats: float = 0.05
    swaps: float = 0.05
    everyone: bool = False
    forms: tuple[RatingForm, ...] = ("pairs",)
    dimensions: tuple[str, ...] = STANDARD
    target: int = 500
    looks: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    alpha: float = 0.05
    claim: Literal["panel", "people"] = "panel"
    min_dwell_ms: int = 400
    licence: str = ""
    consent: str = ""

    def __post_init__(self) -> None:
        shares = {n: getattr(self, n) for n in ("overlap", "gold", "repeats", "swaps")}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise UserError(f"{share} is not a share", field=name, hint="from 0 to 1")
        if shares["gold"] + shares["repeats"] + shares["swaps"] > 0.5:
            raise UserError(
                "more than half of the votes would check raters and say nothing about the models",
                field="gold, repeats, swaps",
                hint="lower these shares to 0.5 or less together",
            )
        for name in ("votes", "target"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more", field=name, hint="like 500")
        for form in self.forms:
            if form not in FORMS:
                raise UserError(f"{form!r} is not a form", field="forms", hint=", ".join(FORMS))
        if not self.forms or len(set(self.dimensions)) != len(self.dimensions):
            raise UserError(
                "a session has at least one form, and each dimension once",
                field="forms, dimensions",
                hint="--forms pairs --dimensions relevance,fluency,safety",
            )
        if not 0 < self.alpha < 0.5:
            raise UserError(
                f"alpha {self.alpha} is not an error rate", field="alpha", hint="try 0.05"
            )
        rising = all(a < b for a, b in zip((0.0, *self.looks), self.looks, strict=False))
        if not rising or self.looks[-1] != 1.0:
            raise UserError(
                f"the looks {list(self.looks)} don't rise to 1", field="looks", hint="like 0.5,1"
            )


@dataclass(frozen=True)
class Session:
    """A session as it was made."""

    id: str
    rules: Rules
    contenders: tuple[Contender, ...]
    items: tuple[Item, ...]
    golds: tuple[Gold, ...]
    salt: str

    @property
    def anchor(self) -> Contender:
        return self.contenders[0]

    @cached_property
    def design(self) -> Design:
        return Design.against(len(self.contenders), everyone=self.rules.everyone)

    @property
    def votes_per_comparison(self) -> int:
        """Planned plain votes between the anchor and each contender."""
        return max(1, round(self.rules.votes / len(self.design.comparisons)))

    def chance(self, *parts: object) -> float:
        """A number in [0, 1) that depends on the salt and `parts` alone.

        In place of a random generator: the same after a restart, and not to be guessed without
        the salt, which no page shows.
        """
        digest = hashlib.blake2b("|".join([self.salt, *map(str, parts)]).encode(), digest_size=8)
        return int.from_bytes(digest.digest()) / 2**64

    def first_is_left(self, rater: str, pair: str) -> bool:
        """Whether this rater sees the pair's first answer on the left: fixed, drawn by chance."""
        return self.chance("side", rater, pair) < 0.5


@dataclass(frozen=True, slots=True)
class Invitation:
    """One link of one rater. `expires_at` is in seconds since 1970; `revoked` is the reason why it
    was taken back, None where it wasn't.
    """

    rater: str
    link: str
    expires_at: int
    revoked: str | None = None


@dataclass(frozen=True, slots=True)
class Register:
    """Who may rate, who agreed to the terms, and whose votes don't count, and why."""

    invitations: tuple[Invitation, ...]
    consented: frozenset[str]
    excluded: Mapping[str, str]
    closed: str | None

    @property
    def raters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(invitation.rater for invitation in self.invitations))


def create(
    store: Store,
    runs: Sequence[Run],
    rules: Rules,
    *,
    golds: Sequence[Gold] = (),
    tasks: Sequence[str] = (),
    raters: int = 0,
    lower_votes: bool = False,
    lower_target: bool = False,
) -> Session:
    """Make a session over the answers that the runs have in common, and store it.

    The first run is the anchor. `tasks` restricts it; otherwise all tasks that generate. Raises
    UserError for runs that were not asked the same, or of the same model, or without answers, and
    for a budget of votes or a target of grades that so many `raters` (0: not known yet) can't fill,
    unless it may be lowered to what they can (`lower_votes`, `lower_target`).
    """
    if len(runs) < 2 and "pairs" in rules.forms:
        raise UserError("pairs need two runs", field="runs", hint="name the anchor, then others")
    contenders = tuple(Contender(run.id, run.model, run.model_digest) for run in runs)
    twins = [c.run for c in contenders if [d.digest for d in contenders].count(c.digest) > 1]
    if twins:
        raise UserError(
            f"{' and '.join(twins)} are of one model",
            field="runs",
            hint="compare runs of different models",
        )
    items = answered_by_all(store, runs, tasks)
    session = Session(
        f"{_slug(rules.title)}-{secrets.token_hex(3)}",
        rules,
        contenders,
        items,
        tuple(golds),
        secrets.token_hex(16),
    )
    if raters:
        session = _fillable(session, raters, lower_votes, lower_target)
    store.append(
        "rating_sessions",
        [{"session_id": session.id, "event": "created", "config": _to_config(session)}],
    )
    return session


def _fillable(session: Session, raters: int, lower_votes: bool, lower_target: bool) -> Session:
    """The session with budgets that its raters can fill: each sees a pair or an answer once."""
    rules, items = session.rules, len(session.items)
    if "pairs" in rules.forms:
        pairs = items * len(session.design.comparisons)
        most = _most(rules.votes, raters, pairs, "votes", "pairs", lower_votes)
        rules = replace(rules, votes=most)
    if set(rules.forms) - {"pairs"}:
        answers = items * len(session.contenders)
        most = _most(rules.target, raters, answers, "grades", "answers", lower_target)
        rules = replace(rules, target=most)
    return replace(session, rules=rules)


def _most(wanted: int, raters: int, shown: int, what: str, of: str, lower: bool) -> int:
    """What is wanted, or as much as can be had of `shown` things where it may be lowered."""
    most = raters * shown
    if wanted <= most or lower:
        return min(wanted, most)
    people = "one rater" if raters == 1 else f"{raters} raters"
    field = "--votes" if what == "votes" else "--target"
    raise UserError(
        f"{wanted} {what} are wanted, and {people} can give {most} at most: each of {shown} {of} "
        "once",
        field=field,
        hint=f"{field} {most}, or {-(-wanted // shown)} raters, or runs of a larger suite",
    )


def load(store: Store, session_id: str) -> Session:
    """The session of that id, or of the only id that begins so. Raises UserError for none."""
    rows = store.query(
        "SELECT session_id, config FROM rating_sessions WHERE event = 'created' "
        "AND starts_with(session_id, ?) ORDER BY session_id",
        [session_id],
    )
    exact = [row for row in rows if row["session_id"] == session_id]
    if not exact and len(rows) != 1:
        known = ", ".join(sessions(store)) or "none yet: `ratchet rate create` makes one"
        what = "begins the names of several sessions" if rows else "is not a rating session"
        raise UserError(f"{session_id!r} {what}", field="session", hint=f"there are: {known}")
    row = (exact or rows)[0]
    return _from_config(row["session_id"], row["config"])


def sessions(store: Store) -> list[str]:
    """The ids of all sessions, oldest first."""
    rows = store.query(
        "SELECT session_id FROM rating_sessions WHERE event = 'created' ORDER BY seq"
    )
    return [row["session_id"] for row in rows]


def record(
    store: Store,
    session: Session,
    event: Literal["invited", "revoked", "consented", "excluded", "readmitted", "closed"],
    *,
    rater: str | None = None,
    reason: str | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Add an event of a session or of one of its raters.

    Raises UserError where an exclusion, a readmission or a revocation has no reason.
    """
    if event in ("excluded", "readmitted", "revoked") and not (reason or "").strip():
        raise UserError("a reason is needed", field="--reason", hint="say why, for later readers")
    row = {"session_id": session.id, "event": event, "rater": rater, "reason": reason}
    store.append("rating_sessions", [{**row, "config": dict(config or {})}])


def register(store: Store, session: Session) -> Register:
    """Everything that happened to the session so far."""
    rows = store.query(
        "SELECT event, rater, reason, config FROM rating_sessions WHERE session_id = ? "
        "ORDER BY seq",
        [session.id],
    )
    invited: dict[str, Invitation] = {}
    consented: set[str] = set()
    excluded: dict[str, str] = {}
    closed: str | None = None
    for row in rows:
        rater, config = row["rater"], row["config"] or {}
        match row["event"]:
            case "invited":
                invited[config["link"]] = Invitation(rater, config["link"], config["expires_at"])
            case "revoked":
                for link, found in invited.items():
                    if found.rater == rater and config.get("link") in (None, link):
                        invited[link] = Invitation(rater, link, found.expires_at, row["reason"])
            case "consented":
                consented.add(rater)
            case "excluded":
                excluded[rater] = row["reason"]
            case "readmitted":
                excluded.pop(rater, None)
            case "closed":
                closed = row["reason"] or "closed"
    return Register(tuple(invited.values()), frozenset(consented), excluded, closed)


def _to_config(session: Session) -> dict[str, Any]:
    return {
        "rules": asdict(session.rules),
        "contenders": [asdict(contender) for contender in session.contenders],
        "items": [[item.task, item.sample, list(item.keys)] for item in session.items],
        "golds": [asdict(gold) for gold in session.golds],
        "salt": session.salt,
    }


def _from_config(session_id: str, config: Mapping[str, Any]) -> Session:
    known = {field.name for field in fields(Rules)}
    rules: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in config["rules"].items()
        if name in known
    }
    return Session(
        session_id,
        Rules(**rules),
        tuple(Contender(**contender) for contender in config["contenders"]),
        tuple(Item(task, sample, tuple(keys)) for task, sample, keys in config["items"]),
        tuple(Gold(**gold) for gold in config["golds"]),
        config["salt"],
    )


def _slug(title: str) -> str:
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in title.lower()).split()
    return "-".join(words)[:32].rstrip("-") or "session"


def _short(*parts: str) -> str:
    joined = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(joined, digest_size=16).hexdigest()
