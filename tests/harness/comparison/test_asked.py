"""Same questions or incomparable: the token ids that models really read decide."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from harness.backends.base import Candidate
from harness.backends.scripted import ScriptedBackend
from harness.comparison.asked import compare_asked
from harness.comparison.service import gate
from harness.core.types import AS_USUAL, PromptOptions, Run
from harness.core.workspace import Workspace
from harness.evaluation.open_model import open_model
from harness.evaluation.runner import score
from harness.store.bundle import export_run
from harness.store.store import Store
from harness.suite.load import load_suite
from harness.suite.suite import Suite
from tests.harness.suite_builders import Ratchet, suite_yaml, write_jsonl
from tests.tiny import CHAT_TEMPLATE

POLITE = CHAT_TEMPLATE.replace("assistant\n", "assistant\nWell, ")
DATED = "{{ '<|im_start|>system\\nToday is ' + strftime_now('%d %b %Y') + '<|im_end|>\\n' }}"


class Writes(ScriptedBackend):
    """A scripted model whose template writes a line of its own before every prompt."""

    line, tokens = "", "bytes"

    @property
    def vocabulary(self) -> str:
        return self.tokens

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        return (*self.encode(self.line), *super().encode_chat(messages, options))


class Silent(ScriptedBackend):
    """A backend as a package may bring it, which doesn't say what it asks."""

    vocabulary = as_read = None  # type: ignore[assignment]


def quiz(folder: Path, **task: object) -> Suite:
    rows = [{"id": f"q{n:02}", "q": f"number {n}?", "a": f"{n}"} for n in range(30)]
    write_jsonl(folder / "quiz.jsonl", rows)
    whole = {
        "data": "quiz.jsonl",
        "prompt": {"user": "{{ q }}"},
        "generate": {"max_new_tokens": 4},
        "reference": "{{ a }}",
        "metrics": ["exact_match", "length"],
        **task,
    }
    return load_suite(suite_yaml(folder, tasks={"quiz": whole}, gate={}))


def writes(line: str, *, tokens: str = "bytes", name: str = "m") -> Candidate:
    backend = Writes(lambda prompt, seed: prompt.partition("number ")[2].partition("?")[0])
    backend.line, backend.tokens = line, tokens
    return Candidate(name, f"digest of {name}{line}", backend.subject, lambda: backend)


