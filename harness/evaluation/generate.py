"""Stage one: answers, from the cache where they are known, else from the backend."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.backends.base import (
    Backend,
    Candidate,
    Generation,
    GenerationRequest,
    KnowsTokens,
    LogprobRequest,
    Logprobs,
    ReadsAnswered,
    encode_answer,
)
from harness.core.errors import UserError
from harness.core.types import Response, ResponseKind
from harness.evaluation.asked import Asking
from harness.evaluation.conversations import conversations
from harness.evaluation.plan import Wanted, empty_response, seed_of
from harness.evaluation.prompts import opener_for, prompt_ids, require_prompts, require_room
from harness.metrics.perplexity import rolling_windows
from harness.store import runs
from harness.store.store import Store

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how many of its items are done, and how many there are."""

FLUSH_EVERY_S = 1.0
FLUSH_EVERY_ROWS = 64
"""Answers are stored after so many seconds or rows, whichever comes first."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """Show no progress."""


def generate(
    candidate: Candidate,
    wanted: Sequence[Wanted],
    store: Store,
    seed: int,
    progress: Progress = silent,
) -> tuple[dict[str, Response], Counter[ResponseKind]]:
    """Stage one: all wanted answers, from the cache where it has them, else from the model.

    Returns the answers by key, and how many of each kind the model was asked for. The model is
    opened only where some are missing. Raises UserError for answers that it can't give.
    """
    known = runs.cached_responses(store, [want.key for want in wanted])
    missing = [want for want in wanted if want.key not in known]
    if not missing:
        return known, Counter()
    open_ = opener_for(candidate, missing)
    require_prompts(candidate, missing)
    backend = open_()
    groups, asking = grouped(missing), Asking(backend, wanted)
    # All kinds first: nothing is paid for where a later task can't be answered at all.
    for kind in dict.fromkeys(kind for _, kind in groups):
        require(backend, kind)
    for stage, count, answers in _stages(backend, groups, seed, asking):
        progress(stage, 0, count)
        done = 0
        for batch in _in_flushes(answers):
            runs.save_responses(store, batch, model_digest=candidate.digest)
            known.update((response.key, response) for response in batch)
            done += len(batch)
            progress(stage, done, count)
    return known, Counter(want.kind for want in missing)


def _stages(
    backend: Backend,
    groups: Mapping[tuple[str, ResponseKind], list[Wanted]],
    seed: int,
    asking: Asking,
) -> Iterator[tuple[str, int, Iterator[Response]]]:
    """The calls of the backend: a name, how many answers it gives, and these.

    A task's references are read in the call that answers its prompts, where the backend then reads
    what they share once.
    """
    for (name, kind), group in groups.items():
        if kind == "generation" and any(want.sample.options.then for want in group):
            yield f"generate {name}", len(group), conversations(backend, group, seed, asking)
        elif kind == "generation":
            given = groups.get((name, "reference"), [])
            if given and isinstance(backend, ReadsAnswered):
                written = _Written(backend, group, seed, asking)
                answers = _both(backend, written, _Given(backend, given, asking))
                yield f"generate and read {name}", len(group) + len(given), answers
            else:
                yield f"generate {name}", len(group), _generations(backend, group, seed, asking)
        elif kind == "text" or not (
            isinstance(backend, ReadsAnswered) and (name, "generation") in groups
        ):
            yield f"read {name}", len(group), _likelihoods(backend, group, asking)


def grouped(wanted: Iterable[Wanted]) -> dict[tuple[str, ResponseKind], list[Wanted]]:
    """The wanted answers by task and kind: each group is one call of the backend."""
    groups: dict[tuple[str, ResponseKind], list[Wanted]] = defaultdict(list)
    for want in wanted:
        groups[want.task.name, want.kind].append(want)
    return groups


def require(backend: Backend, kind: ResponseKind) -> None:
    """Raise UserError where the backend can't give answers of that kind."""
    refuses = getattr(backend, "refuses", None)
    problem = refuses(kind) if refuses is not None else None
    if problem is not None:
        raise UserError(
            problem, hint="leave out the metrics that need log-probabilities: perplexity and NLL"
        )


def _in_flushes(answers: Iterable[Response]) -> Iterator[list[Response]]:
    """Batches small enough that a crash loses little, and large enough that their fsync costs
    little.
    """
    batch: list[Response] = []
    began = time.monotonic()
    try:
        for answer in answers:
            batch.append(answer)
            if len(batch) >= FLUSH_EVERY_ROWS or time.monotonic() - began >= FLUSH_EVERY_S:
                yield batch
                batch, began = [], time.monotonic()
    except GeneratorExit:
        raise
    except BaseException:
        if batch:
            yield batch  # what was answered before the interruption is kept
        raise
    if batch:
        yield batch


def generation_requests(
    backend: Backend, group: Sequence[Wanted], seed: int
) -> list[GenerationRequest]:
    """One request per sample of one task; its seeds are in the order of the sample's answers."""
    return [
        GenerationRequest(
            id=sample_id,
            prompt_ids=prompt_ids(backend, wants[0]),
            seeds=tuple(
                seed_of(seed, want.task.name, sample_id, want.index, want.draw) for want in wants
            ),
            pictures=wants[0].sample.pictures,
        )
        for sample_id, wants in _by_sample(group).items()
    ]


