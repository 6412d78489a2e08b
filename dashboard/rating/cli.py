"""`ratchet rate`: create a session, serve it, hand out links, show its state, export its votes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.ratings.session import Session
    from harness.ratings.verdict import Standing
    from harness.store.store import Store

rate = typer.Typer(
    help="Blind rating sessions: people compare answers, and the gate can use their votes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

SessionArgument = Annotated[
    str, typer.Argument(help="A session's id, or the beginning of it.", show_default=False)
]
BaseOption = Annotated[
    str, typer.Option("--url", help="The server's address for raters; links begin with it.")
]
DEFAULT_URL = "http://127.0.0.1:8502"


@rate.command()
def create(
    runs: Annotated[
        list[str], typer.Argument(help="The runs to compare, the anchor first.", show_default=False)
    ],
    title: Annotated[str, typer.Option("--title", help="The title that raters see.")] = "Rating",
    raters: Annotated[
        str, typer.Option("--raters", help="Raters' names, comma-separated; each gets a link.")
    ] = "",
    task: Annotated[
        list[str] | None,
        typer.Option("--task", help="Only this task of the suite; may be repeated."),
    ] = None,
    suite: Annotated[
        Path | None, typer.Option("--suite", help="Refuse runs that are not of this suite.")
    ] = None,
    votes: Annotated[
        int | None,
        typer.Option("--votes", min=1, help="Votes wanted in all: 500, or as many as can be."),
    ] = None,
    overlap: Annotated[
        float,
        typer.Option("--overlap", help="Share of votes on pairs that another rater judged too."),
    ] = 0.2,
    gold: Annotated[
        Path | None,
        typer.Option("--gold", help="JSONL of pairs with a known answer: prompt, better, worse."),
    ] = None,
    gold_share: Annotated[
        float, typer.Option("--gold-share", help="Share of votes on --gold.")
    ] = 0.05,
    repeats: Annotated[
        float,
        typer.Option(
            "--repeats", help="Share of votes on repeated pairs; half with sides swapped."
        ),
    ] = 0.1,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Compare candidates with each other as well.")
    ] = False,
    forms: Annotated[
        str, typer.Option("--forms", help="Which of pairs, questions, stars; comma-separated.")
    ] = "pairs",
    dimensions: Annotated[
        str, typer.Option("--dimensions", help="Of the questionnaire, comma-separated; any names.")
    ] = "relevance,fluency,safety,domain",
    target: Annotated[
        int | None,
        typer.Option(
            "--target", min=1, help="Grades wanted per dimension: 500, or as many as can be."
        ),
    ] = None,
    looks: Annotated[
        str, typer.Option("--looks", help="When to decide: rising shares of --votes, ending in 1.")
    ] = "0.25,0.5,0.75,1",
    alpha: Annotated[float, typer.Option("--alpha", help="Error rate of the verdict.")] = 0.05,
    people: Annotated[
        bool, typer.Option("--people", help="The verdict is about any such raters, not only these.")
    ] = False,
    min_dwell: Annotated[
        int,
        typer.Option("--min-dwell", min=0, help="Milliseconds a pair must be seen before a vote."),
    ] = 400,
    licence: Annotated[str, typer.Option("--licence", help="Licence of the votes.")] = "",
    consent: Annotated[
        str, typer.Option("--consent", help="What raters must agree to: a text, or a file with it.")
    ] = "",
    days: Annotated[int, typer.Option("--days", min=1, help="Days that links work.")] = 30,
    url: BaseOption = DEFAULT_URL,
) -> None:
    """Make a session over the answers that runs have in common, and links for its raters."""
    from dashboard.rating.inputs import (
        find_run,
        names,
        number,
        read_golds,
        same_suite,
        text_or_file,
    )
    from dashboard.rating.links import invite
    from harness.ratings.session import Rules
    from harness.ratings.session import create as make

    with _opened() as (store, console):
        rules = Rules(
            title=title,
            votes=votes or 500,
            overlap=overlap,
            gold=gold_share if gold else 0.0,
            repeats=repeats / 2,
            swaps=repeats / 2,
            everyone=everyone,
            forms=tuple(names(forms)),  # type: ignore[arg-type]  # checked by Rules
            dimensions=tuple(names(dimensions)),
            target=target or 500,
            looks=tuple(number(look, "--looks") for look in names(looks)),
            alpha=alpha,
            claim="people" if people else "panel",
            min_dwell_ms=min_dwell,
            licence=licence,
            consent=text_or_file(consent),
        )
        found = [find_run(store, name) for name in runs]
        same_suite(found, suite)
        session = make(
            store,
            found,
            rules,
            golds=read_golds(gold),
            tasks=task or (),
            raters=len(names(raters)),
            lower_votes=votes is None,
            lower_target=target is None,
        )
        console.print(f"session {session.id}", style="bold", markup=False, highlight=False)
        console.print(
            f"{len(session.items)} prompts, {len(session.contenders)} runs, "
            f"{session.rules.votes} votes wanted",
            highlight=False,
        )
        for rater in names(raters):
            invite(store, console, session, rater, days, url)
        console.print(f"next: ratchet rate serve {session.id}", style="dim", highlight=False)


@rate.command()
def serve(
    session: Annotated[
        str | None,
        typer.Argument(help="Serve only this session. Default: all.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="The port; 0: any free one.")
    ] = 8502,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="A host name that raters use, besides localhost."),
    ] = None,
) -> None:
    """Serve rating sessions until Ctrl-C. Started again, it goes on where it was."""
    from dashboard.rating.run import serve as run_server
    from harness.ratings.session import load

    with _opened() as (store, console):
        only = load(store, session).id if session else None

        def ready(url: str) -> None:
            console.print(
                f"raters come in at {url}/r/… (ratchet rate links SESSION --url {url})",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

        run_server(store, only=only, host=host, port=port, allow=allow or [], ready=ready)


@rate.command()
def links(
    session: SessionArgument,
    add: Annotated[str, typer.Option("--add", help="Names to invite, comma-separated.")] = "",
    days: Annotated[int, typer.Option("--days", min=1, help="Days that new links work.")] = 30,
    url: BaseOption = DEFAULT_URL,
) -> None:
    """Show the raters' personal links, and make links for more raters."""
    from dashboard.rating.inputs import names
    from dashboard.rating.links import invite, show_link
    from harness.ratings.session import load, register

    with _opened() as (store, console):
        found = load(store, session)
        for invitation in register(store, found).invitations:
            if invitation.revoked is None:
                show_link(store, console, found, invitation, url)
            else:
                console.print(
                    f"{invitation.rater}: revoked ({invitation.revoked})", style="dim", markup=False
                )
        for rater in names(add):
            invite(store, console, found, rater, days, url)


