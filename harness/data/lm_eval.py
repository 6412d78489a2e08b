"""Tasks of lm-evaluation-harness as rows: its documents and prompts, Ratchet's scoring.

A row holds `id`, `context` (few-shot examples and question, as lm-eval words them), and

  multiple_choice        `choices`, a list of texts, and `answer`, the right one's number from 0
  generate_until         `target`, the wanted answer
  loglikelihood          `target`, the text whose likelihood is asked for
  loglikelihood_rolling  `text`

besides the document's own fields. Needs the extra `lm-eval`; a task's data come from where lm-eval
gets them, which is mostly the hub. Task files in a folder `lm_eval` beside the suite are known by
name too, before its own of the same name.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Row

PREFIX = "lm_eval:"
OWN_TASKS = "lm_eval"
_SHOTS_SEED = 1234


def is_lm_eval(data: str) -> bool:
    """Whether a task's `data` is `lm_eval:TASK[:SHOTS]` or `lm_eval:FILE.yaml[:SHOTS]`."""
    return data.startswith(PREFIX)


def read_lm_eval(data: str, folder: Path) -> list[tuple[int, Row]]:
    """(number from 1, row) of each of the task's documents.

    A FILE is relative to `folder`; SHOTS replaces the task's own number of few-shot examples.
    Raises UserError where the task can't be loaded or is not of a kind that can be read here.
    """
    task, name = _task(data, folder)
    kind = str(task.OUTPUT_TYPE)
    if kind not in _READERS:
        raise UserError(
            f"{name} is a task of the kind {kind!r}",
            field="data",
            hint=f"kinds that can be read are: {', '.join(_READERS)}",
        )
    rows = []
    try:
        # lm-eval draws the few-shot examples at random: always from the same seed here.
        task.set_fewshot_seed(_SHOTS_SEED)
        shots = int(task.config.num_fewshot or 0)
        for number, document in enumerate(task.eval_docs, start=1):
            context = task.fewshot_context(document, shots)
            if not isinstance(context, str):
                raise ValueError("its question has several wordings")
            found = {"id": str(number), "context": context, **_READERS[kind](task, document)}
            rows.append((number, {**_plain(document), **found}))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"{name} can't be read as rows: {error}", field="data") from error
    return rows


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


def _multiple_choice(task: Any, document: Row) -> Row:
    choices = [str(choice) for choice in task.doc_to_choice(document)]
    answer = task.doc_to_target(document)
    number = choices.index(answer) if isinstance(answer, str) else int(answer)
    if not 0 <= number < len(choices):
        raise ValueError(f"its right choice has the number {number}, of {len(choices)}")
    return {"choices": choices, "answer": number}


def _generate(task: Any, document: Row) -> Row:
    target = task.doc_to_target(document)
    return {"target": target if isinstance(target, str) else json.dumps(target, default=str)}


def _text(task: Any, document: Row) -> Row:
    return {"text": str(task.doc_to_target(document))}


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
