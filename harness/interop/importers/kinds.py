"""The kinds of results that `ratchet import KIND` reads, and how one is read by its name."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from harness.core.errors import UserError
from harness.core.plugins import PluginTable
from harness.interop.importers.common import Imported

IMPORTERS = PluginTable(
    "ratchet.importers",
    "importer",
    {
        "lm-eval": "harness.interop.importers.lm_eval:read_lm_eval",
        "inspect": "harness.interop.importers.inspect_log:read_inspect",
        "csv": "harness.interop.importers.csv_scores:read_csv",
        "evalscope": "harness.interop.importers.evalscope:read_evalscope",
        "promptfoo": "harness.interop.importers.promptfoo:read_promptfoo",
        "opencompass": "harness.interop.importers.opencompass:read_opencompass",
        "helm": "harness.interop.importers.helm:read_helm",
        "lighteval": "harness.interop.importers.lighteval:read_lighteval",
        "nemo": "harness.interop.importers.nemo:read_nemo",
    },
    also=", bundle, or a bundle's folder alone",
)
"""Kind -> `Importer`. A package adds one in the entry-point group `ratchet.importers`."""


class Importer(Protocol):
    """Reads one run that another tool measured.

    `place` is the file or folder, and `name` what the run is to be called. A name without a default
    must be given (`--run NAME`); an importer that also takes `lower`, the metrics of which less is
    better, is given what `--lower` says. Raises UserError naming the file and the line.
    """

    def __call__(self, place: Path, /, *, name: str | None) -> Imported: ...


def read_kind(kind: str, place: Path, *, name: str | None, lower: Sequence[str] = ()) -> Imported:
    """What the importer of that kind reads. Raises UserError for options that it doesn't take."""
    read = IMPORTERS.load(kind)
    takes = inspect.signature(read).parameters
    given: dict[str, Any] = {"name": name}
    if name is None and takes["name"].default is inspect.Parameter.empty:
        raise UserError(
            f"{kind} results don't say what was measured", field="--run", hint="name it: --run NAME"
        )
    if "lower" in takes:
        given["lower"] = lower
    elif lower:
        raise UserError(
            f"{kind} says itself what is better", field="--lower", hint="leave --lower out"
        )
    found = read(place, **given)
    if not isinstance(found, Imported):
        raise UserError(
            f"the importer {kind!r} reads no run: it gave a {type(found).__name__}",
            hint="an importer returns harness.interop.importers.common.Imported",
        )
    return found
