"""The base of every model of a YAML file: a key that it doesn't know is an error."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A frozen mapping that takes no key it doesn't know, and no number that isn't finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