def test_the_same_questions_are_compared_without_a_word(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    verdict = gate(writes("", name="b"), writes(""), store=store, suite=suite).verdict
    assert verdict.outcome.value != "incomparable"
    assert "prompts" not in verdict.notes


@pytest.mark.parametrize("stored", [False, True])
def test_another_template_over_the_same_tokens_is_incomparable(
    tmp_path: Path, store: Store, stored: bool
) -> None:
    suite = quiz(tmp_path)
    sides: list[Any] = [writes("Today is Monday.\n", name="b"), writes("Today is Sunday.\n")]
    if stored:
        sides = [score(side, suite, store).run for side in sides]
    verdict = gate(*sides, store=store, suite=suite).verdict
    assert verdict.outcome.value == "incomparable"
    assert "quiz: 30 of 30 samples were asked in other tokens, such as 'q00'" in verdict.headline
    assert "part after 9 characters: anchor 'Sunday." in verdict.headline
    assert "candidate 'Monday." in verdict.headline
    assert "one chat template" in verdict.settle


def test_a_reference_read_after_another_prompt_is_incomparable(
    tmp_path: Path, store: Store
) -> None:
    suite = quiz(tmp_path, metrics=["reference_nll"])
    verdict = gate(writes("", name="b"), writes("Hm. "), store=store, suite=suite).verdict
    assert verdict.outcome.value == "incomparable"
    assert "anchor 'Hm. user: number" in verdict.headline


def test_a_given_text_has_no_template(tmp_path: Path, store: Store) -> None:
    task = {"data": "quiz.jsonl", "text": "{{ q }}", "metrics": ["perplexity"]}
    quiz(tmp_path)
    suite = load_suite(suite_yaml(tmp_path, tasks={"read": task}, gate={}))
    verdict = gate(writes("", name="b"), writes("Hm. "), store=store, suite=suite).verdict
    assert verdict.outcome.value != "incomparable"
    assert store.query("SELECT count(asked) AS n FROM responses")[0]["n"] == 60


def test_models_of_other_tokens_are_compared_with_a_note(tmp_path: Path, store: Store) -> None:
    other = writes("<s>", tokens="other", name="b")
    verdict = gate(other, writes(""), store=store, suite=quiz(tmp_path)).verdict
    assert verdict.outcome.value != "incomparable"
    assert "its own template" in verdict.notes["prompts"]


@pytest.mark.parametrize("both", [True, False])
def test_where_it_is_not_known_what_was_asked_there_is_a_note(
    tmp_path: Path, store: Store, both: bool
) -> None:
    def silent(name: str) -> Candidate:
        backend = Silent(lambda prompt, seed: "1")
        return Candidate(name, f"digest of {name}", backend.subject, lambda: backend)

    anchor = silent("a") if both else writes("")
    verdict = gate(silent("b"), anchor, store=store, suite=quiz(tmp_path)).verdict
    assert verdict.outcome.value != "incomparable"
    assert "isn't known" in verdict.notes["prompts"]


def test_one_sample_that_was_asked_otherwise_is_enough(tmp_path: Path, store: Store) -> None:
    class Once(Writes):
        def encode_chat(
            self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
        ) -> tuple[int, ...]:
            odd = "number 17?" in messages[-1]["content"]
            return (*self.encode("!" * odd), *super().encode_chat(messages, options))

    backend = Once()
    odd = Candidate("odd", "digest of odd", backend.subject, lambda: backend)
    verdict = gate(odd, writes(""), store=store, suite=quiz(tmp_path)).verdict
    assert verdict.outcome.value == "incomparable"
    assert "1 of 30 samples were asked in other tokens, such as 'q17'." in verdict.headline


def test_a_bundle_carries_what_was_asked(tmp_path: Path, store: Store, ratchet: Ratchet) -> None:
    suite = quiz(tmp_path)
    for line, name in (("", "a"), ("Hm. ", "b")):
        export_run(store, score(writes(line), suite, store).run.id, tmp_path / name)
    code, said = ratchet("gate", "bundle:b", "--against", "bundle:a")
    assert code == 3, said
    assert "candidate 'Hm. user: number" in said


def test_runs_of_before_are_compared_with_a_note(tmp_path: Path, store: Store) -> None:
    suite = quiz(tmp_path)
    runs = [score(writes(line), suite, store).run for line in ("", "Hm. ")]
    for name in "ab":
        _forget(export_run(store, runs["ab".index(name)].id, tmp_path / name))
    with Store(tmp_path / "elsewhere") as other:
        names = [f"bundle:{tmp_path / name}" for name in "ba"]
        verdict = gate(*names, store=other).verdict
    assert verdict.outcome.value != "incomparable"
    assert "isn't known" in verdict.notes["prompts"]


def _forget(bundle: Path) -> None:
    """Make a bundle as the version before wrote it: its responses have no such columns."""
    import hashlib
    import json

    import pyarrow.parquet as parquet

    from harness.store.bundle import sealed

    path = bundle / "responses.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["asked", "prompt"]), path)
    content = json.loads((bundle / "run.json").read_text(encoding="utf-8"))
    content["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (bundle / "run.json").write_text(sealed(content), encoding="utf-8")


def test_a_store_of_before_is_migrated_and_exports(tmp_path: Path, workspace: Workspace) -> None:
    import duckdb

    suite = quiz(tmp_path)
    with Store(workspace) as store:
        run = score(writes(""), suite, store).run
        store.drain()
    with duckdb.connect(str(workspace.database)) as connection:
        for column in ("asked", "prompt"):
            connection.execute(f"ALTER TABLE responses DROP COLUMN {column}")
        connection.execute("UPDATE schema_version SET version = 7")
    with Store(workspace) as store:
        assert score(writes(""), suite, store).fresh == 0
        other = score(writes("", name="b"), suite, store).run
        assert compare_asked(store, run, other).note is not None
        assert export_run(store, run.id, tmp_path / "bundle").is_dir()


@pytest.fixture
def folders(tiny_llama: Path, tmp_path: Path) -> dict[str, Path]:
    """The tiny model as it is, and with other chat templates."""
    found = {"plain": tiny_llama}
    for name, template in (("polite", POLITE), ("dated", DATED + CHAT_TEMPLATE)):
        found[name] = shutil.copytree(tiny_llama, tmp_path / name)
        tokenizer: Any = AutoTokenizer.from_pretrained(found[name])
        tokenizer.chat_template = template
        tokenizer.save_pretrained(found[name])
    return found


def test_a_model_with_another_template_is_refused_by_the_gate(
    tmp_path: Path, folders: Mapping[str, Path], ratchet: Ratchet
) -> None:
    suite = quiz(tmp_path).path
    words = ("--against", folders["plain"], "--suite", suite, "--device", "cpu")
    code, said = ratchet("gate", folders["polite"], *words)
    assert code == 3, said
    assert "not scored in the same way" in said
    assert "anchor its end, candidate 'Well, '" in said
    code, said = ratchet("gate", folders["dated"], *words)
    assert code == 3, said
    assert "Today is 01 Jan 2026" in said


def test_two_more_tokens_leave_the_vocabulary_what_it_was(
    tmp_path: Path, tiny_llama: Path, store: Store, workspace: Workspace
) -> None:
    from transformers import AutoModelForCausalLM

    suite = quiz(tmp_path)
    runs = []
    for name, extra in (("less", 0), ("more", 2)):
        folder = tmp_path / name
        tokenizer: Any = AutoTokenizer.from_pretrained(tiny_llama)
        tokenizer.add_tokens(["<tool>", "</tool>"][:extra], special_tokens=True)
        model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        runs.append(score(open_model(str(folder), workspace, store), suite, store).run)
    assert compare_asked(store, *runs) == compare_asked(store, runs[0], runs[0])


def test_a_template_that_writes_the_day_writes_one_day(
    tmp_path: Path,
    folders: Mapping[str, Path],
    store: Store,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    suite = quiz(tmp_path)
    asked: list[Any] = []
    runs: list[Run] = []
    for day in (3, 4):
        _today(monkeypatch, datetime(2031, 5, day))
        candidate = open_model(str(folders["dated"]), workspace, store)
        assert candidate.subject["today"] == "2026-01-01"
        asked.append(candidate.open().encode_chat([{"role": "user", "content": "hi"}]))
        report = score(candidate, suite, store)
        runs.append(report.run)
    assert asked[0] == asked[1]
    assert (runs[0].id, report.fresh) == (runs[1].id, 0)
    assert "today" not in open_model(str(folders["plain"]), workspace, store).subject
    (row,) = store.query("SELECT prompt FROM responses WHERE prompt IS NOT NULL")
    assert row["prompt"].startswith("<|im_start|>system\nToday is 01 Jan 2026<|im_end|>\n")


def test_another_template_never_finds_cached_answers(
    tmp_path: Path, folders: Mapping[str, Path], store: Store, workspace: Workspace
) -> None:
    suite = quiz(tmp_path)
    folder = shutil.copytree(folders["plain"], tmp_path / "in place")
    assert score(open_model(str(folder), workspace, store), suite, store).generated == 30
    assert score(open_model(str(folder), workspace, store), suite, store).fresh == 0
    shutil.copy(folders["polite"] / "chat_template.jinja", folder)
    assert score(open_model(str(folder), workspace, store), suite, store).reused == 0


def _today(monkeypatch: pytest.MonkeyPatch, day: datetime) -> None:
    from transformers.utils import chat_template_utils

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return day

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
