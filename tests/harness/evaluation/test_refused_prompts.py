"""A model's chat template that refuses a prompt, or is broken, is one message before any answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.core.errors import UserError
from harness.core.types import AS_USUAL, PromptOptions
from harness.evaluation.runner import score
from harness.store.store import Store
from harness.suite.load import load_suite
from tests.harness.suite_builders import suite_yaml
from tests.tiny import tiny_tokenizer

GEMMA = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
)
TEMPLATES = {
    "refuses a system turn": (GEMMA, "System role not supported"),
    "can't be read": ("{% for m in messages %}", "Unexpected end of template"),
    "calls what is not there": ("{{ strftime_then('%d') }}", "strftime_then"),
    "names what is not there": ("{{ messages[0]['name'].upper() }}", "name"),
    "divides by zero": ("{{ 1 / (messages | length - messages | length) }}", "zero"),
}


class _Templated(ScriptedBackend):
    """Renders its prompts with a tokenizer's chat template, as backends with weights do."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self.tokenizer = tiny_tokenizer()
        self.tokenizer.chat_template = template

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        from harness.backends.tokenization import encode_chat

        return encode_chat(self.tokenizer, messages, options)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_that_fails_is_the_models(kind: str, tmp_path: Path, store: Store) -> None:
    template, says = TEMPLATES[kind]
    backend = _Templated(template)
    candidate = Candidate("templated", kind, backend.subject, lambda: backend)
    with pytest.raises(UserError, match="chat template") as caught:
        score(candidate, load_suite(suite_yaml(tmp_path)), store)
    assert says in caught.value.what
    assert caught.value.field == "tasks.ask.prompt.system"
    assert caught.value.hint
    assert backend.calls == 0
