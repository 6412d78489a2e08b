"""What tells a model how to read images and sound: nobody here reads it, and exports keep it."""

from __future__ import annotations

import shutil
from pathlib import Path

_OF_THE_PROCESSOR = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
)


def keep_processor(source: Path, folder: Path) -> list[str]:
    """Copy them into `folder`, byte for byte, where it has none; returns the copies' names."""
    kept = []
    for name in _OF_THE_PROCESSOR:
        if (source / name).is_file() and not (folder / name).exists():
            shutil.copyfile(source / name, folder / name)
            kept.append(name)
    return kept
