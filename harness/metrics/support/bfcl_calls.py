"""Whether a call is right by BFCL's own rules, as bfcl-eval's `ast_checker` decides:
the types of a function's schema, and the values that each argument may have. Its quirks are kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.metrics.support.bfcl_values import of_java, of_javascript
from harness.metrics.support.tool_calls import Call

_PYTHON: Mapping[str, type] = {
    **{"string": str, "integer": int, "float": float, "boolean": bool, "any": str},
    **{"array": list, "tuple": list, "dict": dict},
}
_JAVA: Mapping[str, type] = {
    **dict.fromkeys(("byte", "short", "integer", "long"), int),
    **dict.fromkeys(("float", "double"), float),
    **dict.fromkeys(("char", "String", "any"), str),
    **dict.fromkeys(("Array", "ArrayList", "Queue", "Stack"), list),
    **{"boolean": bool, "Set": set, "HashMap": dict, "Hashtable": dict},
}
_JAVASCRIPT: Mapping[str, type] = {
    **{"String": str, "any": str, "integer": int, "float": float, "Bigint": int},
    **{"Boolean": bool, "dict": dict, "array": list},
}
_TYPES = {"python": _PYTHON, "java": _JAVA, "javascript": _JAVASCRIPT}
_NESTED = {"python": ("array", "tuple")}
_NESTED_IN_SOURCE = ("Array", "ArrayList", "array")
LANGUAGES = tuple(_TYPES)


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A right call: the values that each argument may have (`""` among them: it may be left out),
    and its function's parameters (`properties`, `required`) with BFCL's names of types. In `java`
    and `javascript` an argument is the text of a literal.
    """

    name: str
    allowed: Mapping[str, Sequence[Any]]
    parameters: Mapping[str, Any]
    language: str = "python"

    def fits(self, call: Call) -> bool:
        """Whether BFCL takes a call for this one."""
        if call.name != self.name or call.arguments is None:
            return False
        given = call.arguments
        try:
            return (
                all(name in given for name in self.parameters.get("required") or ())
                and all(self._is_right(name, value) for name, value in given.items())
                and all(name in given or "" in values for name, values in self.allowed.items())
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            return False  # values on which BFCL's checker itself breaks off

    def _is_right(self, name: str, value: Any) -> bool:
        properties = self.parameters["properties"]
        if name not in properties or name not in self.allowed:
            return False
        kind, allowed = properties[name]["type"], self.allowed[name]
        wanted, types = _TYPES[self.language][kind], _TYPES[self.language]
        nested = kind in _NESTED.get(self.language, _NESTED_IN_SOURCE)
        inner: str | None = properties[name]["items"]["type"] if nested else None
        if self.language != "python":
            if not isinstance(value, str):
                return False
            value = (of_java if self.language == "java" else of_javascript)(value, kind, inner)
        elif kind == "tuple" and isinstance(value, tuple):
            value = list(value)
        elif kind == "float" and type(value) is int:
            value = float(value)
        of = None if inner is None else types[inner]
        fits, variable = _has_type(value, allowed, wanted, of)
        if not fits or variable:
            return fits and value in allowed
        return _is_among(value, allowed, wanted, of)


def matched(calls: Sequence[Call], wanted: Sequence[CheckedCall]) -> bool:
    """Whether the calls are the right ones in any order: each right one takes the first call left
    that fits it, as BFCL does, so that one which leaves none for the next is wrong.
    """
    left = list(calls)
    for one in wanted:
        place = next((index for index, call in enumerate(left) if one.fits(call)), None)
        if place is None:
            return False
        del left[place]
    return not left


def _has_type(
    value: Any, allowed: Sequence[Any], wanted: type[Any], inner: type[Any] | None
) -> tuple[bool, bool]:
    """(whether a value is of its type, whether it is a variable's name in place of one)."""
    first = next((type(one) for one in allowed if one != ""), None)
    if type(value) is wanted:
        if inner is not None and not any(_inner_fits(value, one, inner) for one in allowed):
            return False, False
        return True, first is not None and first is not wanted
    return (True, True) if first is not None and type(value) is first else (False, False)


def _inner_fits(value: Any, allowed: Any, inner: type[Any]) -> bool:
    return not isinstance(allowed, list) or all(
        _has_type(part, allowed, inner, None)[0] for part in value
    )


def _is_among(
    value: Any, allowed: Sequence[Any], wanted: type[Any], inner: type[Any] | None
) -> bool:
    if wanted is dict:
        return any(_same_object(value, one) for one in allowed if one != "")
    if wanted is list and inner is dict:
        return any(len(value) == len(one) and all(map(_same_object, value, one)) for one in allowed)
    if wanted is str:
        return _plain(value) in [_plain(one) for one in allowed if isinstance(one, str)]
    if wanted is list:
        return [_plain(part) for part in value] in [
            [_plain(part) for part in one] for one in allowed
        ]
    return value in allowed


def _same_object(value: Mapping[str, Any], allowed: Mapping[str, Sequence[Any]]) -> bool:
    return all(
        key in allowed and _plain(part) in [_plain(one) for one in allowed[key]]
        for key, part in value.items()
    ) and all(key in value or "" in values for key, values in allowed.items())


def _plain(value: Any) -> Any:
    """A text without case, spaces and some signs; anything else as it is."""
    if not isinstance(value, str):
        return value
    return re.sub(r"[ ,./\-_*^]", "", value).lower().replace("'", '"')
