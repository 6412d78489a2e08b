"""Keeps the chatter of other libraries off the terminal."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from typing import Any

TALKATIVE = ("torchao", "torch.utils._pytree")
"""Loggers that warn of kernels for other machines as soon as peft is imported."""


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """No progress bars and no telemetry of the libraries within the `with` block."""
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    shown = logging.is_progress_bar_enabled()
    telemetry = os.environ.get("HF_HUB_DISABLE_TELEMETRY")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    logging.disable_progress_bar()
    try:
        # The GGUF conversion draws its own progress bar, straight to the current standard error.
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        if shown:
            logging.enable_progress_bar()
        if telemetry is None:
            del os.environ["HF_HUB_DISABLE_TELEMETRY"]


def quiet() -> None:
    """Silence the libraries' warnings and progress bars in this process, which would bury ours.

    Errors still come through.
    """
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    for name in ("transformers", "accelerate", "trl", "peft", *TALKATIVE):
        logging.getLogger(name).setLevel(logging.ERROR)
