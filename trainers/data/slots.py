"""The step that adds rows made of templates with slots."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.strict_model import FiniteModel
from harness.data import templates
from trainers.data.rows import Done, Placed
from trainers.data.step import Context, Step

_IN_VAIN = 100
"""Draws in a row that say nothing new, after which a template is used up."""


class SlotTemplate(FiniteModel):
    """What is asked and what is answered; without an answer the row is a text."""

    asked: str = Field(min_length=1)
    answer: str | None = None


class Slots(Step):
    """Adds up to `count` rows of each of the `templates`, in which `{{ city }}` is one of the slot
    `city`; no two of a template say the same. Their parent is the template, so that its rows stay
    on one side of the split.
    """

    VERSION: ClassVar[int] = 1
    templates: tuple[SlotTemplate, ...] = Field(min_length=1)
    slots: Mapping[str, tuple[str, ...]] = Field(min_length=1)
    count: int = Field(default=100, ge=1, le=1_000_000)

    @field_validator("slots")
    @classmethod
    def _something_in_each(
        cls, slots: Mapping[str, tuple[str, ...]]
    ) -> Mapping[str, tuple[str, ...]]:
        for slot, values in slots.items():
            if not values:
                raise ValueError(f"the slot {slot!r} is empty")
        return slots

    def reads(self, context: Context) -> Any:
        first = {slot: values[0] for slot, values in self.slots.items()}
        for template in self.templates:
            try:
                filled(template, first)
            except templates.TemplateError as error:
                raise UserError(
                    f"the template {template.asked!r} can't be filled: {error}",
                    field="slots.templates",
                    hint=f"its slots are {', '.join(self.slots)}",
                ) from None
        return None

    def run(self, name: str, rows: Sequence[Placed], context: Context) -> Done:
        made: list[Placed] = []
        for number, template in enumerate(self.templates, start=1):
            made += self._of(template, name, number, context.seed)
            context.progress(number, len(self.templates))
        return [*rows, *made], []

    def _of(self, template: SlotTemplate, name: str, number: int, seed: int) -> list[Placed]:
        parent = f"{name}-{digest_of(template.model_dump())[:12]}"
        chance = random.Random(f"{seed}|{parent}")
        found: dict[str, Placed] = {}
        in_vain = 0
        while len(found) < self.count and in_vain < _IN_VAIN:
            row = filled(template, {slot: chance.choice(v) for slot, v in self.slots.items()})
            row_id = f"{name}-{digest_of(row)[:12]}"
            in_vain = in_vain + 1 if row_id in found else 0
            found.setdefault(row_id, Placed(name, number, row_id, row, parent))
        return list(found.values())


def filled(template: SlotTemplate, values: Mapping[str, str]) -> dict[str, Any]:
    """The row of a template with these values in its slots. Raises TemplateError."""
    asked = templates.render(template.asked, values)
    if template.answer is None:
        return {"text": asked}
    answer = templates.render(template.answer, values)
    return {"messages": [{"role": "user", "content": asked}], "completion": answer}
