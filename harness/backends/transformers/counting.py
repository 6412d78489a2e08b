"""Counts what a piece of work asks of the host: operations, host reads, copies to the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
# What waits for the device, to tell the host a number or how large a result is.
_READS = frozenset(
    {
        _aten._local_scalar_dense.default, _aten.nonzero.default, _aten.equal.default,
        _aten.is_nonzero.default, _aten.masked_select.default, _aten._unique2.default,
        _aten.unique_consecutive.default,
    }
)  # fmt: skip
_MADE = _aten.lift_fresh.default
"""What makes a tensor of the host's numbers."""


class Counting(TorchDispatchMode):
    """Counts within the `with` block.

    operations  in all
    reads       for which the host waits
    copies      of the host's numbers, or of a tensor from one device to another
    shapes      of each operation: its name, and the shapes that it was given
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.reads = self.copies = 0
        self.shapes: list[tuple[Any, ...]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.operations += 1
        self.shapes.append((str(func), *(a.shape for a in args if isinstance(a, Tensor))))
        result = func(*args, **(kwargs or {}))
        self.reads += func in _READS or _picks(func, args)
        self.copies += func is _MADE
        if isinstance(result, Tensor) and func is not _MADE:
            device = result.device
            if any(isinstance(a, Tensor) and a.device != device for a in args):
                self.reads += device.type == "cpu"
                self.copies += device.type != "cpu"
        return result


def _picks(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether places are picked by a mask: how many they are, the host has to know."""
    if func not in (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default):
        return False
    return any(isinstance(a, Tensor) and a.dtype in (torch.bool, torch.uint8) for a in args[1])
