"""Which modules of a base the recipe's adapter goes on, and which it can't."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.models.architecture import other_parts
from trainers.config.recipe import Recipe
from trainers.config.schema import ALL_LINEAR, AdapterModel, is_pattern

_LOOKS = "dtype|device|shape|ndim|size|data"
"""What code may ask of a weight without running a text through it."""


@dataclass(frozen=True, slots=True)
class Meant:
    """What an adapter goes on, by full names: modules, and weights of all experts at once."""

    modules: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()


def by_name(adapter: AdapterModel, meant: Meant) -> bool:
    """Whether peft finds the same modules by the names in `adapter.targets`."""
    many = any(t == ALL_LINEAR or is_pattern(t) for t in adapter.targets)
    return not many and not meant.parameters


def require_targets(
    model: Any, recipe: Recipe, adapter: AdapterModel, also_trained: Sequence[str] = ()
) -> Meant:
    """What `adapter.targets` means, all in the language model. `also_trained` are modules that the
    trainer trains whole.

    Rule: a target is a linear layer or an embedding that the model runs a text through, and whose
    change can be merged into it, or the weights of all experts in one; `all-linear` means every
    such layer but the output; a module that is trained whole may be any of the language model.
    Raises UserError for any other, which offers only what would be taken.
    """
    modules = dict(model.named_modules())
    parts = other_parts(model)
    matrices = {name for name, module in modules.items() if is_matrix(module)}
    whole = (*adapter.modules_to_save, *also_trained)
    meant: set[str] = set()
    experts: set[str] = set()
    for wanted in adapter.targets:
        if wanted == ALL_LINEAR:
            meant |= _every_linear(model, matrices, parts, whole)
            continue
        found, own = _meant_by(wanted, modules), _meant_by(wanted, _of_experts(model))
        if is_pattern(wanted):
            found = [n for n in found if n in matrices and not _is_within_any(n, whole)]
        elif found:
            _require_no_experts(recipe, wanted, found, own)
        if own:
            _require_plain_for_experts(recipe, adapter, own[0])
            experts.update(own)
        if found or not own:
            inside = _inside(model, recipe, "targets", wanted, found, matrices, parts)
            _require_run_through(model, recipe, wanted, inside)
            meant.update(inside)
    for wanted in adapter.modules_to_save:
        found = [name for name in modules if name and _is_named(name, wanted)]
        inside = _inside(model, recipe, "modules_to_save", wanted, found, set(modules), parts)
        if len(inside) < len(found):
            raise _in_both(recipe, "adapter.modules_to_save", wanted, inside[0])
    _require_apart(recipe, adapter, meant | experts)
    _require_known_patterns(recipe, adapter, meant | experts)
    return Meant(frozenset(meant), frozenset(experts))


def _inside(
    model: Any,
    recipe: Recipe,
    field: str,
    wanted: str,
    found: Sequence[str],
    allowed: set[str],
    parts: Sequence[str],
) -> list[str]:
    """Those of `found` that are in the language model. Raises UserError where none is, or one is
    nothing that `field` may name.
    """
    inside = [name for name in found if not _is_in(name, parts)]
    if found and not inside:
        raise _in_another_part(recipe, f"adapter.{field}", found[0])
    if not inside or not all(name in allowed for name in inside):
        ends = _closed_ends(model, recipe)
        known = [
            name
            for name, module in model.named_modules()
            if is_matrix(module)
            and not _is_in(name, parts)
            and name not in ends
            and _reader_of(model, name) is None
        ]
        raise _no_such_module(model, recipe, f"adapter.{field}", wanted, inside, known)
    return inside


def _require_apart(recipe: Recipe, adapter: AdapterModel, meant: set[str]) -> None:
    if both := sorted(set(adapter.targets) & set(adapter.modules_to_save)):
        raise UserError(
            f"{both[0]!r} is a target of the adapter and trained whole as well",
            file=recipe.path,
            field="adapter.modules_to_save",
            hint="name it in one of `targets` and `modules_to_save`",
        )
    if meant and all(_is_within_any(name, adapter.modules_to_save) for name in meant):
        raise UserError(
            "every target of the adapter is in a module that is trained whole, so that no adapter "
            "is left",
            file=recipe.path,
            field="adapter.modules_to_save",
            hint="leave that module out of `modules_to_save`, or name targets outside of it",
        )


def _every_linear(
    model: Any, matrices: set[str], parts: Sequence[str], whole: Sequence[str]
) -> set[str]:
    import torch

    output = model.get_output_embeddings()
    return {
        name
        for name in matrices
        if not isinstance(model.get_submodule(name), torch.nn.Embedding)
        and model.get_submodule(name) is not output
        and not _is_in(name, parts)
        and not _is_within_any(name, whole)
        and _reader_of(model, name) is None
    }


def _require_plain_for_experts(recipe: Recipe, adapter: AdapterModel, name: str) -> None:
    odd = [
        word
        for word, is_odd in (
            (f"kind: {adapter.kind}", adapter.kind == "dora"),
            (f"dropout: {adapter.dropout}", adapter.dropout > 0),
            (f"init: {adapter.init}", adapter.init not in ("default", "gaussian")),
            (f"quantize: {recipe.model.quantize}", recipe.model.quantize is not None),
        )
        if is_odd
    ]
    if odd:
        raise UserError(
            f"{name} is the weights of all experts at once, which take no `{odd[0]}`",
            file=recipe.path,
            field="adapter.targets",
            hint=f"leave out `{odd[0]}`, or the experts",
        )


def _require_known_patterns(recipe: Recipe, adapter: AdapterModel, meant: set[str]) -> None:
    """As peft reads them: a pattern is the end of a full name."""
    for field in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(adapter, field):
            if not any(re.match(rf"(.*\.)?({pattern})$", name) for name in meant):
                leaves = sorted({name.rpartition(".")[2] for name in meant})
                raise UserError(
                    f"no target of the adapter is named {pattern!r}",
                    file=recipe.path,
                    field=f"adapter.{field}",
                    hint=f"its targets are named {', '.join(leaves[:12])}",
                )


def left_out(model: Any, adapter: AdapterModel) -> str | None:
    """A pattern, as peft takes it, of the parts that read no text but have modules of a target's
    name; None where there are none.
    """
    names = [name for name, _ in model.named_modules()]
    parts = [
        part
        for part in other_parts(model)
        if any(
            _is_in(name, (part,)) and any(_is_named(name, wanted) for wanted in adapter.targets)
            for name in names
        )
    ]
    return rf"({'|'.join(map(re.escape, parts))})(\..*)?" if parts else None


def require_as_meant(wrapped: Any, recipe: Recipe, adapter: AdapterModel, meant: Meant) -> None:
    """Raises UserError where peft has put the adapter elsewhere than the recipe says: it takes some
    names for those of experts, as these were called in older versions of transformers.
    """
    got = set(wrapped.base_model.targeted_module_names)
    experts = set(wrapped.base_model.targeted_parameter_names)
    whole = {n for n in meant.modules if _is_within_any(n, adapter.modules_to_save)}
    missed = sorted(meant.modules - got - whole) + sorted(meant.parameters - experts)
    elsewhere = sorted(got - meant.modules) + sorted(experts - meant.parameters)
    if not missed and not elsewhere:
        return
    names = {wanted for wanted in adapter.targets if _meant_by(wanted, missed)}
    raise UserError(
        f"peft would put the adapter elsewhere than `targets` says: "
        f"{f'{missed[0]} would get none' if missed else f'{elsewhere[0]} would get one'}",
        file=recipe.path,
        field="adapter.targets",
        hint=f"leave out {', '.join(sorted(names)) or 'what it is not for'}: in a model with "
        "experts peft takes that for their weights",
    )


def require_mergeable(model: Any, recipe: Recipe, adapter: AdapterModel) -> None:
    """Raises UserError for an adapter on an end of the model that can't be merged, because it
    shares its weight with the other end.
    """
    ends = _closed_ends(model, recipe)
    for wanted in adapter.targets:
        why = next((ends[name] for name in _meant_by(wanted, list(ends))), None)
        if why is not None:
            raise UserError(
                f"{wanted!r} {why}",
                file=recipe.path,
                field="adapter.targets",
                hint="train it whole, `modules_to_save`, or leave it out of `targets`"
                if is_pattern(wanted)
                else f"train it whole, `modules_to_save: [{wanted}]`, or leave it out of `targets`",
            )


def _closed_ends(model: Any, recipe: Recipe) -> dict[str, str]:
    """Names of a model's two ends that take no adapter, and why."""
    read, written = model.get_input_embeddings(), model.get_output_embeddings()
    if written is None:
        return {}
    base = recipe.model.base
    why = {}
    if read is not None and read.weight is written.weight:
        why[id(read)] = why[id(written)] = (
            f"shares its weight with the other end of {base}: an adapter on it could never be "
            "merged into the model"
        )
    return {name: why[id(m)] for name, m in model.named_modules() if id(m) in why}


