"""Which modules of a base the recipe's adapter goes on, and which it can't."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from harness.core.errors import UserError
from harness.models.architecture import other_parts
from trainers.config.recipe import Recipe
from trainers.config.schema import AdapterModel

_OF_TRL = ("sft", "dpo", "kto", "grpo", "rloo")
_LOOKS = "dtype|device|shape|ndim|size|data"
"""What code may ask of a weight without running a text through it."""


def require_targets(model: Any, recipe: Recipe, adapter: AdapterModel) -> frozenset[str]:
    """The full names of the modules that `adapter.targets` means, all in the language model.

    Rule: a target is a linear layer or an embedding that the model runs a text through, and whose
    change can be merged into it; a module that is trained whole may be any of the language model.
    Raises UserError for any other, which offers only what would be taken.
    """
    modules = dict(model.named_modules())
    parts = other_parts(model)
    matrices = {name for name, module in modules.items() if is_matrix(module)}
    meant: set[str] = set()
    for field, allowed in (("targets", matrices), ("modules_to_save", set(modules) - {""})):
        for wanted in getattr(adapter, field):
            place = f"adapter.{field}"
            found = [name for name in modules if _is_named(name, wanted)]
            inside = [name for name in found if not _is_in(name, parts)]
            if found and not inside:
                raise _in_another_part(recipe, place, found[0])
            if field == "modules_to_save" and len(inside) < len(found):
                raise _in_both(recipe, place, wanted, inside[0])
            if not inside or not all(name in allowed for name in inside):
                ends = _closed_ends(model, recipe)
                known = [n for n in matrices if not _is_in(n, parts) and n not in ends]
                known = [n for n in known if _reader_of(model, n) is None]
                raise _no_such_module(model, recipe, place, wanted, inside, known)
            if field == "targets":
                _require_no_experts(model, recipe, wanted, inside)
                _require_run_through(model, recipe, wanted, inside)
                meant.update(inside)
    if both := sorted(set(adapter.targets) & set(adapter.modules_to_save)):
        raise UserError(
            f"{both[0]!r} is a target of the adapter and trained whole as well",
            file=recipe.path,
            field="adapter.modules_to_save",
            hint="name it in one of `targets` and `modules_to_save`",
        )
    return frozenset(meant)


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


def require_as_meant(
    wrapped: Any, recipe: Recipe, adapter: AdapterModel, meant: frozenset[str]
) -> None:
    """Raises UserError where peft has put the adapter elsewhere than the recipe says: it takes some
    names for those of experts, as these were called in older versions of transformers.
    """
    got = set(wrapped.base_model.targeted_module_names)
    whole = [n for n in meant if any(_is_within(n, saved) for saved in adapter.modules_to_save)]
    missed = sorted(meant - got - set(whole))
    elsewhere = sorted(got - meant) + sorted(wrapped.base_model.targeted_parameter_names)
    if not missed and not elsewhere:
        return
    names = {wanted for wanted in adapter.targets if any(_is_named(n, wanted) for n in missed)}
    raise UserError(
        f"peft would put the adapter elsewhere than `targets` says: "
        f"{f'{missed[0]} would get none' if missed else f'{elsewhere[0]} would get one'}",
        file=recipe.path,
        field="adapter.targets",
        hint=f"leave out {', '.join(sorted(names)) or 'what it is not for'}: in a model with "
        "experts peft takes that for their weights",
    )


def require_mergeable(model: Any, recipe: Recipe, adapter: AdapterModel) -> None:
    """Raises UserError for an adapter on an end of the model that can't be merged or trained: one
    that shares its weight with the other end, or whose weight TRL's trainers read themselves.
    """
    ends = _closed_ends(model, recipe)
    for wanted in adapter.targets:
        why = next((ends[name] for name in ends if _is_named(name, wanted)), None)
        if why is not None:
            raise UserError(
                f"{wanted!r} {why}",
                file=recipe.path,
                field="adapter.targets",
                hint=f"train it whole, `modules_to_save: [{wanted}]`, or leave it out of `targets`",
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
    elif any(stage.model.trainer in _OF_TRL for stage in recipe.stages):
        why[id(written)] = (
            f"is the output layer of {base}, whose weight the trainer reads itself: an adapter on "
            "it would never be trained"
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


def _is_named(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f".{wanted}")


def _is_in(name: str, parts: Sequence[str]) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in parts)


def _is_within(name: str, saved: str) -> bool:
    return f".{saved}." in f".{name}."


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
    hint = f"its modules are named {', '.join(leaves[:12])}"
    experts = sorted({name.rpartition(".")[2] for name in _of_experts(model)})
    if found:
        kind = type(model.get_submodule(found[0])).__name__
        what = (
            f"the base model's {found[0]} is a {kind}, and an adapter goes on linear layers and "
            "embeddings"
        )
    elif wanted in experts:
        what = (
            f"{wanted!r} is the weights of all experts at once, and an adapter goes on linear "
            "layers and embeddings"
        )
    else:
        what = f"the base model has no module named {wanted!r}"
        if experts:
            hint += f" (the weights of its experts, {', '.join(experts)}, take no adapter here)"
    return UserError(what, file=recipe.path, field=field, hint=hint)


def _of_experts(model: Any) -> Iterator[str]:
    """The names of parameters that hold a matrix for each of several experts."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 3 and "expert" in name:
            yield name


def _require_no_experts(model: Any, recipe: Recipe, wanted: str, found: Sequence[str]) -> None:
    """A name that means layers and, elsewhere in the same model, experts as well."""
    experts = next((name for name in _of_experts(model) if _is_named(name, wanted)), None)
    if experts is None:
        return
    longer = ".".join(found[0].rsplit(".", 2)[1:])
    raise UserError(
        f"{wanted!r} is a layer in {found[0]} and the weights of all experts at once in {experts}, "
        "and an adapter goes on layers alone",
        file=recipe.path,
        field="adapter.targets",
        hint=f"name the layers alone: {longer}",
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
