"""Tasks of lm-evaluation-harness as rows: what it asks of each document, word for word.

A row holds `id`, `messages` (description, few-shot examples and question as turns, as with its
`--apply_chat_template`), `prefill` (how an answer begins, mostly nothing), `context` (all of it as
one text, for base models with `raw`), and

  multiple_choice        `choices`, the texts behind `messages`, `continuations`, those behind
                         `context`, and `answer`, the right one's number from 0
  generate_until         `target`, the wanted answer
  loglikelihood          `target`, the text whose likelihood is asked for
  loglikelihood_rolling  `text`

besides the document's own fields, and `lm_eval`, by which the metric `lm_eval:NAME` finds it again.
Needs the extra `lm-eval`; a task's data come from where lm-eval gets them, which is mostly the hub.
Task files in a folder `lm_eval` beside the suite are known by name too, before its own of the same
name.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.digests import digest_of
from harness.core.errors import UserError
from harness.core.types import Row

PREFIX = "lm_eval:"
OWN_TASKS = "lm_eval"
_SHOTS_SEED = 1234
_ANSWER_LENGTH = 256
"""Tokens of an answer where a task says nothing of it, as lm-eval's own models have it."""


@dataclass(frozen=True)
class LoadedTask:
    """A task as lm-eval loaded it, with its documents in order, and its name as it was asked for.

    `filters` are its ways to read an answer, by name; without any there is one, "none".
    """

    name: str
    kind: str
    task: Any
    documents: Sequence[Any]

    @property
    def filters(self) -> dict[str, Any]:
        return {one.name: one for one in self.task._filters}

    def generation(self) -> dict[str, Any]:
        """How the task's answers are written, by the keys of a suite's `generate`; empty for a
        task whose answers are given. Raises UserError for what a suite can't say.
        """
        if self.kind != "generate_until":
            return {}
        given = dict(self.task.config.generation_kwargs or {})
        until = given.get("until") or []
        names = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
        length = next((given[name] for name in names if given.get(name)), _ANSWER_LENGTH)
        said: dict[str, Any] = {
            "stop": [one for one in ([until] if isinstance(until, str) else until) if one],
            "max_new_tokens": int(length),
        }
        if given.get("do_sample", bool(given.get("temperature"))):
            said["temperature"] = float(given.get("temperature") or 1.0)
            said |= {key: given[key] for key in ("top_p", "top_k") if given.get(key)}
            said["responses"] = int(self.task.config.repeats or 1)
        return said


_LOADED: dict[str, LoadedTask] = {}


def loaded_task(row: Mapping[str, Any]) -> LoadedTask | None:
    """The task that a row of this process was read from; None where it comes from elsewhere."""
    named = row.get("lm_eval")
    return _LOADED.get(str(named.get("task"))) if isinstance(named, Mapping) else None


def is_lm_eval(data: str) -> bool:
    """Whether a task's `data` is `lm_eval:TASK[:SHOTS]` or `lm_eval:FILE.yaml[:SHOTS]`."""
    return data.startswith(PREFIX)


def read_lm_eval(data: str, folder: Path) -> list[tuple[int, Row]]:
    """(number from 1, row) of each of the task's documents.

    A FILE is relative to `folder`; SHOTS replaces the task's own number of few-shot examples.
    Raises UserError where the task can't be loaded or is not of a kind that can be read here.
    """
    with _seeded():
        task, name = _task(data, folder)
        kind = str(task.OUTPUT_TYPE)
        if kind not in _READERS:
            raise UserError(
                f"{name} is a task of the kind {kind!r}",
                field="data",
                hint=f"kinds that can be read are: {', '.join(_READERS)}",
            )
        try:
            documents = list(task.eval_docs)
            texts, turns = _contexts(task, documents, chat=False), _contexts(task, documents)
            rows = [
                {**_plain(document), "id": str(number), **_READERS[kind](task, document, text)}
                | _asked(said)
                for number, (document, text, said) in enumerate(
                    zip(documents, texts, turns, strict=True), start=1
                )
            ]
        except Exception as error:
            # Templates, samplers and code of anybody's task: what is wrong is the task's affair.
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{name} can't be read as rows: {said}",
                field="data",
                hint="the task's own file decides this: `lm_eval validate --tasks NAME` checks it",
            ) from error
    key = digest_of([kind, _rules(task), rows])[:16]
    _LOADED[key] = LoadedTask(name, kind, task, documents)
    return [
        (number, {**row, "lm_eval": {"task": key, "document": number - 1}})
        for number, row in enumerate(rows, start=1)
    ]


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Tasks that shuffle their choices draw as under lm-eval's own seed, and nobody else does."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


