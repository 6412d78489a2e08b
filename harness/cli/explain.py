"""`ratchet explain`: why a checkpoint got worse, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.plugins import PluginTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from harness.attribution.rewarded import Rewarded
    from harness.attribution.sample import SampleExplained
    from harness.store.store import Store

PARTS = PluginTable(
    "ratchet.explained",
    "part of an explanation",
    {
        "where": "harness.comparison.where:where",
        "words": "harness.comparison.wording:wording",
        "mistakes": "harness.comparison.mistakes:mistakes",
    },
)
"""What each room has to say of a verdict: `part(store, workspace, verdict_id, console)` writes it,
and raises UserError where it has nothing to say; its docstring's first line is its heading."""

WORDS = 8


def explain(
    verdict: Annotated[
        str, typer.Argument(help="A verdict's id, or the beginning of it.", show_default=False)
    ],
    sample: Annotated[
        str | None,
        typer.Option("--sample", metavar="ID", help="Explain this one sample, as ID or TASK/ID."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="MODEL",
            help="With --sample: explain the candidate's answer as this reward model or classifier "
            "scores it (SHAP and LIME).",
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="With --sample: the folder for its pictures."),
    ] = Path("explained"),
) -> None:
    """Say why a checkpoint got worse: where, which rows taught it; with --sample, which words."""
    from rich.console import Console

    from harness.core.errors import UserError
    from harness.core.quiet import quiet
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    quiet()
    console = Console()
    workspace = Workspace.at()
    with Store(workspace) as store:
        verdict_id, headline = _found(store, verdict)
        _print(console, f"Verdict {verdict_id}: {headline}")
        if by is not None and sample is None:
            raise UserError(
                "a reward model scores one answer, and no sample is named",
                field="--by",
                hint="name it: --sample ID",
            )
        if sample is None:
            _parts(store, workspace, verdict_id, console)
            return
        from harness.attribution.rewarded import explain_reward, is_reward_model
        from harness.attribution.sample import explain_sample

        if by is not None or is_reward_model(store, verdict_id):
            rewarded = explain_reward(store, workspace, verdict_id, sample, by)
            _show_rewarded(rewarded, output, console)
            return

        found = explain_sample(
            store, workspace, verdict_id, sample, say=lambda text: _print(console, text)
        )
    _show_sample(found, output, console)


def _parts(store: Store, workspace: object, verdict_id: str, console: Console) -> None:
    from harness.core.errors import UserError

    for name in PARTS.names():
        part = PARTS.load(name)
        console.print()
        console.print((part.__doc__ or name).splitlines()[0].rstrip("."), style="bold")
        try:
            part(store, workspace, verdict_id, console)
        except UserError as error:
            _print(console, f"Nothing can be said: {error.what}.")
            if error.hint:
                _print(console, f"Hint: {error.hint}.")


def _show_sample(found: SampleExplained, folder: Path, console: Console) -> None:
    from harness.core.escape import visible

    anchor, candidate = found.anchor.attributed.whole, found.candidate.attributed.whole
    _print(console, f"{found.task}/{found.sample.id}, and the answer {visible(found.answer, 60)!r}")
    _print(
        console,
        f"log p(answer) in nats: anchor {anchor:.2f}, candidate {candidate:.2f}, change "
        f"{found.change:+.2f}",
    )
    for title, pieces in (
        ("Integrated Gradients, nats that a token carries of the change", found.integrated),
        ("Left out, nats that a word adds to the change", found.occluded),
    ):
        most = sorted(pieces, key=lambda piece: -abs(piece[1]))[:WORDS]
        said = ", ".join(f"{visible(text.strip(), 24)!r} {value:+.2f}" for text, value in most)
        _print(console, f"{title}: {said or 'none'}")
    _write(found.pictures(), folder, console)


def _show_rewarded(found: Rewarded, folder: Path, console: Console) -> None:
    from harness.core.escape import visible

    scores = found.found
    _print(console, f"{found.task}/{found.sample.id}, and the answer {visible(found.answer, 60)!r}")
    _print(
        console,
        f"{found.unit} by {found.model}: {scores.whole:+.3f}; "
        f"without its words {scores.empty:+.3f}",
    )
    for title, values in (("SHAP", scores.shapley), ("LIME", scores.lime)):
        most = sorted(zip(scores.words, values, strict=True), key=lambda word: -abs(word[1]))
        said = ", ".join(f"{visible(word, 24)!r} {value:+.3f}" for word, value in most[:WORDS])
        _print(console, f"{title}, what a word adds: {said}")
    _write(found.pictures(), folder, console)


def _write(pictures: Mapping[str, str], folder: Path, console: Console) -> None:
    from harness.core.files import write_atomic

    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in pictures.items():
        write_atomic(folder / name, svg)
        _print(console, str(folder / name))


def _found(store: Store, wanted: str) -> tuple[str, str]:
    """(id, headline) of the verdict meant. Raises UserError where it is none, or several."""
    from harness.core.errors import UserError

    rows = store.query(
        "SELECT verdict_id, headline, starts_with(verdict_id, ?) AS is_meant FROM verdicts "
        "ORDER BY seq DESC",
        [wanted],
    )
    meant = [row for row in rows if row["is_meant"]] if wanted else []
    if len({row["verdict_id"] for row in meant}) != 1:
        last = ", ".join(row["verdict_id"] for row in (meant or rows)[:3])
        raise UserError(
            f"{len(meant)} verdicts begin with {wanted!r}"
            if meant
            else f"there is no verdict {wanted!r} here",
            field="VERDICT",
            hint=f"the last ones are {last}" if rows else "gate two runs, or train a recipe, first",
        )
    return meant[0]["verdict_id"], meant[0]["headline"]


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False)
