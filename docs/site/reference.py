"""The reference, made of what the code says of itself: verbs, YAML schemas, metrics, docstrings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from aligned import as_markdown

Schema = dict[str, Any]

FACE = (
    "harness.api.gate",
    "harness.api.score",
    "harness.api.ScoredRun",
    "harness.api.open_model",
    "harness.suite.load.load_suite",
    "harness.store.store.Store",
    "harness.gate.verdict.Verdict",
    "harness.core.errors.UserError",
)
"""What `from harness import …` gives, and what `score` returns; harness.__all__ names them."""
GATE = (
    "harness.gate.decision.decide",
    "harness.gate.decision.requirements_only",
    "harness.gate.metric_scores.MetricScores",
    "harness.gate.policy.GatePolicy",
    "harness.gate.policy.MetricPolicy",
    "harness.gate.verdict.Verdict",
    "harness.gate.verdict.MetricVerdict",
    "harness.gate.verdict.Measured",
    "harness.gate.verdict.Allowed",
    "harness.gate.verdict.Decided",
    "harness.gate.improvement.improved",
    "harness.gate.improvement.Improvement",
    "harness.statistics.alpha_spending.per_checkpoint_alpha",
    "trainers.loop.remedies.rollback_target",
)
STATISTICS = (
    *(
        "margins",
        "decision_rule",
        "student_t",
        "rare_events",
        "multiplicity",
        "alpha_spending",
        "tail_bounds",
        "binomial",
    ),
    *(
        "jackknife",
        "quantile",
        "intervals",
        "power",
        "calibration",
        "pair_selection",
        "agreement",
        "simulate",
    ),
)


def pages() -> Iterator[tuple[str, str]]:
    """(path in the site, Markdown) of every generated page; the schemas themselves as JSON."""
    from harness.backends.openai.open import ServedModel
    from harness.suite.schema import SuiteModel
    from trainers.config.schema import RecipeModel

    yield "reference/commands.md", _commands()
    for name, title, model, told in (
        ("suite", "Suites", SuiteModel, "[The gate](../gate.md) tells what its keys mean"),
        ("recipe", "Recipes", RecipeModel, "[Gated training](../training.md) tells what happens"),
        ("served", "Served models", ServedModel, "[Backends](../backends.md) tells more"),
    ):
        schema = model.model_json_schema()
        yield f"reference/{name}.schema.json", json.dumps(schema, indent=1) + "\n"
        yield f"reference/{name}.md", _schema_page(title, name, schema, told)
    yield "reference/metrics.md", _metrics()
    yield "reference/python.md", _face()
    yield (
        "reference/gate.md",
        _docstrings("The gate in Python", "pure functions over two runs' scores", GATE),
    )
    modules = [f"harness.statistics.{name}" for name in STATISTICS]
    about = "pure functions over arrays"
    yield "reference/statistics.md", _docstrings("Statistics in Python", about, modules)
    about = "each stands alone, without a suite or a store"
    functions = _metric_modules()
    yield "reference/metric-functions.md", _docstrings("Metrics in Python", about, functions)


def _docstrings(title: str, about: str, names: list[str] | tuple[str, ...]) -> str:
    lines = [f"# {title}", f"From the docstrings: {about}."]
    for name in names:
        if names is not GATE:
            lines.append(f"## {name.rpartition('.')[2].replace('_', ' ')}")
        lines.append(f"::: {name}")
    return "\n\n".join(lines) + "\n"


def _face() -> str:
    """One heading a name of the face, under which it is imported, and its own words."""
    lines = [
        "# From Python",
        "What `from harness import …` gives. Each name is loaded when it is first asked for.",
    ]
    for name in FACE:
        lines += [f"## {name.rpartition('.')[2]}", f"::: {name}"]
    return "\n\n".join(lines) + "\n"


# Verbs.


def _commands() -> str:
    """Every verb with its arguments and options, as `ratchet VERB --help` has them."""
    import typer

    from harness.cli.app import app

    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="ratchet")
    lines = ["# Commands", root.help.strip()]
    for name in root.list_commands(context):
        lines += _command(f"ratchet {name}", root.get_command(context, name), 2)
    return "\n\n".join(lines) + "\n"


def _command(path: str, command: Any, level: int) -> Iterator[str]:
    import typer

    yield f"{'#' * level} {path}"
    yield (command.help or "").strip()
    rows = [row for one in command.params if (row := _parameter(one)) is not None]
    if rows:
        yield "\n".join(["| option | what | default |", "| --- | --- | --- |", *rows])
    if hasattr(command, "list_commands"):
        context = typer.Context(command, info_name=path)
        for name in command.list_commands(context):
            yield from _command(f"{path} {name}", command.get_command(context, name), level + 1)


def _parameter(one: Any) -> str | None:
    if one.name == "help" or getattr(one, "hidden", False):
        return None
    if one.param_type_name == "argument":
        names = f"`{one.name.strip('_').upper()}`"
    else:
        names = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
    shown = one.default is not None and one.default is not False and not callable(one.default)
    default = f"`{one.default}`" if shown and str(one.default) not in ("", "()", "[]") else ""
    needed = "needed" if one.required else default
    return f"| {names} | {_cell(getattr(one, 'help', None) or '')} | {needed} |"


# Schemas.


def _schema_page(title: str, name: str, schema: Schema, told: str) -> str:
    lines = [
        f"# {title}",
        f"Every key that the YAML file may have, from the model that reads it. {told}. "
        f"As JSON Schema, for an editor: [{name}.schema.json]({name}.schema.json).",
        "## The file",
        _keys(schema),
    ]
    for key, part in schema.get("$defs", {}).items():
        if "enum" in part:
            continue
        lines.append(f"## {_spoken(key)} {{#{key.lower()}}}")
        lines.append(as_markdown(part.get("description", "")))
        lines.append(_keys(part))
    return "\n\n".join(line for line in lines if line) + "\n"


def _keys(part: Schema) -> str:
    rows = ["| key | takes | default |", "| --- | --- | --- |"]
    needed = set(part.get("required", ()))
    for key, value in part.get("properties", {}).items():
        default = "needed" if key in needed else _default(value)
        rows.append(f"| `{key}` | {_type(value)}{_told(value)} | {default} |")
    return "\n".join(rows)


def _told(value: Schema) -> str:
    return f"<br>{_cell(value['description'])}" if "description" in value else ""


def _default(value: Schema) -> str:
    default = value.get("default")
    return "" if default is None or default in ([], {}) else f"`{json.dumps(default)}`"


def _type(value: Schema) -> str:
    """A key's type in words, with its bounds: `number, > 0, ≤ 1`."""
    if "$ref" in value:
        key = value["$ref"].rpartition("/")[2]
        return f"[{_spoken(key).lower()}](#{key.lower()})"
    if "anyOf" in value or "oneOf" in value:
        parts = [p for p in value.get("anyOf", value.get("oneOf")) if p.get("type") != "null"]
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    if "enum" in value or "const" in value:
        return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
    kind = value.get("type", "anything")
    if kind == "array":
        inner = value.get("items") or (value.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner)}{_bounds(value)}"
    if kind == "object":
        inner = value.get("additionalProperties")
        return f"name → {_type(inner)}" if isinstance(inner, dict) else "mapping"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return f"{words.get(kind, kind)}{_bounds(value)}"