def _contexts(task: Any, documents: Sequence[Any], *, chat: bool = True) -> list[Any]:
    """What is asked for each document: turns, or without `chat` a text."""
    # lm-eval draws the few-shot examples at random, one document after another.
    task.set_fewshot_seed(_SHOTS_SEED)
    shots = int(task.config.num_fewshot or 0)
    as_turns = {"apply_chat_template": True, "fewshot_as_multiturn": True, "chat_template": _turns}
    found = [
        task.fewshot_context(
            document, shots, gen_prefix=task.doc_to_prefix(document), **(as_turns if chat else {})
        )
        for document in documents
    ]
    if task.multiple_input:
        raise ValueError("its question has several wordings")
    return found


def _turns(history: list[dict[str, str]], **_said: Any) -> list[dict[str, str]]:
    """In place of a model's chat template: the turns themselves."""
    return history


def _asked(turns: list[dict[str, str]]) -> Row:
    begun = turns[-1]["content"] if turns[-1]["role"] == "assistant" else ""
    return {"messages": turns[:-1] if begun else turns, "prefill": begun}


def _rules(task: Any) -> str:
    """What of a task decides a score, beside its documents: filters, metrics, the code for them."""
    config = task.dump_config()
    names = ("filter_list", "metric_list", "process_results", "generation_kwargs")
    said = {name: config.get(name) for name in names}
    text = json.dumps([said, str(task.VERSION)], default=str, sort_keys=True)
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _task(data: str, folder: Path) -> tuple[Any, str]:
    name, _, shots = data.removeprefix(PREFIX).partition(":")
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise UserError(
            f"lm-evaluation-harness is not installed: {error}",
            hint="pip install 'ratchet-eval[lm-eval]'",
        ) from None
    if shots and not shots.isdigit():
        raise UserError(
            f"{shots!r} is not a number of few-shot examples",
            field="data",
            hint=f"write `{PREFIX}{name}:5`, or leave the number out",
        )
    try:
        # lm-eval prints every default that it takes; what matters is in the errors below.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            if name.endswith((".yaml", ".yml")):
                path = (folder / name).resolve()
                if not path.is_file():
                    raise UserError(
                        "there is no such task file",
                        file=path,
                        hint="the path is relative to the suite's folder",
                    )
                loaded = TaskManager(include_defaults=False).load(str(path))["tasks"]
            else:
                own = folder / OWN_TASKS
                found = TaskManager(include_path=own if own.is_dir() else None)
                loaded = found.load(name)["tasks"]
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 -- its errors, and those of every data source
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"lm-eval can't load {name!r}: {reason}",
            field="data",
            hint="`lm_eval ls tasks` lists its tasks; most fetch their data from the hub",
        ) from None
    if len(loaded) != 1:
        raise UserError(
            f"{name!r} is a group of {len(loaded)} tasks",
            field="data",
            hint=f"name one: {', '.join(sorted(loaded)[:8])}",
        )
    (task,) = loaded.values()
    if shots:
        task.set_config(key="num_fewshot", value=int(shots))
    return task, name


def _multiple_choice(task: Any, document: Row, context: str) -> Row:
    choices = [str(choice) for choice in task.doc_to_choice(document)]
    answer = task.doc_to_target(document)
    number = None
    if not isinstance(answer, list):
        number = choices.index(answer) if isinstance(answer, str) else int(answer)
        if not 0 <= number < len(choices):
            raise ValueError(f"its right choice has the number {number}, of {len(choices)}")
    between = task.config.target_delimiter
    begun = task.config.gen_prefix
    behind_turn = between if begun and not begun[-1:].isspace() else ""
    # Spaces at a text's end belong to what follows, as lm-eval cuts it.
    bare = context.rstrip()
    between = context[len(bare) :] + between
    return {
        "context": bare,
        "choices": [behind_turn + choice for choice in choices],
        "continuations": [between + choice for choice in choices],
        "answer": number,
    }


def _generate(task: Any, document: Row, context: str) -> Row:
    target = task.doc_to_target(document)
    said = target if isinstance(target, str) else json.dumps(target, default=str)
    return {"context": context, "target": said}


def _text(task: Any, document: Row, context: str) -> Row:
    return {"context": context, "text": str(task.doc_to_target(document))}


_READERS = {
    "multiple_choice": _multiple_choice,
    "generate_until": _generate,
    "loglikelihood": _generate,
    "loglikelihood_rolling": _text,
}


def _plain(document: Row) -> Row:
    """The document's fields that JSON can hold; others, such as pictures, are left out."""
    plain = {}
    for key, value in document.items():
        with contextlib.suppress(TypeError, ValueError):
            plain[str(key)] = json.loads(json.dumps(value))
    return plain