def is_matrix(module: Any) -> bool:
    """Whether an adapter can go on it. Convolutions are none: models run a text through their
    weights in more ways than one, past whatever was put around them.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
    return isinstance(module, kinds) or hasattr(module, "quant_state")


def _meant_by(wanted: str, names: Iterable[str]) -> list[str]:
    if is_pattern(wanted):
        whole = re.compile(wanted)
        return [name for name in names if whole.fullmatch(name)]
    return [name for name in names if _is_named(name, wanted)]


def _is_named(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def _is_in(name: str, parts: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _is_within_any(name: str, saved: Iterable[str]) -> bool:
    return any(f".{each}." in f".{name}." for each in saved)


def _in_another_part(recipe: Recipe, field: str, name: str) -> UserError:
    return UserError(
        f"{name} of {recipe.model.base} is in a part that reads no text, and would learn nothing "
        "here",
        file=recipe.path,
        field=field,
        hint="name modules of its language model",
    )


def _in_both(recipe: Recipe, field: str, wanted: str, inside: str) -> UserError:
    return UserError(
        f"{recipe.model.base} has modules named {wanted!r} in parts that read no text as well",
        file=recipe.path,
        field=field,
        hint=f"name the one of the language model in full: {inside}",
    )


def _no_such_module(
    model: Any, recipe: Recipe, field: str, wanted: str, found: Sequence[str], known: Sequence[str]
) -> UserError:
    leaves = sorted({name.rpartition(".")[2] for name in known})
    hint = f"`all-linear` is every linear layer; its modules are named {', '.join(leaves[:12])}"
    experts = sorted({name.rpartition(".")[2] for name in _of_experts(model)})
    if found:
        kind = type(model.get_submodule(found[0])).__name__
        what = (
            f"the base model's {found[0]} is a {kind}, and an adapter goes on linear layers and "
            "embeddings"
        )
    else:
        what = f"the base model has no module named {wanted!r}"
        if experts:
            hint += f"; the weights of its experts are {', '.join(experts)}"
    return UserError(what, file=recipe.path, field=field, hint=hint)


def _of_experts(model: Any) -> Iterator[str]:
    """The names of parameters that hold a matrix for each of several experts."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 3 and "expert" in name:
            yield name


