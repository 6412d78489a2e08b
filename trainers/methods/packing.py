"""A batch's rows end to end, without padding between them, and blind to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.core.errors import UserError
from trainers.methods.base import Job
from trainers.methods.own_logits import trying

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
Row = Mapping[str, Sequence[int]]


class Packed:
    """Collates rows of `input_ids` and `labels` into sequences of at most `most` tokens; a row that
    is longer stands alone. With `one`, all stand in one sequence, as flash attention wants them.

    Which rows share a batch is the plan's to say; where each stands follows from their lengths, so
    that a rollback lays them as before. `position_ids` begin at 0 with every row: by them
    transformers tells documents apart.
    """

    def __init__(self, most: int, pad: int, *, one: bool = False) -> None:
        self._most, self._pad, self._one = most, pad, one

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        import torch

        places = [list(rows)] if self._one else self._laid(rows)
        width = max(sum(len(row["input_ids"]) for row in place) for place in places)
        made: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for place in places:
            ids = [token for row in place for token in row["input_ids"]]
            # The first token of a row follows from nothing.
            labels = [t for row in place for t in (IGNORED, *row["labels"][1:])]
            positions = [n for row in place for n in range(len(row["input_ids"]))]
            missing = width - len(ids)
            made["input_ids"].append(ids + [self._pad] * missing)
            made["labels"].append(labels + [IGNORED] * missing)
            # Each by itself: what fills up is no part of the last document.
            made["position_ids"].append(positions + [0] * missing)
        return {name: torch.tensor(values) for name, values in made.items()}

    def _laid(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Each row in the first sequence that has room for it, the longest rows first."""
        places: list[list[Row]] = []
        room: list[int] = []
        for row in sorted(rows, key=lambda row: -len(row["input_ids"])):
            length = len(row["input_ids"])
            place = next((n for n, left in enumerate(room) if left >= length), len(places))
            if place == len(places):
                places.append([])
                room.append(self._most)
            places[place].append(row)
            room[place] -= length
        return places


def packed(job: Job) -> Packed:
    """The collator of a job that packs. Raises UserError where documents would see each other:
    models that carry a state along know nothing of where a document begins.
    """
    attention = job.stage.model.trainer_options.attention or ""
    pad = job.tokenizer.pad_token_id
    collate = Packed(
        job.stage.data.max_length, 0 if pad is None else pad, one=attention.startswith("flash")
    )
    if not _keeps_apart(job.model, collate):
        raise UserError(
            f"documents that are packed into one sequence see each other in "
            f"{type(job.model).__name__} of {job.recipe.model.base}",
            file=job.recipe.path,
            field="trainer_options.packing",
            hint="leave `packing` out: rows are then padded, each by itself",
        )
    return collate


def _keeps_apart(model: Any, collate: Packed) -> bool:
    """Whether a document's logits are the same beside another as alone."""
    import torch

    rows = [{"input_ids": ids, "labels": ids} for ids in (list(range(3, 12)), list(range(20, 24)))]
    device = next(model.parameters()).device
    with trying(model) as same:
        made = {name: tensor.to(device) for name, tensor in collate(rows).items()}
        del made["labels"]
        try:
            together = model(**made, use_cache=False).logits.float().log_softmax(-1)
        except (TypeError, ValueError, RuntimeError):
            return False
        ids = [torch.tensor([row["input_ids"]], device=device) for row in rows]
        alone = [model(each, use_cache=False).logits.float().log_softmax(-1) for each in ids]
        # Both stand in one sequence, the longer one first.
        return same(together, torch.cat(alone, dim=1))
