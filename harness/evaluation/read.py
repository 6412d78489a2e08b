"""What of a task's answers is scored, and what is said where nothing is left of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from harness.core.errors import UserError
from harness.core.types import NOTE, Response, ScoreOutcome
from harness.evaluation.plan import Wanted
from harness.metrics.base import Evidence
from harness.metrics.support.silence import COUNTED_AS_WORST, NOTHING_SAID
from harness.suite.answers import CUT, read
from harness.suite.suite import Task

_SHOWN = 80


class Readings:
    """Reads the answers of one task, each once, and remembers what was wrong with it."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.problems: dict[str, str] = {}
        self._known: dict[str, Response] = {}

    def of(self, response: Response) -> Response:
        """The response as the metrics see it; `whole` holds what the model wrote."""
        if response.kind != "generation" or response.error is not None:
            return response
        known = self._known.get(response.key)
        if known is None:
            filters = self.task.answer
            found = read(response.text) if filters is None else filters.read(response.text)
            if found.problem is not None:
                self.problems[response.key] = found.problem
            known = response
            if found.text != response.text:
                known = replace(response, text=found.text, whole=response.text)
            self._known[response.key] = known
        return known

    def explained(self, evidence: Evidence, response: Response) -> Evidence:
        """A metric's evidence for one response, with the reason why nothing of it was read."""
        problem = self.problems.get(response.key)
        if problem is None or evidence.outcome is ScoreOutcome.ERROR:
            return evidence
        cut = problem == CUT and self.task.answer is not None and self.task.answer.cut
        if cut == "unscored":
            return Evidence.unscored(evidence.response_index, problem)
        if evidence.reason == NOTHING_SAID:
            return replace(evidence, reason=problem)
        if evidence.value is not None and evidence.reason in (None, COUNTED_AS_WORST):
            worst = ", which counts as the worst value" if evidence.reason else ""
            return replace(evidence, reason=f"{NOTE}{problem}{worst}")
        return evidence


def require_few_cut(wanted: Iterable[Wanted], responses: Mapping[str, Response]) -> None:
    """Raise UserError where more of a task's answers are cut in their thought than it allows."""
    for task, answers in _by_task(wanted, responses):
        if task.answer is None or task.answer.cut_at_most is None:
            continue
        cut = [one for one in answers if task.answer.read(one.text).problem == CUT]
        if len(cut) > task.answer.cut_at_most * len(answers):
            raise UserError(
                f"{len(cut)} of {len(answers)} answers ({len(cut) / len(answers):.0%}) are cut in "
                f"their thought, more than {task.answer.cut_at_most:.0%}; the first is that of "
                f"sample {cut[0].sample_id!r}",
                field=f"tasks.{task.name}.answer.cut_at_most",
                hint=f"raise generate.max_new_tokens (now {task.settings.max_new_tokens}), or "
                "switch thinking off: prompt.template: {enable_thinking: false}",
            )


def complaints(wanted: Iterable[Wanted], responses: Mapping[str, Response]) -> list[str]:
    """A sentence for each task whose filters find nothing in any of its answers."""
    said = []
    for task, answers in _by_task(wanted, responses):
        if task.answer is None or not answers:
            continue
        found = [(one, task.answer.read(one.text).problem) for one in answers]
        ended = [(one, problem) for one, problem in found if problem != CUT]
        if ended and all(problem is not None for _, problem in ended):
            (first, problem), n = ended[0], len(ended)
            shown = " ".join(first.text.split())
            shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
            cut = len(found) - n
            others = f" ({cut} more are cut in their thought)" if cut else ""
            said.append(
                f"task {task.name}: {(problem or '').replace('the answer', f'any of {n} answers')} "
                f"(100%){others}; sample {first.sample_id} was answered {shown!r}. If the filter "
                "is wrong, mend `answer` in the suite and score again: the answers are kept"
            )
    return said


def _by_task(
    wanted: Iterable[Wanted], responses: Mapping[str, Response]
) -> Iterable[tuple[Task, list[Response]]]:
    found: dict[str, tuple[Task, list[Response]]] = {}
    for want in wanted:
        response = responses.get(want.key)
        if want.kind == "generation" and response is not None and response.error is None:
            found.setdefault(want.task.name, (want.task, []))[1].append(response)
    return found.values()
