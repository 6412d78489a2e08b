"""A rating session at the terminal: progress, raters, agreement, ratings, verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.ratings.rater_quality import between_kinds, group_agreement, rater_quality
from harness.ratings.session import KINDS, Session, load, register, sessions
from harness.ratings.verdict import METRIC, Standing, standings
from harness.ratings.votes import Vote, answered, labels, plain, ratings, votes
from harness.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from harness.statistics.agreement import Agreement
    from harness.statistics.elo import Ratings


def show_all(store: Store, console: Console) -> None:
    """Print a table with one line for each session."""
    names = sessions(store)
    if not names:
        console.print("no rating session yet: ratchet rate create RUN RUN", style="dim")
        return
    table = _table("session", "votes", "of", "raters")
    for name in names:
        session = load(store, name)
        count = len(plain(votes(store, session)))
        raters = len(register(store, session).raters)
        table.add_row(name, str(count), str(session.rules.votes), str(raters))
    console.print(table)


def show_status(store: Store, console: Console, session: Session) -> list[Standing]:
    """Print all about one session, and return where each contender stands by people's votes.

    Votes of models are shown apart and decide nothing.
    """
    from rich.text import Text

    found = votes(store, session)
    console.print(Text(f"{session.rules.title} ({session.id})", "bold"))
    stands = standings(session, found) if "pairs" in session.rules.forms else []
    if "pairs" in session.rules.forms:
        console.print(f"{len(plain(found))} of {session.rules.votes} votes", highlight=False)
        _raters(store, console, session)
        _agreement(console, found)
        _ratings(console, session, found)
        _verdicts(console, session, stands)
    _dimensions(store, console, session)
    show_judges(store, console, session)
    return stands


def show_judges(store: Store, console: Console, session: Session) -> None:
    """Print each judge with its win shares, its agreement with people, and the Elo it gives."""
    human = votes(store, session)
    table = _table("judge", "kind", "votes", "win share", "κ with people", "pairs")
    judges: dict[str, list[Vote]] = {}
    for kind in KINDS[1:]:
        found = votes(store, session, kind=kind)
        for name in sorted({vote.rater for vote in found}):
            mine = judges[name] = [vote for vote in found if vote.rater == name]
            agreement = between_kinds(human, mine)
            stands = standings(session, mine)
            shares = ", ".join("–" if s.share is None else f"{s.share:.2f}" for s in stands)
            table.add_row(
                name, kind, str(len(mine)), shares, _figure(agreement), str(agreement.units)
            )
    if table.row_count:
        console.print(table)
    for name, mine in judges.items():
        console.print(f"by {name} alone:", style="dim", markup=False, highlight=False)
        _rated(console, ratings(session, mine, alone=True))


def _raters(store: Store, console: Console, session: Session) -> None:
    known = register(store, session)
    table = _table("rater", "votes", "left", "dwell", "gold", "repeat", "swapped", "notice")
    quality = {q.rater: q for q in rater_quality(session, votes(store, session, excluded=True))}
    for rater in dict.fromkeys([*known.raters, *quality]):
        q = quality.get(rater)
        reason = known.excluded.get(rater)
        said = [f"excluded: {reason}"] if reason is not None else list(q.warnings if q else ())
        if q is None:
            table.add_row(rater, "0", *[""] * 5, "; ".join(said))
            continue
        table.add_row(
            rater,
            str(q.votes),
            _share(q.left),
            "" if q.dwell_ms is None else f"{q.dwell_ms / 1000:.1f} s",
            _share(q.gold),
            _share(q.repeat),
            _share(q.swapped),
            "; ".join(said),
        )
    console.print(table)


def _agreement(console: Console, found: list[Vote]) -> None:
    group = group_agreement(found)
    if group.alpha.value is None:
        console.print("agreement: no pair has been judged by two people yet", style="dim")
        return
    parts = [f"Krippendorff's α {_figure(group.alpha)} over {group.alpha.units} pairs"]
    if group.fleiss is not None and group.fleiss.value is not None:
        parts.append(f"Fleiss' κ {_figure(group.fleiss)}")
    console.print("agreement: " + "; ".join(parts), highlight=False)
    for (a, b), own in group.cohen.items():
        if own.value is not None:
            text = f"  {a} and {b}: Cohen's κ {_figure(own)} over {own.units}"
            console.print(text, style="dim", markup=False, highlight=False)
    if group.warning:
        console.print(group.warning, style="yellow", highlight=False)


def _ratings(console: Console, session: Session, found: list[Vote]) -> None:
    _rated(console, ratings(session, found))


def _rated(console: Console, rated: Ratings | None) -> None:
    if rated is None:
        return
    table = _table("model", "Elo", "95% interval", "both bad")
    for name in sorted(rated.ratings, key=lambda name: -rated.ratings[name]):
        ends = rated.intervals.get(name)
        between = f"{ends[0]:.0f} to {ends[1]:.0f}" if ends else "anchor"
        table.add_row(name, f"{rated.ratings[name]:.0f}", between, _share(rated.both_bad[name]))
    console.print(table)


def _verdicts(console: Console, session: Session, stands: list[Standing]) -> None:
    from rich.text import Text

    from harness.report.console import STYLES

    names = labels(session)
    for stand in stands:
        share = "–" if stand.share is None else f"{stand.share:.3f}"
        line = Text(f"{names[stand.contender.digest]}: win share {share}, {stand.sentence}")
        if stand.verdict is not None:
            measured = stand.verdict.row(METRIC).measured
            if measured.interval and measured.candidate is not None:
                low, high = (0.5 + end for end in measured.interval)
                line.append(f" [{low:.3f}, {high:.3f}]")
            line.stylize(STYLES[stand.verdict.outcome])
        console.print(line, soft_wrap=True)


def _dimensions(store: Store, console: Console, session: Session) -> None:
    rules = session.rules
    wanted = [*(rules.dimensions if "questions" in rules.forms else ())]
    wanted += ["stars"] if "stars" in rules.forms else []
    if not wanted:
        return
    counts = answered(store, session)
    table = _table("dimension", "answers", "of")
    for name in wanted:
        table.add_row(name, str(counts.get(name, 0)), str(rules.target))
    console.print(table)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place == 0 or name == "notice" else "right")
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _figure(found: Agreement) -> str:
    if found.value is None:
        return "–"
    ends = "" if found.low is None else f" [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f}{ends}"
