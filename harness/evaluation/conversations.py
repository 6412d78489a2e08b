"""Plays a conversation whose other side is written down: ask, append the answer, ask again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from harness.backends.base import Backend, Generation, GenerationRequest
from harness.core.thoughts import without_thoughts
from harness.core.types import Response
from harness.evaluation.asked import Asking
from harness.evaluation.plan import Wanted, empty_response, seed_of
from harness.evaluation.prompts import prompt_ids
from harness.metrics.support.turns import together

_AT_ONCE = 64
"""So many conversations are played side by side; a crash loses no more of them."""


@dataclass
class _Playing:
    """One conversation so far."""

    want: Wanted
    seed: int
    first: tuple[int, ...] = ()
    answers: list[Generation] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        failed = any(answer.error is not None for answer in self.answers)
        return not failed and len(self.answers) <= len(self.want.sample.options.then)

    def request(self, backend: Backend) -> GenerationRequest:
        """What is asked next: all that was said, each answer without its thoughts."""
        ids = _ids_after(backend, self.want, [without_thoughts(text) for text in self.texts])
        self.first = self.first or ids
        pictures = self.want.sample.pictures
        return GenerationRequest(self.want.key, ids, (self.seed,), pictures)

    def response(self, asking: Asking) -> Response:
        """The whole conversation as one response: its answers, one after the other."""
        answers, last = self.answers, self.answers[-1]
        return replace(
            asking.noted(empty_response(self.want), self.first),
            text="" if last.error else together(self.texts),
            token_ids=tuple(token for answer in answers for token in answer.token_ids),
            finish_reason=last.finish_reason,
            latency_s=sum(answer.latency_s for answer in answers),
            first_token_s=answers[0].first_token_s,
            error=last.error and f"turn {len(answers)}: {last.error}",
        )


def _ids_after(backend: Backend, want: Wanted, answers: Sequence[str]) -> tuple[int, ...]:
    """The prompt after so many answers."""
    turns = list(want.sample.prompt)
    for said, then in zip(answers, want.sample.options.then, strict=False):
        turns += [{"role": "assistant", "content": said}, dict(then)]
    return prompt_ids(backend, replace(want, sample=replace(want.sample, prompt=tuple(turns))))


def longest_requests(backend: Backend, group: Sequence[Wanted]) -> Iterator[GenerationRequest]:
    """What the conversations of one task ask at most: every answer is as long as it may be."""
    for want in group:
        for turn in range(1 + len(want.sample.options.then)):
            written = (0,) * (turn * want.task.settings.max_new_tokens)
            ids = _ids_after(backend, want, [""] * turn)
            yield GenerationRequest(want.key, (*ids, *written), (0,))


def conversations(
    backend: Backend, group: Sequence[Wanted], seed: int, asking: Asking
) -> Iterator[Response]:
    """One response for each wanted conversation of one task: all its answers."""
    for start in range(0, len(group), _AT_ONCE):
        some = group[start : start + _AT_ONCE]
        playing = {
            want.key: _Playing(
                want, seed_of(seed, want.task.name, want.sample.id, want.index, want.draw)
            )
            for want in some
        }
        settings = some[0].task.settings
        while going := [one for one in playing.values() if one.goes_on]:
            requests = {one.want.key: one.request(backend) for one in going}
            answered = set()
            for answer in backend.generate(list(requests.values()), settings):
                one = playing[answer.request_id]
                context = requests[answer.request_id].prompt_ids
                one.answers.append(answer)
                one.texts.append(asking.text_of(answer, context))
                answered.add(answer.request_id)
            for key in requests.keys() - answered:
                lost = "the backend gave no answer"
                playing[key].answers.append(Generation(key, 0, (), "", "error", 0.0, error=lost))
        for one in playing.values():
            yield one.response(asking)
