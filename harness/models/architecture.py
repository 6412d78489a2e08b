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


def _named_class(config: Any) -> Any:
    """The causal class that wrote the config, where transformers lists it under another config."""
    import transformers

    for name in getattr(config, "architectures", None) or ():
        kind = getattr(transformers, str(name), None)
        causal = str(name).endswith(("ForCausalLM", "LMHeadModel"))
        if causal and kind is not None and kind.config_class is type(config):
            return kind
    return None


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
