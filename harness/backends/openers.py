"""The backends that a model's name may choose by its prefix, such as `openai:` and `vllm:`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.backends.base import Candidate
from harness.core.errors import UserError
from harness.core.plugins import PluginTable
from harness.core.workspace import Workspace

BACKENDS = PluginTable(
    "ratchet.backends",
    "backend",
    {
        "openai": "harness.backends.openai.open:open_candidate",
        "vllm": "harness.backends.vllm:open_candidate",
    },
    also=", and without a prefix a folder, a hub id or line:NAME",
)
"""Prefix -> `Opener`. A package adds one in the entry-point group `ratchet.backends`."""

# A prefix has two letters at least: `C:` is a drive.
_PREFIX = re.compile(r"([a-z][a-z0-9_.+-]+):.*", re.DOTALL)


UNTRIED = frozenset({"xpu", "mps"})
"""Devices on which nobody has run Ratchet yet."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where and in which precision a model is opened."""

    device: str
    dtype: str

    @classmethod
    def choose(cls, device: str = "auto", dtype: str = "auto") -> Hardware:
        """A GPU where there is one (CUDA, then Intel's, then Apple's), in bfloat16 where it has
        that; else this machine's cores in float32.
        """
        if device == "auto":
            device = _found()
        if dtype == "auto":
            dtype = "bfloat16" if _has_bfloat16(device) else "float32"
        return cls(device, dtype)

    def __str__(self) -> str:
        never = "; never tried there" if self.device.partition(":")[0] in UNTRIED else ""
        return f"{self.dtype} on {self.device}{never}"


def _found() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if torch.xpu.is_available():
        return "xpu"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _has_bfloat16(device: str) -> bool:
    if device.startswith("cuda"):
        import torch

        return not torch.cuda.is_available() or torch.cuda.is_bf16_supported()
    return device.startswith("xpu")


@dataclass(frozen=True, slots=True)
class Opening:
    """What an opener is given.

    name       the whole name as the user wrote it, which the candidate must have
    rest       what comes after the prefix and its colon; it may be empty
    workspace  where caches and digests may be kept
    wanted     the device and dtype that were asked for; None where the opener is to choose
    base       the model under an adapter, where the user names another than the adapter does
    say        called with a sentence for the user before what takes long
    """

    name: str
    rest: str
    workspace: Workspace
    wanted: Hardware | None = None
    base: str | None = None
    say: Callable[[str], None] = lambda message: None

    @property
    def hardware(self) -> Hardware:
        """What was asked for, else what this machine has (which imports torch to look)."""
        return self.wanted or Hardware.choose()


class Opener(Protocol):
    """Makes a candidate from a name that begins with the opener's prefix.

    It reads no weights: `Candidate.open` does, when something has to be generated. The candidate's
    `digest` says which bytes answer, and its `subject` how (backend, dtype, quantization). Answers
    are cached under both, so everything that may change an answer belongs in one of them. Raises
    UserError where the name names no model, UnfinishedError for a server that does not answer.
    """

    def __call__(self, asked: Opening) -> Candidate: ...


def prefix_of(name: str) -> str | None:
    """The prefix of `name`, which names its backend; None for a folder or a hub id.

    Raises UserError for a prefix that no backend has.
    """
    found = _PREFIX.fullmatch(name)
    if found is None or Path(name).exists():
        return None
    if found[1] in ("run", "bundle"):
        raise UserError(
            f"{name} names a run, but a model is needed here",
            hint="name its model: a folder, a hub id or line:NAME",
        )
    if found[1] not in BACKENDS:
        raise BACKENDS.unknown(found[1])
    return found[1]


def open_prefixed(asked: Opening, prefix: str) -> Candidate:
    """The candidate that the backend of that prefix makes. Raises as `Opener` does."""
    opener: Opener = BACKENDS.load(prefix)
    candidate = opener(asked)
    if not isinstance(candidate, Candidate):
        raise UserError(
            f"the backend {prefix!r} returned a {type(candidate).__name__}, not a Candidate",
            field=asked.name,
            hint="an opener returns harness.backends.base.Candidate",
        )
    return candidate
