"""`ratchet recipes from`: another trainer's configuration as a recipe, written and checked."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from harness.core.errors import UserError
from harness.core.files import write_atomic
from harness.core.text_file import read_text
from harness.core.yaml_file import load_yaml
from trainers.cli.summary import say
from trainers.config.convert import Converted, Draft, Settings, converted
from trainers.config.convert_axolotl import read_axolotl
from trainers.config.convert_llama_factory import read_llama_factory
from trainers.config.convert_ms_swift import command_line, read_ms_swift
from trainers.config.foreign import CONVERTED, tool_of
from trainers.config.load import load_recipe


def make_recipe(
    file: Path, *, suite: Path, to: Path | None, line: str | None, info: Path | None, force: bool
) -> None:
    """Write the recipe, say what has no equivalent in it, and load it as a training would. Raises
    UserError; a recipe that doesn't load is written all the same, for its reader to correct.
    """
    target = to or file.with_name(f"{file.stem}.recipe.yaml")
    if target.exists() and not force:
        raise UserError(
            "there is a file already", file=target, hint="choose another with --to, or --force"
        )
    if not suite.is_file():
        raise UserError("there is no such suite", file=suite, field="--suite")
    made = _made(file, suite, target, line, info)
    write_atomic(target, made.text.encode("utf-8"))
    console = Console()
    console.print(Text(f"{target}: a recipe of {file.name}", style="bold"))
    for note in made.notes:
        say(console, note)
    if made.left:
        say(console, f"{len(made.left)} keys have no equivalent, or need none:")
    for key, why in made.left:
        say(console, f"  {key}: {why}")
    load_recipe(target)
    say(console, f"`ratchet recipes check {target}` shows what it would do")


def _made(file: Path, suite: Path, target: Path, line: str | None, info: Path | None) -> Converted:
    settings, draft = _read(file, target, info)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem).strip("-._") or "recipe"
    return converted(
        settings, draft, suite=suite, target=target, name=name[:100], line=line or name[:100]
    )


def _read(file: Path, target: Path, info: Path | None) -> tuple[Settings, Draft]:
    command = None
    if file.suffix.lower() not in (".yaml", ".yml"):
        command = command_line(read_text(file, what="configuration"), file)
    if command is not None:
        settings = Settings(command)
        return settings, read_ms_swift(settings, target)
    document = load_yaml(file, what="configuration")
    settings = Settings(document)
    tool = tool_of(frozenset(map(str, document.data)))
    if tool == "LLaMA-Factory":
        return settings, read_llama_factory(settings, target, info)
    if tool == "axolotl":
        return settings, read_axolotl(settings, target)
    if tool == "ms-swift":
        return settings, read_ms_swift(settings, target)
    raise UserError(
        "this is no configuration that is known here" if tool is None else f"{tool}'s isn't read",
        file=file,
        hint=f"known are {', '.join(CONVERTED)}; of others docs/training.md has the keys",
    )
