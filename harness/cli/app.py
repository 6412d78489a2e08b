"""The command `ratchet`: finds its verbs among entry points, and turns errors into exit codes.

0 pass, 1 fail, 2 inconclusive, 3 incomparable, broken input or wrong usage, 4 a crash.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from harness.core.errors import UnfinishedError, UserError
from harness.core.parts import missing_part
from harness.core.plugins import PluginTable
from harness.core.quiet import TALKATIVE
from harness.core.text_file import without_halves
from harness.core.threads import wait_briefly
from harness.core.workspace import HOME_VARIABLE, Workspace

VERBS = PluginTable("ratchet.verbs", "verb", {})
"""Each room registers its own, as an installed package does: a function, or a `typer.Typer`."""

INCONCLUSIVE, BAD_INPUT, CRASH, INTERRUPTED = 2, 3, 4, 130

HELP = """Score checkpoints, and roll back any that got worse.

Models and runs are named one way everywhere: a folder, a hub id or an embedded name,
or run:ID, line:NAME, bundle:DIR, openai:URL#MODEL.

Exit codes: 0 pass, 1 fail, 2 inconclusive, 3 incomparable or bad input, 4 Ratchet crashed.
"""


class Verbs(TyperGroup):
    """A group whose commands are entry points, each loaded only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return VERBS.names()

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        from harness.cli.verb_help import help_of

        lines = {p.name: TyperCommand(p.name, help=help_of(p)) for p in VERBS.added}
        TyperGroup(commands=dict(lines)).format_commands(ctx, formatter)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in VERBS:
            return None
        verb = VERBS.load(cmd_name)
        if isinstance(verb, typer.Typer):
            return typer.main.get_command(verb)
        app = typer.Typer(add_completion=False)
        app.command(name=cmd_name)(verb)
        return typer.main.get_command(app)


app = typer.Typer(
    cls=Verbs, help=HELP, no_args_is_help=True, rich_markup_mode=None, add_completion=True
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"ratchet {version('ratchet-eval')}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _root(
    home: str = typer.Option(
        None, "--home", envvar=HOME_VARIABLE, help="The workspace folder. Default: ./.ratchet"
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks."),
    version: bool = typer.Option(
        False, "--version", help="Show the version.", is_eager=True, callback=_show_version
    ),
) -> None:
    """`main` has read these already; they stand here so that --help shows them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb and return its exit code (the console script exits with it)."""
    words, home, debug = _common_options(list(sys.argv[1:] if argv is None else argv))
    if home is not None:
        os.environ[HOME_VARIABLE] = home
    try:
        outcome = typer.main.get_command(app).main(
            args=words, prog_name="ratchet", standalone_mode=False
        )
        code = outcome if isinstance(outcome, int) else 0
        # Typer turns Ctrl-C into this one, and says nothing.
        return _interrupted() if code == INTERRUPTED else code
    except UserError as error:
        if debug:
            traceback.print_exc()
        _say(error)
        return INCONCLUSIVE if isinstance(error, UnfinishedError) else BAD_INPUT
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        _say_usage(error)
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        # The reader went away (`ratchet runs | head`): Python must not complain while closing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug:
            raise
        known = _explain_os_error(error)
        if known is None:
            return _crashed(error)
        _say(known)
        return BAD_INPUT
    except Exception as error:
        if debug:
            raise
        part = missing_part(error)
        if part is None:
            return _crashed(error)
        _say(part)
        return BAD_INPUT


def run() -> None:
    """The console script."""
    wait_briefly()
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    sys.exit(main())


def _common_options(words: list[str]) -> tuple[list[str], str | None, bool]:
    """Take `--home DIR` and `--debug` out of the words, wherever they stand before a `--`.

    Both belong to every verb, and click would accept them only before the verb's name.
    """
    rest: list[str] = []
    home: str | None = None
    debug = False
    position = 0
    while position < len(words):
        word = words[position]
        if word == "--":
            rest.extend(words[position:])
            break
        if word == "--debug":
            debug = True
        elif word == "--home" and position + 1 < len(words):
            position += 1
            home = words[position]
        elif word.startswith("--home="):
            home = word.removeprefix("--home=")
        else:
            rest.append(word)
        position += 1
    return rest, home, debug


def _interrupted() -> int:
    print("\ninterrupted; the same command goes on from here", file=sys.stderr)  # noqa: T201
    return INTERRUPTED


def _say_usage(error: typer.TyperException) -> None:
    """A usage error knows how to show itself, with the usage line of its verb."""
    show = getattr(error, "show", None)
    if show is None:
        _say(UserError(error.format_message()))
    else:
        show()


def _say(error: UserError) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    # A name may hold bytes that are no text, and the message about it must be one all the same.
    first, *rest = without_halves(error.render()).splitlines()
    console.print(Text.assemble(("error: ", "bold red"), (first, "bold")))
    for line in rest:
        console.print(Text(line))


def _explain_os_error(error: OSError) -> UserError | None:
    """An error of the machine (a full disk, a missing permission) as one with a hint; else None."""
    import errno

    hints = {
        errno.ENOSPC: "free some space; what was acknowledged is kept; run the same command again",
        errno.EDQUOT: "the quota is used up; free some space and run the same command again",
        errno.EACCES: "fix the permissions, or choose another folder with --home",
        errno.EPERM: "fix the permissions, or choose another folder with --home",
        errno.ENAMETOOLONG: "shorten the path, or look for a text that stands in its place",
        errno.ELOOP: "a link leads back to itself: mend it, or name the file itself",
        errno.EROFS: "the file system is read-only: choose another folder with --home",
    }
    if error.errno not in hints:
        return None
    what = (error.strerror or str(error)).lower()
    return UserError(what, file=error.filename, hint=hints[error.errno])


def _crashed(error: BaseException) -> int:
    """Keep the traceback in a file, say where it is, and return the exit code of a crash."""
    name = f"crash-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    text = "".join(traceback.format_exception(error))
    message = UserError(
        f"Ratchet crashed: {type(error).__name__}: {error}",
        file=_keep(name, text),
        hint="this is a defect of Ratchet: please report it; --debug shows the traceback",
    )
    _say(message)
    return CRASH


def _keep(name: str, text: str) -> Path | None:
    try:
        logs = Workspace.at().ensure().logs
        (logs / name).write_text(text, encoding="utf-8", errors="replace")
        return logs / name
    except (OSError, UserError):
        return None