def _bounds(value: Schema) -> str:
    signs = {
        "exclusiveMinimum": ">",
        "minimum": "≥",
        "exclusiveMaximum": "<",
        "maximum": "≤",
        "minItems": "at least",
        "pattern": "like",
    }
    said = [
        f"{sign} `{value[key]}`" if key == "pattern" else f"{sign} {value[key]}"
        for key, sign in signs.items()
        if key in value
    ]
    return "".join(f", {one}" for one in said).replace("|", "\\|")


def _spoken(key: str) -> str:
    """`PromptModel` to "Prompt", `MetricPolicy` to "Metric policy"."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in key.removesuffix("Model"))
    return words.strip().capitalize()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# Metrics.


def _metrics() -> str:
    """A row for each metric that ships, from its own declaration, and what it can be told."""
    from harness.metrics import known_metrics

    lines = ["# Metrics", "What each metric says of itself. [How to write one](../metrics.md)."]
    for name in known_metrics():
        if ":" not in name:  # a family, whose members are elsewhere
            lines += [f"## {name}", *_metric(name)]
    return "\n\n".join(line for line in lines if line) + "\n"


def _metric(name: str) -> Iterator[str]:
    from harness.core.errors import UserError
    from harness.metrics import _find, get_metric

    made: Any = _find(name)
    kind = getattr(made, "func", made)
    yield as_markdown(_own_docstring(kind))
    with contextlib.suppress(UserError, TypeError):  # it needs an option first
        yield _declared(get_metric(name).spec)
    if is_dataclass(kind) and any(one.init for one in fields(kind)):
        rows = ["| option | type | default |", "| --- | --- | --- |"]
        rows += [
            f"| `{one.name}` | `{str(one.type).replace(' | ', ' or ')}` | {_of(one)} |"
            for one in fields(kind)
            if one.init and not one.name.startswith("_")
        ]
        yield "\n".join(rows)


def _own_docstring(kind: Any) -> str:
    """The class's own words; a dataclass without any would answer with its signature."""
    import inspect

    said = kind.__dict__.get("__doc__") or ""
    return "" if said.startswith(f"{kind.__name__}(") else inspect.cleandoc(said)


def _declared(spec: Any) -> str:
    low, high = (
        ("−∞" if spec.low is None else f"{spec.low:g}"),
        ("∞" if spec.high is None else f"{spec.high:g}"),
    )
    better = "higher" if spec.direction == "higher" else "lower"
    parts = [
        f"{spec.unit}, {low} to {high}",
        f"{better} is better",
        f"scale {spec.scale}",
        f"form {spec.form}",
        f"one value per {spec.per}",
        f"needs {spec.needs}",
    ]
    return f"*{'; '.join(parts)}*"


def _of(one: Any) -> str:
    if one.default is not MISSING:
        return f"`{one.default!r}`" if one.default not in ((), None, "") else ""
    return "" if one.default_factory is not MISSING else "needed"


def _metric_modules() -> list[str]:
    from harness.metrics import METRICS

    return sorted(
        {target.partition(":")[0] for target in METRICS.built_in.values()}
        | {
            "harness.statistics.elo",
            "harness.metrics.base",
        }
    )
