"""What can be known of rows and adapter from the base's small files, before a weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.backends import answers
from harness.backends import tokenization as tokens
from harness.core.errors import UserError
from harness.core.quiet import quiet_libraries
from harness.models.architecture import auto_class
from harness.models.own_code import require_no_own_code
from harness.models.resolve import ModelFiles
from trainers.config.method_traits import traits_of
from trainers.config.recipe import Example, Recipe, Stage
from trainers.methods.lengths import with_fitting_rows
from trainers.methods.reward_model import answer_end
from trainers.methods.targets import require_mergeable, require_targets
from trainers.methods.turns import read_conversation, refused


def require_trainable(recipe: Recipe, base: ModelFiles) -> Recipe:
    """The recipe with the rows that it learns from. Raises UserError where the rows can't be read
    or the adapter can't be put on.
    """
    fitted = require_readable_rows(recipe, base)
    require_fitting_targets(recipe, base)
    return fitted


def require_readable_rows(recipe: Recipe, base: ModelFiles) -> Recipe:
    """The recipe without the rows that are too long, where it says to leave them out.

    Raises UserError for rows that the base's chat template can't be filled with, that have tokens
    which the model has no embedding for, or that are too long: all such rows of a stage are
    counted, and named by file and line.
    """
    _require_whole(recipe, base)
    tokenizer, config = _opened(base)
    limit = _limit(config, tokenizer)
    rows = getattr(config.get_text_config(), "vocab_size", None)
    for name in ("pad_token", "eos_token"):
        number = getattr(tokenizer, f"{name}_id")
        if rows is not None and number is not None and number >= rows:
            raise UserError(
                f"the tokenizer of {base.name} has {getattr(tokenizer, name)!r} as {name}, its "
                f"number {number}, and the model has embeddings for {rows} tokens",
                file=recipe.path,
                field="base",
                hint=f"resize the model's embeddings and save both, or take another {name}",
            )
    ends = _ends(base, config, tokenizer)
    stages = []
    for stage in recipe.stages:
        examples = (*stage.examples, *stage.validation)
        room = _room(stage, tokenizer, ends)
        read = [_ids(recipe, example, tokenizer, ends) for example in examples]
        found = [ids for ids, _ in read]
        if rows is not None:
            _require_embeddings(recipe, stage, examples, found, rows)
        lengths = [max(map(len, each)) + room for each in found]
        begins = [begin for _, begin in read]
        stages.append(with_fitting_rows(recipe, stage, lengths, begins, reads=limit))
    if all(new is old for new, old in zip(stages, recipe.stages, strict=True)):
        return recipe
    return replace(recipe, stages=tuple(stages), whole=recipe)


def _room(stage: Stage, tokenizer: Any, ends: frozenset[int]) -> int:
    """How many tokens a stage puts behind what `_ids` gives."""
    if traits_of(stage.model.trainer).samples:
        return stage.model.max_new_tokens
    if stage.model.trainer != "reward":
        return 1
    tail = answers.place_of(tokenizer, ends).tail  # part of both
    return len(answer_end(tokenizer)) - len(tokens.encode(tokenizer, tail))


def _require_whole(recipe: Recipe, base: ModelFiles) -> None:
    if base.adapter is not None:
        raise UserError(
            f"the base {base.name} is an adapter, and a recipe puts its adapter on a whole model",
            file=recipe.path,
            field="base",
            hint=f"write `base: {base.folder}` and `start: {base.name}`, or merge it first "
            f"(ratchet export-model {base.name} --merge --to DIR)",
        )


def require_fitting_targets(recipe: Recipe, base: ModelFiles) -> None:
    """Raises UserError for an adapter that the base has no modules for, or that couldn't be merged
    into it: seen on the base's shape, without its weights.
    """
    adapter = recipe.model.adapter
    trained = [traits_of(stage.model.trainer) for stage in recipe.stages]
    if adapter is None or adapter.kind in ("none", "prefix"):
        return
    if not any(each.continues for each in trained):
        return  # a reward model has other ends
    model = _without_weights(base)
    if model is not None:
        require_targets(model, recipe, adapter)
        require_mergeable(model, recipe, adapter)


def _without_weights(base: ModelFiles) -> Any | None:
    """The base's modules; None where its class can't be made without weights."""
    import torch
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(base.folder)
    automatic = auto_class(config, base.folder)
    make: Any = getattr(automatic, "from_config", None) or automatic._from_config
    try:
        with quiet_libraries(), torch.random.fork_rng(), torch.device("meta"):
            return make(config)
    except (ValueError, RuntimeError, TypeError, NotImplementedError, AttributeError, ImportError):
        return None  # whatever is wrong is said where it is loaded


def _opened(base: ModelFiles) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoTokenizer

    require_no_own_code(base.name, base.folder)
    try:
        with quiet_libraries():
            tokenizer: Any = AutoTokenizer.from_pretrained(base.tokenizer)
            config: Any = AutoConfig.from_pretrained(base.folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{base.name!r} can't be loaded: {first}",
            file=base.folder,
            hint="check that the folder is a complete causal language model of this version",
        ) from error
    return tokenizer, config


def _limit(config: Any, tokenizer: Any) -> int:
    """As the scorer has it: the model's own limit, the tokenizer's where it has none."""
    for owner in (config.get_text_config(), config):
        for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
            value = getattr(owner, name, None)
            if isinstance(value, int) and value > 0:
                return value
    limit = int(getattr(tokenizer, "model_max_length", 0) or 0)
    return limit if 0 < limit < 10**7 else 2048


def _ids(
    recipe: Recipe, example: Example, tokenizer: Any, ends: frozenset[int]
) -> tuple[list[tuple[int, ...]], int]:
    """Each sequence that a row is read as, without its end, and behind how many tokens the first
    one that is learned stands.
    """
    from jinja2 import TemplateError

    if example.text is not None:
        # The prefix token stands before a text.
        return [(tokens.prefix_token(tokenizer), *tokens.encode(tokenizer, example.text))], 1
    if example.turns:
        whole = read_conversation(tokenizer, ends, example, recipe.model.base)
        return [whole.ids[:-1]], whole.begin
    try:
        asked = tokens.encode_chat(tokenizer, example.prompt, example.options)
    except (UserError, TemplateError, ValueError, TypeError, LookupError) as error:
        raise refused(error, example, recipe.model.base) from None
    said = [t for t in (example.completion, example.chosen, example.rejected) if t is not None]
    learned = [answers.written(tokenizer, text, ends, asked) for text in said]
    return [(*asked, *answer) for answer in learned] or [asked], len(asked)


def _ends(base: ModelFiles, config: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens at which the scorer will stop."""
    from transformers import GenerationConfig

    try:
        generation: Any = GenerationConfig.from_pretrained(base.folder)
    except (OSError, ValueError):
        generation = None
    return tokens.end_tokens(tokenizer, generation, config.get_text_config(), config)


def _require_embeddings(
    recipe: Recipe,
    stage: Stage,
    examples: Sequence[Example],
    found: Sequence[Sequence[tuple[int, ...]]],
    rows: int,
) -> None:
    strange = [
        (example, max(map(max, each)))
        for example, each in zip(examples, found, strict=True)
        if max((token for ids in each for token in ids), default=0) >= rows
    ]
    if strange:
        example, token = strange[0]
        raise UserError(
            f"{len(strange)} of {len(examples)} rows have tokens that the model has no embedding "
            f"for: it has {rows}, and row {example.row!r} has number {token}",
            file=example.file,
            line=example.line,
            hint="its tokenizer knows more tokens than the model: resize the model's embeddings "
            "(resize_token_embeddings) and save both, or take those tokens out of the rows",
        )
