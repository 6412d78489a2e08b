"""Which class of transformers a model's files are for, and which attention that class has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.core.errors import UserError

SDPA = "sdpa"


def auto_class(config: Any, folder: Path) -> Any:
    """The auto class that loads `config` as a language model: a causal one, or else one of images
    and text, of which the language model in it is used. Raises UserError for any other model.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"a model of the kind {config.model_type!r} has an encoder: it is no causal language "
            "model",
            file=folder,
            hint="name a model that only writes on from a text",
        )
    automatic: Any
    for automatic in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in automatic._model_mapping:
            return automatic
    named = _named_class(config)
    if named is not None:
        return named
    raise UserError(
        f"transformers has no causal language model of the kind {config.model_type!r}",
        file=folder,
        hint="name a causal language model, or one of images and text",
    )


def whole_class(folder: Path) -> Any | None:
    """The auto class that loads all of the model of images and text in `folder`, where the class
    that `auto_class` names has a place for its language model alone; else None.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(folder)
    automatic: Any = AutoModelForImageTextToText
    if type(config) not in automatic._model_mapping:
        return None
    kind, used = automatic._model_mapping[type(config)], auto_class(config, folder)
    written = kind.__name__ in (getattr(config, "architectures", None) or ())
    return automatic if written and used._model_mapping[type(config)] is not kind else None


def _named_class(config: Any) -> Any:
    """The causal class that wrote the config, where transformers lists it under another config."""
    import transformers

    for name in getattr(config, "architectures", None) or ():
        kind = getattr(transformers, str(name), None)
        causal = str(name).endswith(("ForCausalLM", "LMHeadModel"))
        if causal and kind is not None and kind.config_class is type(config):
            return kind
    return None


def other_parts(model: Any) -> tuple[str, ...]:
    """The largest modules of a model of images and text that hold nothing of its language model:
    its vision tower and projector. None of a model of text alone.
    """
    config = model.config
    decoder = model.get_decoder()
    if config.get_text_config(decoder=True) is config or decoder is None or decoder is model:
        return ()
    ends = (decoder, model.get_input_embeddings(), model.get_output_embeddings())
    language = {id(part) for part in ends if part is not None}

    def apart(module: Any, name: str) -> list[str]:
        found: list[str] = []
        for child_name, child in module.named_children():
            full = f"{name}.{child_name}" if name else child_name
            if id(child) in language:
                continue
            if any(id(part) in language for part in child.modules()):
                found += apart(child, full)
            elif any(True for _ in child.parameters()):
                found.append(full)
        return found

    return tuple(apart(model, ""))


def attention_of(config: Any, automatic: Any) -> str:
    """`sdpa` where the class has it, else `eager`."""
    if hasattr(automatic, "_supports_sdpa"):
        kinds: tuple[Any, ...] = (automatic,)
    else:
        found = automatic._model_mapping[type(config)]
        kinds = found if isinstance(found, tuple) else (found,)
    return SDPA if all(kind._supports_sdpa for kind in kinds) else "eager"


def generation_ends(folder: Path) -> list[Any]:
    """The configs in `folder` that may name the tokens by which a turn ends."""
    from transformers import AutoConfig, GenerationConfig

    found: list[Any] = []
    readers: tuple[Any, ...] = (AutoConfig, GenerationConfig)
    for reader in readers:
        try:
            config = reader.from_pretrained(folder)
        except (OSError, ValueError):
            continue
        found += (
            [config, config.get_text_config(decoder=True)] if reader is AutoConfig else [config]
        )
    return found
