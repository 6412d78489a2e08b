"""Text to token ids and back, the same way for every backend that has the model's own tokenizer.

Where an answer begins: a prompt begins with what the tokenizer puts before a text (BOS, for many),
once, whether or not the chat template writes it too.

Where an answer ends: at any token by which the model itself ends a turn. That is what its
generation config, its config and its tokenizer call `eos_token_id` (a list counts whole), what its
chat template writes after the assistant's last words, and the turn ends below that the template
knows.

What is text: every token of the answer but those that frame it, which are the tokenizer's own
names (BOS, EOS, PAD, UNK, SEP, CLS, MASK) and the ends. A special token that means something
(`<think>`, `[TOOL_CALLS]`, `<|channel|>`) is part of what was said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from weakref import WeakKeyDictionary

from harness.backends import chat_template
from harness.core.types import AS_USUAL, PromptOptions

# Tokens that end a turn in one chat format or another; one counts only where the model's own
# template writes it.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|return|>", "</s>")
# In gpt-oss' format `<|end|>` closes a thought, and the answer comes after it.
HARMONY, _CLOSES_A_THOUGHT, CALL = "<|return|>", "<|end|>", "<|call|>"
_FRAME = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")
_WORD = "Wednesday"
_VOCABULARIES: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of plain text, without special tokens."""
    # A lone surrogate, which JSON can carry, is not text that a tokenizer takes.
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return tuple(tokenizer.encode(whole, add_special_tokens=False))


def encode_chat(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    options: PromptOptions = AS_USUAL,
) -> tuple[int, ...]:
    """Token ids of chat messages through the tokenizer's chat template, up to where the assistant
    answers. A model without a template gets the messages' contents, one a line. Raises what the
    template, a program of the model's own, raises, and ValueError for what it can't be told.
    """
    ids = encode(tokenizer, written(tokenizer, messages, options))
    begun = beginning(tokenizer)
    return ids if ids[: len(begun)] == begun else (*begun, *ids)


def written(
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    options: PromptOptions = AS_USUAL,
) -> str:
    """The text that `encode_chat` encodes. Raises as it does."""
    if options.raw:
        text = "\n".join(message["content"] for message in messages)
    elif tokenizer.chat_template:
        text = chat_template.prompt(tokenizer, messages, options)
    elif any(message.get("parts") for message in messages):
        raise ValueError("it has no chat template, which would place the pictures")
    elif options.tools:
        raise ValueError("it has no chat template, which would write the tools")
    else:
        text = "\n".join(message["content"] for message in messages) + "\n"
    return text + options.prefill


def beginning(tokenizer: Any) -> tuple[int, ...]:
    """What the tokenizer puts before every text: BOS for some models, nothing for others."""
    bare = tuple(tokenizer.encode(_WORD, add_special_tokens=False))
    whole = tuple(tokenizer.encode(_WORD))
    for start in range(len(whole) - len(bare) + 1):
        if whole[start : start + len(bare)] == bare:
            return whole[:start]
    return ()


def turn_end(tokenizer: Any, ends: frozenset[int] = frozenset()) -> int | None:
    """What ends an answer to a prompt: the token that the chat template writes after the
    assistant's last words (`turn_close`), else what ends a text. `ends` are the tokens at which the
    scorer stops.
    """
    close = turn_close(tokenizer, ends)
    return text_end(tokenizer, ends) if close is None else close[1]


def turn_close(tokenizer: Any, ends: frozenset[int] = frozenset()) -> tuple[str, int] | None:
    """What the chat template writes behind an assistant's last words: text that the model has to
    write before the turn's end, "" for most, and the end itself. None where it ends no turn.

    The end is the first token there that is one of `ends`; else the token that comes first, where
    it is special. Where nothing stands behind the last turn, what begins the next one ends it, if
    it is one of `ends` (`<|user|>` in GLM 4).
    """
    eos = tokenizer.eos_token_id
    known = ends if eos is None else ends | {int(eos)}
    rest = _behind_last_words(tokenizer)
    if rest.strip():
        return _first_end(tokenizer, rest, known, special_tokens(tokenizer))
    rest = _behind_last_words(tokenizer, {"role": "user", "content": "Which?"})
    return _first_end(tokenizer, rest.lstrip(), frozenset(), known) if rest else None


