"""What a subject says beyond backend and dtype of how a model is asked and read."""

from __future__ import annotations

import hashlib
import json
import os
import re
from importlib.metadata import version
from typing import Any

from harness.backends import answers, chat_template
from harness.backends import tokenization as tokens
from harness.core.quiet import quiet_libraries
from harness.core.workspace import Workspace
from harness.models.own_code import require_no_own_code
from harness.models.resolve import ModelFiles

# Names of special tokens that tell a thought or a call from an answer.
_MEANS = re.compile(
    r"think|thought|reason|channel|message|tool|call|function|response|answer", re.I
)
_PROBE = "Wednesday"


def asking(files: ModelFiles, workspace: Workspace) -> dict[str, str]:
    """The attention of its class where that isn't sdpa, and what `noted` says of its tokenizer.
    Empty for most models; a model that can't be told of is refused when it is loaded.

    To find out takes seconds, so it is remembered for each model and version of transformers.
    """
    told = [files.digest, version("transformers"), "3"]
    name = hashlib.sha256("|".join(told).encode()).hexdigest()[:32]
    note = workspace.cache / "asking" / name
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in known.items()}
    except (OSError, ValueError, AttributeError):
        pass
    try:
        found = _found(files)
    except Exception:  # noqa: BLE001  whatever is wrong with a model is said when it is loaded
        return {}
    workspace.ensure()
    note.parent.mkdir(parents=True, exist_ok=True)
    staged = note.with_suffix(f".{os.getpid()}")
    staged.write_text(json.dumps(found), encoding="utf-8")
    staged.replace(note)
    return found


def _found(files: ModelFiles) -> dict[str, str]:
    from transformers import AutoConfig, AutoTokenizer

    from harness.models.architecture import SDPA, attention_of, auto_class

    require_no_own_code(files.name, files.folder)
    with quiet_libraries():
        config = AutoConfig.from_pretrained(files.folder)
        attention = attention_of(config, auto_class(config, files.folder))
        found = noted(AutoTokenizer.from_pretrained(files.tokenizer))
    return found if attention == SDPA else {**found, "attention": attention}


def begins(tokenizer: Any) -> dict[str, str]:
    """What a subject says of a beginning that the chat template doesn't write itself, of a day that
    it writes, and of what it writes around an answer.
    """
    begun = tokens.beginning(tokenizer)
    found = {}
    if begun and not _writes(tokenizer, begun):
        found["begins"] = str(tokenizer.decode(list(begun)))
    if chat_template.writes_date(tokenizer):
        found["today"] = f"{chat_template.TODAY:%Y-%m-%d}"
    around = answers.noted(tokenizer)
    return {**found, "answers": around} if around else found


def noted(tokenizer: Any) -> dict[str, str]:
    """What a subject says of how its model is asked and read, where earlier versions did otherwise:
    answers of those are not this model's, and lie in the cache under another address.
    """
    found = begins(tokenizer)
    ends = tokens.end_tokens(tokenizer)
    close = tokens.turn_close(tokenizer, ends)
    name = None if close is None else str(tokenizer.convert_ids_to_tokens(close[1]))
    if tokens.HARMONY in str(tokenizer.chat_template or ""):
        found["ends"] = f"{tokens.HARMONY} {tokens.CALL}"
    elif name not in (None, tokenizer.eos_token, *tokens.TURN_ENDS):
        found["ends"] = str(name)
    kept = tokens.special_tokens(tokenizer) - tokens.frame_of(tokenizer, ends)
    if any(_MEANS.search(str(tokenizer.convert_ids_to_tokens(i))) for i in sorted(kept)):
        found["special"] = "kept"
    return found


def _writes(tokenizer: Any, begun: tuple[int, ...]) -> bool:
    """Whether the chat template itself begins with those tokens."""
    try:
        asked = [{"role": "user", "content": _PROBE}]
        ids = tokens.encode(tokenizer, tokens.written(tokenizer, asked))
    except Exception:  # noqa: BLE001  a template that wants other turns
        return False
    return ids[: len(begun)] == begun