@rate.command()
def revoke(
    session: SessionArgument,
    rater: Annotated[str, typer.Argument(help="The rater whose links end.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why.", show_default=False)],
) -> None:
    """End a rater's links; a running server follows within seconds. Their votes stay."""
    from harness.ratings.session import load, record, register

    with _opened() as (store, console):
        found = load(store, session)
        mine = [i for i in register(store, found).invitations if i.rater == rater]
        if not mine:
            raise UserError(
                f"session {found.id} has no rater called {rater!r}",
                field="rater",
                hint=f"`ratchet rate links {found.id}` lists those invited",
            )
        record(store, found, "revoked", rater=rater, reason=reason)
        console.print(f"{len(mine)} links of {rater} have ended", markup=False, highlight=False)


@rate.command()
def exclude(
    session: SessionArgument,
    rater: Annotated[
        str, typer.Argument(help="The rater whose votes to leave out.", show_default=False)
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why.", show_default=False)],
    back: Annotated[bool, typer.Option("--back", help="Let them count again.")] = False,
) -> None:
    """Leave a rater's votes out from now on. Nothing is deleted."""
    from harness.ratings.session import load
    from harness.ratings.votes import exclude as leave_out

    with _opened() as (store, console):
        count = leave_out(store, load(store, session), rater, reason, back=back)
        word = "count again" if back else "don't count"
        console.print(f"{count} votes of {rater} {word}", markup=False, highlight=False)


@rate.command()
def close(
    session: SessionArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why.")] = "enough",
) -> None:
    """End a session: raters get no more pairs. Votes stay."""
    from harness.ratings.session import load, record

    with _opened() as (store, console):
        found = load(store, session)
        record(store, found, "closed", reason=reason)
        console.print(f"session {found.id} is closed", markup=False, highlight=False)


@rate.command()
def status(
    session: Annotated[
        str | None, typer.Argument(help="A session. Default: a line for each.", show_default=False)
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Store the verdict on each candidate.")
    ] = False,
) -> None:
    """Show progress, raters, agreement, ratings and verdict. Exits as the gate does."""
    from dashboard.rating.console import show_all, show_status
    from harness.ratings.session import load

    with _opened() as (store, console):
        if session is None:
            show_all(store, console)
            return
        found = load(store, session)
        stands = show_status(store, console, found)
        if keep:
            _keep(store, found, stands)
    raise typer.Exit(_exit_code(stands))


@rate.command()
def judge(
    session: SessionArgument,
    model: Annotated[
        str, typer.Argument(help="The judging model, named as for `score`.", show_default=False)
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Judge at most N pairs.")
    ] = None,
    reward: Annotated[
        bool, typer.Option("--reward", help="MODEL is a reward model: the higher reward wins.")
    ] = False,
) -> None:
    """Let a model vote on the pairs, counted apart from people, and show its Elo.

    A language model is asked in both orders; of a reward model (--reward) the higher reward wins.
    """
    from dashboard.rating.console import show_judges
    from harness.ratings.model_raters import judged_by
    from harness.ratings.session import load

    with _opened() as (store, console):
        found = load(store, session)
        name, count = judged_by(store, found, model, reward=reward, limit=limit)
        console.print(f"{count} votes of {name}", markup=False, highlight=False)
        show_judges(store, console, found)


@rate.command()
def export(
    session: SessionArgument,
    file: Annotated[Path, typer.Argument(help="The JSONL file to write.", show_default=False)],
    least: Annotated[
        int, typer.Option("--least", min=1, help="How many votes more the chosen answer needs.")
    ] = 1,
) -> None:
    """Write chosen/rejected pairs for reward and DPO training, with licence and consent."""
    from harness.ratings.export import export as write
    from harness.ratings.session import load

    with _opened() as (store, console):
        done = write(store, load(store, session), file, least=least)
    left_out = [
        f"{count} {why}"
        for count, why in (
            (done.even, "undecided"),
            (done.same_text, "of equal texts"),
            (done.duplicates, "duplicates"),
            (done.without_consent, "votes without consent"),
        )
        if count
    ]
    console.print(
        f"{done.pairs} pairs in {done.path}"
        + (f"; left out: {', '.join(left_out)}" if left_out else ""),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


class _opened:  # noqa: N801 - reads as a verb where it is used
    """The workspace's store and a console, for the length of a verb."""

    def __enter__(self) -> tuple[Store, Console]:
        from rich.console import Console

        from harness.core.workspace import Workspace
        from harness.store.store import Store

        console = Console()
        self.store = Store(
            Workspace.at().ensure(), on_wait=lambda text: console.print(text, style="dim")
        )
        return self.store, console

    def __exit__(self, *_: object) -> None:
        self.store.close()


def _keep(store: Store, session: Session, stands: list[Standing]) -> None:
    from harness.comparison.verdict_log import keep_verdict

    for stand in stands:
        if stand.verdict is not None:
            keep_verdict(
                store,
                "humans",
                session.anchor.run,
                stand.contender.run,
                stand.verdict.with_note(session=session.id),
            )


def _exit_code(stands: list[Standing]) -> int:
    """The exit code of the worst verdict, in the order 3, 1, 2, 0; a missing one counts as 2."""
    codes = [stand.verdict.exit_code if stand.verdict else 2 for stand in stands]
    return next((code for code in (3, 1, 2) if code in codes), 0)