def _first_end(
    tokenizer: Any, rest: str, ends: frozenset[int], first: AbstractSet[int]
) -> tuple[str, int] | None:
    ids = encode(tokenizer, rest)
    end = next((token for token in ids if token in ends), None)
    if end is None:
        begun = encode(tokenizer, rest.lstrip())[:1]
        end = next((token for token in begun if token in first), None)
    if end is None:
        return None
    return rest[: max(0, rest.find(as_read(tokenizer, [end])))], int(end)


def text_end(tokenizer: Any, ends: frozenset[int] = frozenset()) -> int | None:
    """What ends a text: the tokenizer's EOS, else one of `ends`; None where there is neither."""
    eos = tokenizer.eos_token_id
    return min(ends, default=None) if eos is None else int(eos)


def end_tokens(tokenizer: Any, *owners: Any) -> frozenset[int]:
    """Every token that ends an answer; `owners` are configs that may have an `eos_token_id`."""
    ends: set[int] = set()
    for owner in (*owners, tokenizer):
        value = getattr(owner, "eos_token_id", None)
        ends.update([value] if isinstance(value, int) else value or ())
    template = str(tokenizer.chat_template or "")
    names = [name for name in TURN_ENDS if name in template]
    if HARMONY in template:
        names = [name for name in names if name != _CLOSES_A_THOUGHT] + [CALL]
    for name in names:
        known = tokenizer.convert_tokens_to_ids(name)
        if known is not None and known != tokenizer.unk_token_id:
            ends.add(int(known))
    close = turn_close(tokenizer, frozenset(ends))
    return frozenset(ends if close is None else {*ends, close[1]})


def text_of(tokenizer: Any, ids: Sequence[int], frame: frozenset[int]) -> str:
    """Tokens as text, without those of `frame`."""
    return as_read(tokenizer, [token for token in ids if token not in frame])


def frame_of(tokenizer: Any, ends: frozenset[int]) -> frozenset[int]:
    """The tokens that stand around an answer and are no part of it."""
    named = (getattr(tokenizer, f"{name}_token_id", None) for name in _FRAME)
    return ends | {token for token in named if token is not None}


def vocabulary_of(tokenizer: Any) -> str:
    """A short digest of the tokens that a tokenizer knows and their ids, without those that were
    added to it later: a model that learned two tokens more than its base is asked in the same ones.
    """
    known = _VOCABULARIES.get(tokenizer)
    if known is None:
        added = set(getattr(tokenizer, "get_added_vocab", dict)())
        pairs = sorted(pair for pair in tokenizer.get_vocab().items() if pair[0] not in added)
        written = "\n".join(f"{token}\t{number}" for token, number in pairs)
        known = hashlib.sha256(written.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        _VOCABULARIES[tokenizer] = known
    return known


def as_read(tokenizer: Any, ids: Sequence[int]) -> str:
    """Tokens as text, every special token written out."""
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return text


def prefix_token(tokenizer: Any, otherwise: int = 0) -> int:
    """The token to put before the first of a text: BOS, else EOS, else `otherwise`."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return otherwise


def _behind_last_words(tokenizer: Any, *then: Mapping[str, str]) -> str:
    """What the template writes behind an assistant's words, before the turns `then`, if any."""
    if not tokenizer.chat_template:
        return ""
    turns = [{"role": "user", "content": "Which day?"}, {"role": "assistant", "content": _WORD}]
    try:
        text = chat_template.render(tokenizer, [*turns, *then])
    except Exception:  # noqa: BLE001  a template is a program of its own, and may want other turns
        return ""
    _, said, rest = text.rpartition(_WORD)
    return rest if said else ""


def special_tokens(tokenizer: Any) -> set[int]:
    """Every token that is special, named or only flagged as such."""
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    flagged = {token for token, shape in added.items() if getattr(shape, "special", False)}
    return {*tokenizer.all_special_ids, *flagged}
