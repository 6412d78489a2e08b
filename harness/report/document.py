"""A verdict as JSON in a published form (docs/verdict.schema.json)."""

from __future__ import annotations

import json
from typing import Any, get_args

from harness.core.types import VerdictOutcome
from harness.gate.policy import Role
from harness.gate.verdict import SCHEMA_VERSION, Arm, Verdict
from harness.report.reading_order import folds, in_order

Schema = dict[str, Any]


def to_json(verdict: Verdict, *, indent: int | None = 2) -> str:
    """JSON text in the published form, each row with its place in the order of reading.

    Raises ValueError for NaN or Infinity, which JSON doesn't have.
    """
    out = verdict.to_dict()
    places = {id(row): place for place, row in enumerate(in_order(verdict), 1)}
    for row, plain in zip(verdict.rows, out["rows"], strict=True):
        plain["order"] = places[id(row)]
        plain["folded"] = folds(row, verdict)
    return json.dumps(out, ensure_ascii=False, indent=indent, allow_nan=False)


def from_json(text: str) -> Verdict:
    """The inverse of `to_json`."""
    return Verdict.from_dict(json.loads(text))


def schema() -> Schema:
    """JSON Schema (2020-12) of what `to_json` writes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ratchet verdict",
        "description": "What the gate says of a candidate compared with an anchor, and why.",
        "type": "object",
        "required": ["schema", "outcome", "exit_code", "headline", "rows", "look", "alpha"],
        "properties": {
            "schema": {"const": SCHEMA_VERSION},
            "outcome": _outcome(),
            "exit_code": _number("0 pass, 1 fail, 2 inconclusive, 3 incomparable", "integer"),
            "headline": _text("the verdict in one plain sentence"),
            "reasons": {"type": "array", "items": {"type": "string"}},
            "settle": _text("what would settle an inconclusive verdict; else empty"),
            "rule": {"enum": ["paired", "point"]},
            "fail_rule": {"enum": ["drop", "strict"]},
            "alpha": _number("error rate that this look could spend"),
            "policy_alpha": _number("error rate of the whole decision"),
            "look": {
                "description": "[j, J]: the place in the planned schedule",
                "type": "array",
                "items": {"type": "integer", "minimum": 1},
                "minItems": 2,
                "maxItems": 2,
            },
            "tests": _number("gated checks that Holm's correction counts", "integer"),
            "notes": {"type": "object", "additionalProperties": {"type": "string"}},
            "rows": {"type": "array", "items": _row()},
        },
    }


def _row() -> Schema:
    return {
        "type": "object",
        "required": ["name", "metric", "role", "required", "outcome", "arm", "n"],
        "properties": {
            "name": _text("metric, [slice], and the requirement where it is one"),
            "metric": _text("task/metric"),
            "slice": _maybe(_text("value of the field that `by` names")),
            "role": {"enum": list(get_args(Role))},
            "required": {"type": "boolean"},
            "outcome": _outcome(),
            "arm": {"enum": list(get_args(Arm)), "description": "what decided this row"},
            "direction": {"enum": ["higher", "lower"]},
            "scale": {"enum": ["ratio", "interval"]},
            "form": {"type": "string"},
            "anchor": _maybe(_number("value in the metric's unit")),
            "candidate": _maybe(_number("value in the metric's unit")),
            "change": _maybe(_number("candidate − anchor")),
            "interval": _maybe(_pair("of the change, two-sided at `level`")),
            "relative": _maybe(_number("change as a share of the anchor")),
            "relative_interval": _maybe(_pair("of the relative change")),
            "level": _number("confidence of the intervals"),
            "margin": _maybe(_number("δ, a share of the anchor")),
            "pass_margin": _maybe(_number("the margin for PASS (`margin: auto`)")),
            "floor": _maybe(_number("ε, in the metric's unit")),
            "allowed": _maybe(_number("the worst change allowed, in the metric's unit")),
            "allowed_relative": _maybe(_number("the same as a share of the anchor")),
            "mean_z": _maybe(_number("> 0: worse than allowed")),
            "se": _maybe(_number("standard error of mean_z")),
            "t": _maybe(_number("mean_z / se")),
            "df": _maybe(_number("clusters − 1")),
            "p_worse": _maybe(_number("one-sided p of: worse than the margin allows")),
            "p_drop": _maybe(_number("one-sided p of: any drop at all")),
            "p_within": _maybe(_number("one-sided p of: within the margin")),
            "p_adjusted": _maybe(_number("after Holm over all gated checks")),
            "guarded": {"type": "boolean", "description": "a worst-case sample was added for PASS"},
            "n": _number("samples, or responses for a requirement", "integer"),
            "clusters": _number("independent units", "integer"),
            "needed": _maybe(_number("samples or responses that PASS would take", "integer")),
            "requirement": _maybe({"enum": ["at least", "at most", "rate at most"]}),
            "limit": _maybe(_number("bound of the requirement")),
            "false_alarm": _maybe(_number("how often the bare rule fails an unchanged model")),
            "reason": {"type": "string"},
            "moved": {"type": "array", "maxItems": 10, "items": _moved()},
            "order": _number("place among the rows as people read them, from 1", "integer"),
            "folded": {
                "type": "boolean",
                "description": "advisory: the terminal folds these rows into one line",
            },
        },
    }


def _moved() -> Schema:
    return {
        "type": "object",
        "required": ["id", "z", "anchor", "candidate"],
        "properties": {
            "id": {"type": "string"},
            "z": {"type": "number"},
            "anchor": {"type": "number"},
            "candidate": {"type": "number"},
        },
    }


def _outcome() -> Schema:
    return {"enum": [outcome.value for outcome in VerdictOutcome]}


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _number(description: str, kind: str = "number") -> Schema:
    return {"type": kind, "description": description}


def _pair(description: str) -> Schema:
    return {
        "type": "array",
        "description": description,
        "items": {"type": "number"},
        "minItems": 2,
        "maxItems": 2,
    }


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}
