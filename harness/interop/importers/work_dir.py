"""Finds the one model's folder in the --work-dir of a tool that keeps a folder for each model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import UserError


def one_model(
    path: Path, inner: str, *, tool: str, nothing: str, hint: str, apart: str
) -> tuple[Path, Path]:
    """The folder that has `inner` (the one named, or the only one of its folders that does), and
    the only model's folder in `inner`.

    Raises UserError where there is none, saying `nothing` and `hint`, or several, of models with
    the hint `apart`.
    """
    if not path.is_dir():
        what = "this is a file" if path.exists() else "there is no such folder"
        raise UserError(what, file=path, hint=f"name the folder that {tool} wrote (--work-dir)")

    def only(found: Sequence[Path], place: Path, what: str, several: str) -> Path:
        if not found:
            raise UserError(nothing, file=place, hint=hint)
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise UserError(f"{len(found)} {what}: {names}", file=place, hint=several)
        return found[0]

    place = path
    if not (path / inner).is_dir():
        found = [one for one in sorted(path.iterdir()) if (one / inner).is_dir()]
        place = only(found, path, f"runs of {tool} are here", "name one of them")
    models = [one for one in sorted((place / inner).iterdir()) if one.is_dir()]
    return place, only(models, place / inner, "models were evaluated here", apart)
