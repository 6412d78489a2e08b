"""A step on tensors that stay where they are, as a CUDA graph where a trial shows it sound."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.backends.transformers.counting import Counting

_ALIKE = 0.99
"""The share of what a step changes in which its graph must agree with it: rounding alone may choose
another token where two are as likely."""


def may_capture(device: torch.device) -> bool:
    """Whether a graph may be tried: on the card that is in use, and not where processes wait for
    each other within a step.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return False
    return device.type == "cuda" and device.index in (None, torch.cuda.current_device())


class Captured:
    """One graph for each shape of a step that changes nothing but the tensors `held`, and what can
    be written twice.

    A step that reads from the device, or is given numbers by the host, can't be a graph, nor one
    whose graph does not do as it does: then `run` does nothing from there on.
    """

    def __init__(self, held: Sequence[Tensor]) -> None:
        self._held = held
        self._graphs: dict[Hashable, Any] = {}
        self._met: set[Hashable] = set()
        self._pool: Any = None
        self.sound = True

    def run(self, shape: Hashable, step: Callable[[], None], times: int) -> bool:
        """So many steps of that shape, as a graph. False where there is none: nothing is done."""
        if not self.sound:
            return False
        if shape not in self._met:
            # What comes once is sooner done than captured.
            self._met.add(shape)
            return False
        if shape not in self._graphs:
            before = [tensor.clone() for tensor in self._held]
            try:
                graph = self._capture(step, before)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever can't be captured is run as it is
                logging.getLogger("ratchet").debug("a step can't be a graph: %s", error)
                torch.cuda.synchronize()
                graph = None
            self._put_back(before)
            if graph is None:
                self.sound = False
                self._graphs.clear()
                return False
            self._graphs[shape] = graph
        for _ in range(times):
            self._graphs[shape].replay()
        return True

    def _capture(self, step: Callable[[], None], before: Sequence[Tensor]) -> Any:
        """The graph of a step; None where it isn't sound."""
        with Counting() as counted:
            step()
        if counted.reads or counted.copies:
            return None
        wanted = [tensor.clone() for tensor in self._held]
        self._put_back(before)
        # Once on a stream of its own, as the libraries choose their kernels and workspaces.
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            step()
        torch.cuda.current_stream().wait_stream(side)
        self._put_back(before)
        if self._pool is None:
            # One pool for all of them: they never run at the same time.
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            step()
        graph.replay()
        each = zip(before, wanted, self._held, strict=True)
        return graph if all(_alike(*three) for three in each) else None

    def _put_back(self, before: Sequence[Tensor]) -> None:
        for tensor, earlier in zip(self._held, before, strict=True):
            tensor.copy_(earlier)


def _alike(before: Tensor, wanted: Tensor, found: Tensor) -> bool:
    """Whether two changes of the same tensor are as good as one."""
    changed = (wanted != before) | (found != before)
    return not changed.any() or float((wanted == found)[changed].float().mean()) >= _ALIKE
