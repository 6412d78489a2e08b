"""sacrebleu's tokenizers, applied to many texts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from harness.core.errors import UserError
from harness.core.language import language_of
from harness.core.scripts import sets_no_spaces
from harness.core.types import Sample

Tokenizer = Literal["13a", "zh", "intl", "char", "none"]
"""The names are sacrebleu's; any other name that sacrebleu knows works too."""

# A private-use character that 13a leaves alone: it stands between texts that are tokenized
# together, because the regular expressions cost more per call than per character.
_BETWEEN = "\ue0ff"
_BLOCK = 256


def tokenizer_for(sample: Sample, texts: Sequence[str]) -> Tokenizer:
    """What `tokenize: auto` takes for these texts of a sample.

    `zh` for Chinese, `13a` for whatever sets spaces between its words, and `char` for what doesn't
    (Japanese, Thai, Lao, Khmer, Myanmar, Tibetan): there whole sentences would be one word.
    """
    text = " ".join(texts)
    if sets_no_spaces(text):
        return "char"
    return "zh" if language_of(sample, text) == "zh" else "13a"


def tokenize_all(texts: Sequence[str], tokenizer: str) -> list[list[str]]:
    """The tokens of each text, exactly those of sacrebleu's BLEU. `tokenizer` is one of its names.

    Raises UserError for a name that sacrebleu doesn't know.
    """
    if tokenizer == "13a":
        return [
            tokens
            for start in range(0, len(texts), _BLOCK)
            for tokens in _tokenize_13a(texts[start : start + _BLOCK])
        ]
    return _one_by_one(texts, tokenizer)


def _one_by_one(texts: Sequence[str], tokenizer: str) -> list[list[str]]:
    tokenize = _uncached(sacrebleu_tokenizer(tokenizer))
    return [tokenize(text.rstrip()).split() for text in texts]


def sacrebleu_tokenizer(name: str) -> Any:
    """The tokenizer that sacrebleu calls `name`. Raises UserError for a name it doesn't know."""
    from sacrebleu.metrics.bleu import _TOKENIZERS, _get_tokenizer

    if name not in _TOKENIZERS:
        raise UserError(
            f"sacrebleu has no tokenizer named {name!r}",
            field="tokenize",
            hint=f"take one of {', '.join(_TOKENIZERS)}",
        )
    return _get_tokenizer(name)()


def _tokenize_13a(texts: Sequence[str]) -> list[list[str]]:
    if any(_BETWEEN in text for text in texts):
        return _one_by_one(texts, "13a")
    joined = f" {_BETWEEN} ".join(text.rstrip() for text in texts)
    tokens = _uncached(sacrebleu_tokenizer("13a"))(joined)
    return [part.split() for part in tokens.split(_BETWEEN)]


def _uncached(tokenizer: Any) -> Callable[[str], str]:
    """The tokenizer without its caches, which would keep 65,536 texts alive, of any size."""
    inner = getattr(tokenizer, "_post_tokenizer", None)
    if inner is not None:
        tokenizer._post_tokenizer = _uncached(inner)
    call: Any = type(tokenizer).__call__
    plain = getattr(call, "__wrapped__", call)
    return lambda line: str(plain(tokenizer, line))
