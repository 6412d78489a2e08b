"""A rating session over real runs of scripted models."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.core.types import Run
from harness.core.workspace import Workspace
from harness.evaluation.runner import score
from harness.ratings import session as ratings
from harness.ratings.session import Gold, Rules, Session
from harness.store.store import Store
from harness.suite.load import load_suite

HOSTILE = (
    '<img src="http://evil.example/x.png" onerror="fetch(\'http://evil.example\')">'
    "<script>window.hacked = 1</script>\n![x](http://evil.example/y.png)\n# Heading\n"
    "\x1b[31mred\x1b[0m \u202egnp.exe"
)


class RatedRuns:
    """A workspace with runs of `models` on one task of `prompts` questions."""

    drawn = 0

    def __init__(
        self,
        home: Path,
        *,
        prompts: int = 12,
        models: int = 2,
        same: Sequence[int] = (),
        marked: bool = False,
    ) -> None:
        self.marked = marked
        self.same = {str(number) for number in same}
        home.mkdir(parents=True, exist_ok=True)
        self.workspace = Workspace.at(home / ".ratchet").ensure()
        self.store = Store(self.workspace)
        rows = [{"id": f"s{n}", "q": f"Question {n}?"} for n in range(prompts)]
        text = "\n".join(json.dumps(row) for row in rows)
        (home / "q.jsonl").write_text(text + "\n", encoding="utf-8")
        task = {
            "data": "q.jsonl",
            "prompt": {"system": "Be brief.", "user": "{{ q }}"},
            "generate": {"max_new_tokens": 400},
            "metrics": ["length"],
        }
        path = home / "suite.yaml"
        path.write_text(yaml.safe_dump({"name": "asked", "tasks": {"ask": task}}), "utf-8")
        self.suite = load_suite(path)
        self.runs = [self._run(f"house/Zebra-model-{n}", n) for n in range(models)]

    def _counted(self, size: int) -> str:
        self.drawn += 1
        return f"{self.drawn:0{2 * size}x}"

    @classmethod
    def copy(cls, home: Path) -> RatedRuns:
        """The usual rated, made once and copied: scoring takes longer than most tests."""
        template, folder = _template()
        shutil.copytree(Path(folder.name) / ".ratchet", home / ".ratchet")
        rated = object.__new__(cls)
        rated.workspace = Workspace.at(home / ".ratchet")
        rated.store = Store(rated.workspace)
        rated.suite, rated.runs = template.suite, template.runs
        return rated

    def _run(self, name: str, number: int) -> Run:
        def say(prompt: str, seed: int) -> str:
            if "Question 3?" in prompt:
                return HOSTILE + f" (answer {number})"
            question = prompt.split("Question ")[1].split("?")[0]
            if self.marked:
                return f"**bold** $x^2$ [l](http://evil.example) {number}\n\n```py\nx = 1\n```"
            if question in self.same:
                return "The same words."
            return f"I am Zebra-model-{number}. Answer {'ABCDEF'[number]} to {question}."

        backend = ScriptedBackend(say)
        candidate = Candidate(name, f"digest {number}", backend.subject, lambda: backend)
        return score(candidate, self.suite, self.store).run

    def session(self, *raters: str, golds: int = 0, **rules: Any) -> Session:
        """A session that these raters are invited to and have agreed to."""
        rules = {
            "title": "Trial",
            "overlap": 0.0,
            "gold": 0.0,
            "repeats": 0.0,
            "swaps": 0.0,
        } | rules
        known = [Gold(f"What is {n} + {n}?", f"{2 * n}", "No idea.") for n in range(golds)]
        # Names and seeds are drawn by chance; here they are counted, so that every run of a test
        # sees the same pairs in the same order.
        with mock.patch("harness.ratings.session.secrets.token_hex", self._counted):
            made = ratings.create(self.store, self.runs, Rules(**rules), golds=known)
        for rater in raters:
            link = {"link": f"link-{rater}", "expires_at": 2**40}
            ratings.record(self.store, made, "invited", rater=rater, config=link)
            ratings.record(self.store, made, "consented", rater=rater)
        return made


@cache
def _template() -> tuple[RatedRuns, tempfile.TemporaryDirectory[str]]:
    folder = tempfile.TemporaryDirectory()
    rated = RatedRuns(Path(folder.name))
    rated.store.close()
    return rated, folder
