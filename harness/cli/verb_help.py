"""The line of help of each verb, read from its source: to list the verbs imports none of them."""

from __future__ import annotations

import ast
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint
from importlib.util import find_spec


def help_of(point: EntryPoint) -> str:
    """The docstring of the verb's function, or the `help` of its `typer.Typer(...)`.

    Empty where the module's source has neither under the entry point's name, or can't be read: a
    verb whose package is broken is still listed, and says what is wrong when it is called.
    """
    for node in _statements(point.module):
        if isinstance(node, ast.FunctionDef) and node.name == point.attr:
            return ast.get_docstring(node) or ""
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            helps = [word.value for word in node.value.keywords if word.arg == "help"]
            if point.attr in names and helps and isinstance(helps[0], ast.Constant):
                return str(helps[0].value)
    return ""


@cache
def _statements(module: str) -> list[ast.stmt]:
    """The top-level statements of a module's source; none where it can't be found or parsed."""
    try:
        spec = _find(module)
        get_source = getattr(spec.loader, "get_source", None) if spec is not None else None
        source = get_source(module) if get_source is not None else None
        return ast.parse(source or "").body
    except (ImportError, OSError, SyntaxError, ValueError):
        return []


def _find(module: str) -> ModuleSpec | None:
    """As `importlib.util.find_spec`, which would import the packages above the module."""
    top, *inner = module.split(".")
    spec, name = find_spec(top), top
    for part in inner:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations)
    return spec
