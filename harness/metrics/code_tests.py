"""Whether the program in an answer passes the problem's hidden tests, run in the sandbox."""

from __future__ import annotations

import ast
import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.core.errors import UserError
from harness.core.types import Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.code_extraction import programs
from harness.metrics.support.items import Outcome as ItemOutcome
from harness.metrics.support.items import Pair, score_responses
from harness.metrics.support.python_text import ships_with_python

if TYPE_CHECKING:
    from harness.sandbox.outcome import Job, Limits, Outcome

Programs = tuple[str, ...]
"""What an answer may be meant to give, the likeliest program first; empty where it gives none."""

READS = ("tests", "cases", "entry_point", "setup", "prompt_code", "cpu_s")
NO_CODE = "fail:no-code"
STATISTICS = ("cpu_s", "wall_s", "peak_mib", "cooperative")
_MIB = 1024 * 1024
_REFERENCE_CPU_S = 60.0
_REMEMBERED = 20_000
_known: OrderedDict[str, Result] = OrderedDict()


def forget() -> None:
    """Forget what this process knows of programs: they run again."""
    _known.clear()


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one program over all its runs; the first failure among them decides.

    Times in seconds and memory in bytes, each the largest over the runs. `cooperative` says that a
    run was judged within the program's own process; `counts`, that no run was lost to the machine.
    """

    label: str
    detail: str
    cpu_s: float
    wall_s: float
    peak_memory_bytes: int
    cooperative: bool
    counts: bool
    chosen: int = 0

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Result:
        """The result of these runs. If a run was lost nothing is known of the program; else the
        first failure counts, or the first run where all passed.
        """
        lost = next((o for o in outcomes if not o.counts), None)
        first = lost or next((o for o in outcomes if not o.passed), outcomes[0])
        return cls(
            first.label,
            " ".join(first.detail.split())[:200],
            max(o.cpu_s for o in outcomes),
            max(o.wall_s for o in outcomes),
            max(o.peak_memory_bytes for o in outcomes),
            any(o.verdict == "cooperative" for o in outcomes),
            lost is None,
            first.chosen,
        )

    @property
    def said(self) -> str:
        return f"{self.label} ({self.detail})" if self.detail else self.label


@dataclass(frozen=True, slots=True)
class CodeTests:
    """Share of answers whose program passes the sample's tests: pass@1 over single answers.

    A sample's row holds `tests` (Python that calls `candidate` or the entry point by its name) and
    `entry_point`, or `cases` (a list of {stdin, stdout}) for a whole program; and, where there is
    one, `prompt_code`, which an answer may go on with, and `setup`, trusted code that runs first.

    solutions  a JSONL file of {id, reference}: a correct program of each problem, kept apart from
               the prompts. A row may hold its own `reference`. CPU time is limited to `slack` times
               what the reference takes on this machine (at least 1 s), and a problem whose
               reference doesn't pass here is an error, never a failure of the model. Without a
               reference the limit is the row's `cpu_s`, or 10 s
    workers    programs that run at once
    minimum    the least tier of sandbox that is taken

    Where an answer may be read in several ways, the first program is judged that loads and defines
    the entry point (`support.code_extraction.programs` says in which order, and how many at most);
    the tests never choose. A score's reason says which it was, where it was not the first.

    What the machine lost (`infra`) or was too busy to run (`timeout:wall-busy`) is an error, too. A
    scored answer that did not pass keeps its label in the score's reason, and so does one that was
    judged in the program's own process.
    """

    solutions: str | None = None
    workers: int = 2
    minimum: Literal["A", "B", "C"] = "B"
    slack: float = 10.0

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}", field="workers")
        if not self.slack >= 1:
            raise UserError(f"slack must be at least 1, not {self.slack}", field="slack")
        if self.solutions is not None:
            _references(self.solutions)
        _tier(self.minimum)

    @property
    def spec(self) -> MetricSpec:
        known = _digest(_references(self.solutions))[:8] if self.solutions else "rows"
        options = (
            ("tier", _tier(self.minimum)),
            ("verdict", "auto"),
            ("limit", f"{self.slack:g}x"),
            ("solutions", known),
        )
        return MetricSpec(
            "code_tests", "higher", stats=STATISTICS, version="3", options=options, reads=READS
        )

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        # A program may speak of `</think>`: what is thought is told apart with the code at hand.
        return score_responses(items, self._outcomes, thoughts=True)

    def _outcomes(self, pairs: list[Pair]) -> list[ItemOutcome]:
        found = [
            programs(
                response.text,
                entry_point=sample.fields.get("entry_point"),
                prompt=sample.fields.get("prompt_code") or "",
            )
            if _runnable(sample)
            else ()
            for sample, response in pairs
        ]
        samples = {s.id: s for (s, _), some in zip(pairs, found, strict=True) if some}
        limits = self._limits(list(samples.values())) if samples else {}
        wanted = [
            (sample, some, limit)
            for (sample, _), some in zip(pairs, found, strict=True)
            if some and not isinstance(limit := limits[sample.id], str)
        ]
        results = iter(self._run(wanted))
        return [
            _evidence(sample, some, limits.get(sample.id), results)
            for (sample, _), some in zip(pairs, found, strict=True)
        ]

    def _limits(self, samples: Sequence[Sample]) -> dict[str, Limits | str]:
        """Per sample its limits, or why its reference does not pass here."""
        from harness.sandbox.outcome import Limits

        given = _references(self.solutions) if self.solutions else {}
        references = {s.id: given.get(s.id) or s.fields.get("reference") for s in samples}
        generous = Limits(cpu_s=_REFERENCE_CPU_S, wall_s=_REFERENCE_CPU_S)
        limits: dict[str, Limits | str] = {
            s.id: _not_here(s) or Limits(cpu_s=float(s.fields.get("cpu_s") or 10)) for s in samples
        }
        solved = [s for s in samples if references[s.id] and not isinstance(limits[s.id], str)]
        ran = self._run([(s, (str(references[s.id]),), generous) for s in solved])
        for sample, result in zip(solved, ran, strict=True):
            limits[sample.id] = (
                _scaled(result, self.slack)
                if result.label == "pass"
                else f"the problem's own reference does not pass here: {result.said}"
            )
        return limits

    def _run(self, wanted: Sequence[tuple[Sample, Programs, Limits]]) -> list[Result]:
        """The result of each answer; equal ones run once, and never again in this process."""
        from harness.sandbox.pool import Sandbox

        keys = [_digest([_tier(self.minimum), *_asked(*one)]) for one in wanted]
        jobs = {
            key: list(_jobs(*one))
            for key, one in zip(keys, wanted, strict=True)
            if key not in _known
        }
        results = {key: _known[key] for key in keys if key in _known}
        if jobs:
            with Sandbox(self.workers, minimum=self.minimum) as sandbox:
                outcomes = iter(sandbox.run_many([job for some in jobs.values() for job in some]))
            for key, some in jobs.items():
                results[key] = Result.of([next(outcomes) for _ in some])
                if results[key].counts:
                    _known[key] = results[key]
            while len(_known) > _REMEMBERED:
                _known.popitem(last=False)
        return [results[key] for key in keys]


def _evidence(
    sample: Sample, found: Programs, limit: Limits | str | None, results: Iterator[Result]
) -> Evidence:
    if not _runnable(sample):
        return Evidence.unscored(None, "the sample's row has neither `tests` nor `cases`")
    if not found:
        return Evidence(None, 0.0, reason=NO_CODE, stats=(0.0,) * len(STATISTICS))
    if isinstance(limit, str):
        return Evidence.error(None, limit)
    result = next(results)
    if not result.counts:
        return Evidence.lost(None, f"this machine could not run the program: {result.said}")
    stats = (
        result.cpu_s,
        result.wall_s,
        result.peak_memory_bytes / _MIB,
        float(result.cooperative),
    )
    remarks = [
        *(["cooperative"] if result.cooperative else []),
        *([f"program {result.chosen + 1} of {len(found)} in the answer"] if result.chosen else []),
    ]
    plain = result.label == "pass" and not remarks
    reason = None if plain else result.said + "".join(f" [{remark}]" for remark in remarks)
    return Evidence(None, float(result.label == "pass"), reason=reason, stats=stats)


def _runnable(sample: Sample) -> bool:
    return bool(sample.fields.get("tests") or sample.fields.get("cases"))


def _scaled(reference: Result, slack: float) -> Limits:
    from harness.sandbox.outcome import Limits, Outcome

    took = Outcome("pass", cpu_s=reference.cpu_s, peak_memory_bytes=reference.peak_memory_bytes)
    return Limits.from_reference(took, factor=slack)


def _jobs(sample: Sample, found: Programs, limits: Limits) -> Iterator[Job]:
    from harness.sandbox.outcome import Job

    fields = sample.fields
    program, *others = found
    if not fields.get("tests"):
        for case in fields["cases"]:
            yield Job.of_stdio(program, case["stdin"], case["stdout"], limits=limits)
        return
    yield Job.of_tests(
        program,
        fields["tests"],
        fields.get("entry_point") or "",
        setup=fields.get("setup") or "",
        limits=limits,
        others=tuple(others),
    )


def _not_here(sample: Sample) -> str | None:
    """Why the problem itself can't run in the sandbox; None where nothing is known against it."""
    for name in ("tests", "setup", "prompt_code"):
        missing = _foreign(str(sample.fields.get(name) or ""))
        if missing:
            return (
                f"the problem can't run here: its {name} import {', '.join(missing)}, and programs"
                " have the standard library only"
            )
    return None


