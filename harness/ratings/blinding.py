"""Prompts and answers as raters read them, without what would give a model away."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.ratings.session import Session
from harness.store.store import Store

BLACKED = "▇▇▇"

# Families and makers whose names mean nothing else in running text.
_FAMILIES = (
    "ChatGPT", "GPT", "OpenAI", "Anthropic", "DeepSeek", "Qwen", "QwQ", "Tongyi", "Mixtral",
    "Mistral AI", "SmolLM", "Vicuna", "ChatGLM", "GLM", "Zhipu AI", "Baichuan", "InternLM",
    "Hunyuan", "ERNIE Bot", "Doubao", "Moonshot AI", "MiniMax", "Nemotron", "OLMo", "StableLM",
    "Hugging ?Face", "通义千问", "千问", "文心一言", "混元", "豆包", "智谱", "深度求索", "百川",
    "书生", "月之暗面",
)  # fmt: skip
# These are also animals, people, planets and letters: a name only with a version, or in "I am".
_WORDS = ("Llama", "Claude", "Gemini", "Gemma", "Mistral", "Falcon", "Phi", "Yi", "Kimi", "Grok")
_VERSION = r"(?:[-_ ]?v?\d+(?:\.\d+)*[a-z]?(?:[-_ ]?\d+[bm])?(?:[-_](?:instruct|chat|base|it))*)"
_COMMON = {"model", "base", "instruct", "chat", "checkpoint", "adapter", "final", "best", "step"}


@dataclass(frozen=True)
class Texts:
    """Prompts by (task, sample), each a list of {role, content}, and answers by response key."""

    prompts: Mapping[tuple[str, str], Sequence[Mapping[str, str]]]
    answers: Mapping[str, str]


def load_texts(store: Store, session: Session) -> Texts:
    """All prompts and answers of the session as they were written, not yet blinded."""
    keys = [key for item in session.items for key in item.keys]
    answers = store.query(
        "SELECT key, text FROM responses WHERE key IN (SELECT unnest(?::VARCHAR[]))", [keys]
    )
    prompts = store.query(
        "SELECT task, sample_id, last(prompt ORDER BY seq) AS prompt FROM samples "
        "WHERE task IN (SELECT unnest(?::VARCHAR[])) GROUP BY task, sample_id",
        [sorted({item.task for item in session.items})],
    )
    return Texts(
        {(row["task"], row["sample_id"]): row["prompt"] or [] for row in prompts},
        {row["key"]: row["text"] or "" for row in answers},
    )


class Scrubber:
    """Blacks out the names of the session's models, of model families, and of their makers.

    Every name by the same mark in every answer, so that a mark doesn't tell which name it hides.
    Words that mean something else too (Llama, Claude) are blacked out only with a version, or
    after "I am".
    """

    def __init__(self, names: Iterable[str]) -> None:
        own = sorted({part for name in names for part in _parts(name)}, key=len, reverse=True)
        families = "|".join((*map(re.escape, own), *_FAMILIES))
        words = "|".join(_WORDS)
        edge = r"(?<![A-Za-z0-9])"
        self._pattern = re.compile(
            rf"{edge}(?:{families}){_VERSION}?(?![A-Za-z])|{edge}(?:{words}){_VERSION}(?![A-Za-z])"
            rf"|(?:(?<=\bI am )|(?<=\bI'm )|(?<=\bI’m )|(?<=是)|(?<=叫))(?:{words})(?![A-Za-z])",
            re.IGNORECASE,
        )

    def __call__(self, text: str) -> str:
        return self._pattern.sub(BLACKED, text)


def scrubber(session: Session) -> Scrubber:
    """The scrubber for a session's models."""
    return Scrubber(contender.model for contender in session.contenders)


def _parts(name: str) -> set[str]:
    """The parts of a model's name to black out: the whole, and each word that gives it away."""
    last = name.rstrip("/").rsplit("/", 1)[-1].removeprefix("line:")
    whole = {name, last} if len(last) >= 3 else set()
    pieces = (re.sub(r"[\d.]+$", "", piece) for piece in re.split(r"[-_:# ]", last))
    telling = {p for p in pieces if len(p) >= 4 and p.isalpha() and p.lower() not in _COMMON}
    return {part for part in whole | telling if not part.isdigit()}
