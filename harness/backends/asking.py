"""What a subject says beyond backend and dtype of how a model of files is asked and read."""

from __future__ import annotations

import hashlib
import json
import os
from importlib.metadata import version

from harness.core.quiet import quiet_libraries
from harness.core.workspace import Workspace
from harness.models.own_code import require_no_own_code
from harness.models.resolve import ModelFiles


def asking(files: ModelFiles, workspace: Workspace) -> dict[str, str]:
    """The attention of its class where that isn't sdpa, and what `tokenization.noted` says of its
    tokenizer. Empty for most models; a model that can't be told of is refused when it is loaded.

    To find out takes seconds, so it is remembered for each model and version of transformers.
    """
    told = [files.digest, version("transformers"), "2"]
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

    from harness.backends import tokenization as tokens
    from harness.models.architecture import SDPA, attention_of, auto_class

    require_no_own_code(files.name, files.folder)
    with quiet_libraries():
        config = AutoConfig.from_pretrained(files.folder)
        attention = attention_of(config, auto_class(config, files.folder))
        found = tokens.noted(AutoTokenizer.from_pretrained(files.tokenizer))
    return found if attention == SDPA else {**found, "attention": attention}