def _require_no_experts(
    recipe: Recipe, wanted: str, found: Sequence[str], experts: Sequence[str]
) -> None:
    """A name that means layers and, elsewhere in the same model, experts as well."""
    if not experts:
        return
    longer = ".".join(found[0].rsplit(".", 2)[1:])
    raise UserError(
        f"{wanted!r} is a layer in {found[0]} and the weights of all experts at once in "
        f"{experts[0]}",
        file=recipe.path,
        field="adapter.targets",
        hint=f"name the layers alone, {longer}, or the experts, experts.{wanted}",
    )


def _require_run_through(model: Any, recipe: Recipe, wanted: str, found: Sequence[str]) -> None:
    for name in found:
        if (holder := _reader_of(model, name)) is not None:
            raise UserError(
                f"{holder} reads the weight of {name} itself: an adapter on {wanted!r} would be "
                "passed by",
                file=recipe.path,
                field="adapter.targets",
                hint=f"leave it out of `targets`, or train it whole: `modules_to_save: [{wanted}]`",
            )


def _reader_of(model: Any, name: str) -> str | None:
    """The class that reads a module's weight past the module, on some way through it."""
    # Bloom's are read so in a mode that no model on a hub has.
    if getattr(model.config, "slow_but_exact", True) is False:
        return None
    parent, _, leaf = name.rpartition(".")
    holder = type(model.get_submodule(parent))
    pattern = rf"\bself\.{re.escape(leaf)}\.weight\b(?!\.({_LOOKS}))"
    return (
        holder.__name__ if re.search(pattern, _source(holder.__module__, holder.__name__)) else None
    )


@functools.cache
def _source(module: str, name: str) -> str:
    kind: Any = getattr(sys.modules.get(module), name, None)
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return ""
