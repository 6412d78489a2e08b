"""What tokens say, by the tokenizer beside a model: no weight is read, and nothing is fetched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from harness.core.workspace import Workspace
from harness.models.resolve import ADAPTER_CONFIG, EMBEDDED

FILE = "tokenizer.json"


class Reader(Protocol):
    """Token ids to the text that they are, special tokens too."""

    def __call__(self, tokens: Sequence[int]) -> str: ...


def reader_of(name: str, workspace: Workspace) -> Reader | None:
    """The reader of the model `name`, as `resolve` takes names; None where its file isn't here."""
    place = _file(name, workspace)
    # A plain install has no tokenizers and no hub.
    if place is None or find_spec("tokenizers") is None:
        return None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(place))
    except Exception:  # noqa: BLE001  (tokenizers raises no other kind for a broken file)
        return None
    return lambda tokens: str(tokenizer.decode(list(tokens), skip_special_tokens=False))


def _file(name: str, workspace: Workspace, depth: int = 3) -> Path | None:
    embedded = workspace.cache / "models" / EMBEDDED
    folder = embedded if name == EMBEDDED else Path(name).expanduser()
    if (folder / FILE).is_file():
        return folder / FILE
    if folder.is_dir():
        base = _base(folder) if depth else None
        beside = None if base is None else folder / base
        if base is None or beside is None:
            return None
        return _file(str(beside) if beside.is_dir() else base, workspace, depth - 1)
    return _of_hub(name)


def _base(folder: Path) -> str | None:
    """What a folder's adapter lies on."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        found = config.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None


def _of_hub(name: str) -> Path | None:
    """The copy that was fetched once."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, FILE)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
