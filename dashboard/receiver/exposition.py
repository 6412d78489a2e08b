"""Prometheus's text format, as its exporters write it (version 0.0.4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[Mapping[str, str], float]
"""Labels, in the order in which they are written, and the value."""


@dataclass(frozen=True, slots=True)
class Family:
    """All series of one name. A counter's name ends in `_total`, a gauge's in its unit."""

    name: str
    help: str
    samples: Sequence[Sample]
    kind: Literal["gauge", "counter"] = "gauge"


def text(families: Iterable[Family]) -> str:
    """The page of them all; a family without series is left out."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for labels, value in family.samples:
            said = ",".join(f'{k}="{v.translate(_ESCAPES)}"' for k, v in labels.items())
            lines.append(
                f"{family.name}{{{said}}} {_number(value)}"
                if said
                else f"{family.name} {_number(value)}"
            )
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
