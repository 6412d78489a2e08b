"""Translates the interface; the English sentence is the key."""

from __future__ import annotations

from collections import UserDict

from dashboard.i18n.zh import SENTENCES

LANGUAGES = ("en", "zh")
NAMES = {"en": "English", "zh": "中文"}


def translate(text: str, language: str) -> str:
    """The sentence in that language; the English one where there is no other."""
    return SENTENCES.get(text, text) if language == "zh" else text


class Words(UserDict[str, str]):
    """Any English word to what the reader sees; for charts."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language = language

    def __missing__(self, text: str) -> str:
        return translate(text, self._language)

    def __contains__(self, text: object) -> bool:
        return isinstance(text, str)
