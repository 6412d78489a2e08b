"""What a step of a pipeline is: its options, its signature, and rows in, rows and drops out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.plugins import PluginTable
from harness.core.strict_model import FiniteModel
from trainers.data.rows import Done, Drop, Placed, Why

STEPS = PluginTable(
    group="ratchet.data_steps",
    kind="step",
    built_in={
        "clean": "trainers.data.clean:Clean",
        "strip_punctuation": "trainers.data.clean:StripPunctuation",
        "length": "trainers.data.length:Length",
        "language": "trainers.data.language:Language",
        "exact": "trainers.data.exact:Exact",
        "augment": "trainers.data.augment:Augment",
        "entities": "trainers.data.entities:Entities",
        "rename": "trainers.data.rename:Rename",
        "slots": "trainers.data.slots:Slots",
        "near": "trainers.data.near:Near",
        "contamination": "trainers.data.contamination:Contamination",
        "quality": "trainers.data.quality:Quality",
        "personal": "trainers.data.personal:Personal",
    },
)
"""Every step by the name that a pipeline calls it by."""


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Context:
    """What a step is told beside its rows: the pipeline's folder, from which its paths go, the
    pipeline's seed, and what is told (rows done, of how many).
    """

    folder: Path
    seed: int = 0
    progress: Callable[[int, int], None] = _silent


class Step(FiniteModel):
    """One step; its options are its fields. Its result depends on nothing but the rows, the options
    and what `reads` names, so that it may be kept: raise VERSION where the code gives another
    result than before. LIBRARIES are the packages that the result depends on.
    """

    VERSION: ClassVar[int] = 1
    LIBRARIES: ClassVar[tuple[str, ...]] = ()

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        """The rows that are kept, in order, and a drop for each of the others under `name`, the
        step's own. Raises UserError.
        """
        raise NotImplementedError

    def reads(self, context: Context) -> Any:
        """What the result depends on outside of the options, such as digests of files. Raises
        UserError for what isn't there: it is asked for before the first step runs.
        """
        return None

    def signature(self, name: str, context: Context) -> str:
        """What the result depends on beside the rows, 16 hexadecimal digits."""
        libraries = {library: _installed(name, library) for library in self.LIBRARIES}
        options = self.model_dump(mode="json")
        return digest_of([name, self.VERSION, options, libraries, self.reads(context)])


def _installed(name: str, library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        hint = "pip install 'ratchet-eval[train]'"
        raise UserError(f"the step {name} needs {library}, which is not there", hint=hint) from None


def each_row(
    name: str,
    rows: Sequence[Placed],
    context: Context,
    look: Callable[[Placed], Placed | Why],
) -> Done:
    """A step that looks at one row after another: `look` gives the row to keep, or why not."""
    kept: list[Placed] = []
    drops: list[Drop] = []
    for number, placed in enumerate(rows, start=1):
        found = look(placed)
        if isinstance(found, Placed):
            kept.append(found)
        else:
            drops.append(Drop(placed, name, found.reason, found.detail))
        if number % 200 == 0:
            context.progress(number, len(rows))
    return kept, drops