@lru_cache(maxsize=1024)
def _foreign(source: str) -> tuple[str, ...]:
    """Modules that a trusted text imports, not to go without them, and that do not ship with it."""
    try:
        body = list(ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError):
        return ()
    found: set[str] = set()
    while body:
        node = body.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
        elif not isinstance(node, ast.Try):
            body += [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)]
    return tuple(sorted(module for module in found if not ships_with_python(module)))


def _asked(sample: Sample, found: Programs, limits: Limits) -> list[Any]:
    """All that decides a result. Limits are part of it; they stay the same within a process,
    because each reference is measured only once.
    """
    fields = (sample.fields.get(name) for name in READS)
    return [list(found), *fields, limits.cpu_s, limits.memory_bytes]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=8)
def _references(path: str) -> Mapping[str, str]:
    from harness.data.rows import read_rows

    found: dict[str, str] = {}
    for line, row in read_rows(Path(path)):
        if not (isinstance(row.get("id"), str) and isinstance(row.get("reference"), str)):
            raise UserError(
                "a solution is a row with the texts `id` and `reference`", file=path, line=line
            )
        found[row["id"]] = row["reference"]
    return found


@lru_cache(maxsize=3)
def _tier(minimum: Literal["A", "B", "C"]) -> str:
    """The sandbox tier that this machine provides, found out once a process by starting one."""
    from harness.sandbox.pool import Sandbox

    with Sandbox(workers=1, minimum=minimum) as sandbox:
        return sandbox.tier
