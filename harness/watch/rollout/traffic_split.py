"""How a line's traffic is split between two checkpoints, as files that servers read.

    lines/support-bot/
      split.json        the truth: who takes part, with which share, at which step of the ramp
      candidate         -> ../../checkpoints/<digest>, as `promoted` is; only while it has traffic
      split.nginx.conf  the same for nginx: `include` it within `http { }`
      split.envoy.json  the same for Envoy: routes that its RDS reads from a file

Each is replaced by one rename, so a server never reads half a file. The last three follow from the
first, and are written again at the next look where they are missing or old.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.files import replace_symlink, write_atomic
from harness.registry.lines import CANDIDATE

FILE = "split.json"
NGINX = "split.nginx.conf"
ENVOY = "split.envoy.json"
RAMP = (0.01, 0.1, 0.5, 1.0)
FINEST = 0.0001
"""The smallest share: nginx splits by hundredths of a percent."""


@dataclass(frozen=True, slots=True)
class Split:
    """A candidate beside a line's promoted checkpoint.

    canary          its id, the same at every step
    line            whose traffic is split, and whose promoted checkpoint has the rest
    promoted        digest of that checkpoint when the canary began
    candidate       digest of the other one
    other           the line that the candidate is the promoted one of, where two lines are compared
    ramp            the candidate's shares, rising; a last 1.0 is its promotion
    step            place in the ramp, from 0
    cursor          `seq` of the last observation before this step: only later ones count
    begun_at, at    ISO 8601, UTC: of the canary and of this step
    verdict_id      the gate's verdict that the candidate stands on, or `override` says why not
    ended           why it is over; None while it runs
    """

    canary: str
    line: str
    promoted: str
    candidate: str
    other: str | None
    ramp: tuple[float, ...]
    step: int
    cursor: int
    begun_at: str
    at: str
    verdict_id: str | None
    override: str | None
    ended: str | None = None

    @property
    def share(self) -> float:
        """The candidate's share of the traffic now, 0 to 1; 0 once the canary is over."""
        return 0.0 if self.ended else self.ramp[self.step]

    @property
    def compared(self) -> int:
        """Steps at which both have traffic and are compared with each other."""
        return sum(share < 1 for share in self.ramp)


def check_ramp(ramp: tuple[float, ...]) -> tuple[float, ...]:
    """The ramp itself. Raises UserError unless its shares rise, from above 0 to at most 1."""
    rising = all(a < b for a, b in pairwise(ramp))
    fine = all(FINEST <= share <= 1 for share in ramp)
    if not ramp or not rising or not fine or ramp[0] == 1:
        raise UserError(
            f"{', '.join(f'{share:g}' for share in ramp) or 'nothing'} is not a ramp",
            field="--ramp",
            hint="shares that rise, from 0.0001 to 1, like 0.01,0.1,0.5,1",
        )
    return ramp


def read(folder: Path) -> Split | None:
    """The split of the line in `folder`, also one that has ended; None where there never was one.

    Raises UserError where the file can't be read as a split.
    """
    path = folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content.pop("format"), content.pop("share")
        content["ramp"] = tuple(content["ramp"])
        content["promoted"] = content.pop("blessed")
        return Split(**content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "the split of a line can't be read",
            file=path,
            hint="move the file away: all traffic then goes to the promoted checkpoint",
        ) from error


def write(folder: Path, split: Split) -> None:
    """Make it the line's split, and everything that follows from it."""
    content = {"format": 1, "share": split.share, **asdict(split)}
    # Servers read this file: its key keeps the name that it was first written with.
    content["blessed"] = content.pop("promoted")
    # The split first: the other files can be made from it after a kill, it can't from them.
    write_atomic(folder / FILE, _text(content))
    follow(folder, split)


def follow(folder: Path, split: Split) -> None:
    """Write the files that follow from a split, where they are missing or old.

    Without traffic for the candidate, or where it is another line's, its alias is removed.
    """
    alias = folder / CANDIDATE
    if split.share and split.other is None:
        target = os.path.relpath(folder.parent.parent / "checkpoints" / split.candidate, folder)
        if not alias.is_symlink() or str(alias.readlink()) != target:
            replace_symlink(alias, target)
    else:
        with contextlib.suppress(FileNotFoundError):
            alias.unlink()
    for name, text in ((NGINX, nginx(split)), (ENVOY, envoy(split))):
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomic(path, text)


def nginx(split: Split) -> str:
    """`$ratchet_arm_<line>` is `candidate` or `blessed` (promoted), by the hash of `$ratchet_key`.

    The same key stays in its arm at every step, as the shares rise.
    """
    name = re.sub(r"\W", "_", split.line)
    some = f"    {100 * split.share:.2f}%  candidate;\n" if split.share else ""
    return (
        f"# Canary {split.canary} of {split.line}, written by ratchet.\n"
        f'split_clients "$ratchet_key" $ratchet_arm_{name} {{\n'
        f"{some}    *  blessed;\n"
        "}\n"
    )


def envoy(split: Split) -> str:
    """A discovery response with one route: clusters `<line>-candidate` and `<line>-blessed`, which
    is the promoted one.
    """
    weight = round(10_000 * split.share)
    clusters = [
        {
            "name": f"{split.line}-{arm}",
            "weight": share,
            "response_headers_to_add": [
                {
                    "header": {"key": "x-ratchet-arm", "value": arm},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
        }
        for arm, share in (("candidate", weight), ("blessed", 10_000 - weight))
    ]
    route = {
        "match": {"prefix": "/"},
        "route": {"weighted_clusters": {"clusters": [c for c in clusters if c["weight"]]}},
    }
    return _text(
        {
            "version_info": f"{split.canary}-{split.step}-{split.share:g}",
            "resources": [
                {
                    "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                    "name": f"{split.line}-split",
                    "virtual_hosts": [{"name": split.line, "domains": ["*"], "routes": [route]}],
                }
            ],
        }
    )


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