def _by_sample(group: Sequence[Wanted]) -> dict[str, list[Wanted]]:
    by_sample: dict[str, list[Wanted]] = defaultdict(list)
    for want in group:
        by_sample[want.sample.id].append(want)
    return by_sample


class _Written:
    """The answers of one task that are to be written."""

    def __init__(
        self, backend: Backend, group: Sequence[Wanted], seed: int, asking: Asking
    ) -> None:
        self.settings = group[0].task.settings
        self.requests = generation_requests(backend, group, seed)
        require_room(group[0].task, self.requests, backend.max_length)
        self._asking = asking
        self._by_sample = _by_sample(group)
        self._prompts = {request.id: request.prompt_ids for request in self.requests}

    def response(self, answer: Generation) -> Response:
        want = self._by_sample[answer.request_id][answer.position]
        prompt = self._prompts[answer.request_id]
        return replace(
            self._asking.noted(empty_response(want), prompt),
            text=self._asking.text_of(answer, prompt, want.sample.options.prefill),
            token_ids=answer.token_ids,
            logprobs=answer.logprobs,
            finish_reason=answer.finish_reason,
            latency_s=answer.latency_s,
            first_token_s=answer.first_token_s,
            error=answer.error,
        )


class _Given:
    """The given texts of one task whose log-probabilities are to be read, put together from their
    pieces.
    """

    def __init__(self, backend: Backend, group: Sequence[Wanted], asking: Asking) -> None:
        self._asking = asking
        self._wants = {want.key: want for want in group}
        self._pieces = likelihood_requests(backend, group)
        self._results: dict[str, dict[int, Logprobs]] = defaultdict(dict)

    @property
    def requests(self) -> list[LogprobRequest]:
        return [part for parts in self._pieces.values() for part in parts]

    def empty(self) -> Iterator[Response]:
        """The texts without tokens, which need no model."""
        for key, parts in self._pieces.items():
            if not parts:
                yield _likelihood(self._wants[key], parts, {}, self._asking)

    def response(self, part: Logprobs) -> Iterator[Response]:
        """That of the text whose last piece this is; none where pieces are missing."""
        key, _, number = part.request_id.rpartition("#")
        self._results[key][int(number)] = part
        if len(self._results[key]) == len(self._pieces[key]):
            results = self._results.pop(key)
            yield _likelihood(self._wants[key], self._pieces[key], results, self._asking)


def _generations(
    backend: Backend, group: Sequence[Wanted], seed: int, asking: Asking
) -> Iterator[Response]:
    written = _Written(backend, group, seed, asking)
    for answer in backend.generate(written.requests, written.settings):
        yield written.response(answer)


def _both(backend: ReadsAnswered, written: _Written, given: _Given) -> Iterator[Response]:
    yield from given.empty()
    for found in backend.answer(written.requests, written.settings, given.requests):
        if isinstance(found, Generation):
            yield written.response(found)
        else:
            yield from given.response(found)


def likelihood_requests(
    backend: Backend, group: Sequence[Wanted]
) -> dict[str, list[LogprobRequest]]:
    """The pieces of each given text, by key; a text longer than the model's window has several.

    A piece's id is the key, `#` and its number.
    """
    return {
        want.key: [
            LogprobRequest(f"{want.key}#{number}", context, target)
            for number, (context, target) in enumerate(_windows(backend, want))
        ]
        for want in group
    }


def _likelihoods(backend: Backend, group: Sequence[Wanted], asking: Asking) -> Iterator[Response]:
    given = _Given(backend, group, asking)
    yield from given.empty()
    for part in backend.logprobs(given.requests):
        yield from given.response(part)


def _windows(backend: Backend, want: Wanted) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    if want.kind == "reference":
        prompt = prompt_ids(backend, want)
        before, target = encode_answer(backend, want.sample.references[want.index], prompt)
        context = (*prompt, *before)
        space = _space_at_end(backend, context) if want.sample.options.space_is_given else 0
        cut = len(context) - space
        return [(context[:cut], (*context[cut:], *target))] if target else []
    token_ids = backend.encode(want.sample.text or "")
    windows = rolling_windows(token_ids, backend.max_length, backend.prefix_token_id)
    return [(tuple(context), tuple(target)) for context, target in windows]


def _space_at_end(backend: Backend, ids: Sequence[int]) -> int:
    """How many tokens at the end are white space; none where the backend can't say."""
    if not isinstance(backend, KnowsTokens):
        return 0
    words = (n for n, token in enumerate(reversed(ids)) if not backend.as_read([token]).isspace())
    return next(words, len(ids))


def _likelihood(
    want: Wanted,
    parts: Sequence[LogprobRequest],
    results: Mapping[int, Logprobs],
    asking: Asking,
) -> Response:
    given = want.sample.text if want.kind == "text" else want.sample.references[want.index]
    errors = [part.error for part in results.values() if part.error]
    # How a long text is cut into pieces is the model's own affair; what all of it is, is not.
    context = parts[0].context_ids if parts else ()
    target = tuple(token for part in parts for token in part.target_ids)
    return replace(
        asking.noted(empty_response(want), context, target),
        text=given or "",
        token_ids=target,
        logprobs=tuple(value for number in sorted(results) for value in results[number].logprobs),
        latency_s=sum(part.latency_s for part in results.values()),
        error=errors[0] if errors else None,
        finish_reason="error" if errors else "stop",
    )
