"""What is read from a file: a model that takes no key it doesn't know, and says what is wrong."""

from __future__ import annotations

import difflib
import typing
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from harness.core.errors import UserError

_Place = tuple[str | int, ...]
_NAME = "[A-Za-z0-9][A-Za-z0-9._-]"
"""The beginning of the pattern of every key whose value becomes a file's name."""


class StrictModel(BaseModel):
    """A frozen mapping that takes no unknown key.

    A wrong value raises pydantic's ValidationError, which is a ValueError; what reads a file
    (`yaml_file.validate`) turns it into a UserError with the line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        # YAML reads `yes` and `on` as true, which pydantic counts as 1.
        field = cls.model_fields.get(info.field_name or "")
        if field is not None and _holds_truth(value):
            kinds = _kinds_in(field.annotation)
            if bool not in kinds and kinds & {int, float}:
                raise ValueError("a number is expected here, and YAML reads this as true or false")
        return value

    def changed(self, **values: Any) -> Self:
        """A copy with other values. Raises UserError where one of them is not allowed."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            return type(self)(**{**kept, **values})
        except ValidationError as error:
            what, place, hint = fault(error, type(self))
            raise UserError(what, field=".".join(map(str, place)), hint=hint) from None


class FiniteModel(StrictModel):
    """A StrictModel that refuses infinities and NaN."""

    model_config = ConfigDict(allow_inf_nan=False)


def fault(error: ValidationError, model: type[BaseModel]) -> tuple[str, _Place, str | None]:
    """The most telling of pydantic's complaints: what is wrong in words, the keys that lead there,
    and a hint or None. What it says ends with how many more there are.
    """
    # A misspelt key is also a missing one: the misspelling says more.
    details = sorted(
        _own_faults(error.errors(include_url=False)),
        key=lambda detail: detail["type"] != "extra_forbidden",
    )
    first = details[0]
    place: _Place = tuple(first["loc"])
    what, hint = _in_words(first, place, model)
    more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
    return what + more, place, hint


def _own_faults(details: list[Any]) -> list[Any]:
    """All but those of lists that pydantic calls too short because their items are wrong."""
    places = [detail["loc"] for detail in details]
    return [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(place[: len(detail["loc"])] == detail["loc"] != place for place in places)
    ]


def _in_words(detail: Any, raw: _Place, model: type[BaseModel]) -> tuple[str, str | None]:
    kind, key, given = detail["type"], str(raw[-1]) if raw else "", detail.get("input")
    if kind == "extra_forbidden":
        known = _known_keys(model, raw[:-1])
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key {key!r}", hint
    if kind == "missing":
        return f"the key {key!r} is missing", f"add `{key}: ...`"
    if kind == "too_short":
        return "this list is empty", "give it at least one item"
    if kind in ("tuple_type", "list_type"):
        if isinstance(given, str):
            items = ", ".join(filter(None, (item.strip() for item in given.split(","))))
            return f"a list is expected here (given: {given!r})", f"write `[{items}]`"
        return "a list is expected here", "begin each item with `- `"
    if kind in ("model_type", "dict_type"):
        return f"keys and values are expected here (given: {given!r})", "write `{key: value}`"
    if kind == "string_pattern_mismatch" and _NAME in detail["ctx"]["pattern"]:
        hint = "use letters, digits, `.`, `_` and `-`, a letter or a digit first"
        return f"{given!r} can't be a name", hint
    if kind == "string_type" and given is not None and not isinstance(given, dict | list):
        return f"a text is expected here (given: {given!r})", f'put quotes around it: "{given}"'
    message = str(detail["msg"]).removeprefix("Value error, ")
    shown = "" if isinstance(given, dict | list) else f" (given: {given!r})"
    return f"{message[:1].lower()}{message[1:]}{shown}", None


def _holds_truth(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_truth, value))
    if isinstance(value, dict):
        return any(map(_holds_truth, value.values()))
    return isinstance(value, bool)


def _kinds_in(annotation: Any) -> set[Any]:
    """The types that an annotation is made of, those inside other models left out."""
    inner = typing.get_args(annotation)
    return {annotation} if not inner else {kind for each in inner for kind in _kinds_in(each)}


def _known_keys(model: type[BaseModel], place: _Place) -> list[str]:
    """The keys that the model at `place` takes, following nested models by their annotations."""
    current: Any = model
    for part in place:
        fields = getattr(current, "model_fields", {})
        annotation = fields[part].annotation if part in fields else current
        current = next(iter(_models_in(annotation, part)), current)
    fields = getattr(current, "model_fields", {})
    aliases = {name: field.validation_alias for name, field in fields.items()}
    return [alias if isinstance(alias, str) else name for name, alias in aliases.items()]


def _models_in(annotation: Any, part: str | int) -> list[type[BaseModel]]:
    """The models in an annotation, the one named `part` first: pydantic puts the name of a union's
    member into the place.
    """
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    found = [model for arg in getattr(annotation, "__args__", ()) for model in _models_in(arg, "")]
    return sorted(found, key=lambda model: model.__name__.lower() != str(part).lower())
