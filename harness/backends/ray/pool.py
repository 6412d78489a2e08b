"""One backend made of many Ray actors, each a replica of the model.

An actor holds a model and nothing else. This process alone holds what is still to be asked and,
through the runner, writes the store. So an actor or a node that dies costs only the batch that it
was answering, and that batch is asked again.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.backends import answers
from harness.backends import tokenization as tokens
from harness.backends.base import (
    Backend,
    Generation,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
    Logprobs,
)
from harness.backends.ray.batches import LOSSES, Batch, in_batches
from harness.core.errors import UnfinishedError, UserError
from harness.core.types import AS_USUAL, PromptOptions

LIVES = 8
"""How often in a row a replica is replaced without having answered a batch."""

_POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class Share:
    """How many replicas there are, and what each takes of the cluster (cores, GPUs)."""

    replicas: int
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class _Card:
    """What a replica reports once its model is loaded."""

    node: str
    subject: dict[str, Any]
    libraries: dict[str, Any]
    max_length: int
    prefix_token_id: int


class _Actor:
    """The Ray actor: runs on a node, around a backend that `opener` opens there."""

    def __init__(self, opener: Callable[[], Backend]) -> None:
        self._opener = opener
        self._backend: Backend | None = None

    def open(self) -> _Card:
        from harness.core.fingerprint import LIBRARIES, provenance

        node = str(library().util.get_node_ip_address())
        try:
            backend = self._backend = self._opener()
        except UserError as error:
            raise UserError(
                f"on node {node}: {error.what}",
                file=error.file,
                line=error.line,
                field=error.field,
                hint=error.hint,
            ) from None
        versions = {name: said for name, said in provenance().items() if name in LIBRARIES}
        return _Card(
            node, dict(backend.subject), versions, backend.max_length, backend.prefix_token_id
        )

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> list[Generation]:
        assert self._backend is not None
        return list(self._backend.generate(requests, settings))

    def logprobs(self, requests: Sequence[LogprobRequest]) -> list[Logprobs]:
        assert self._backend is not None
        return list(self._backend.logprobs(requests))


@dataclass(slots=True)
class _Replica:
    """One replica, whose actor may be replaced. It is being opened until it has a card; then it
    answers `batch`, or is idle.
    """

    number: int
    actor: Any = None
    pending: Any = None
    batch: Batch | None = None
    card: _Card | None = None
    failures: int = 0


class _LostError(Exception):
    """An actor died, or raised what a backend should not, and must be replaced."""


class RayPool:
    """Answers from `share.replicas` replicas of one model, each opened by `opener` in an actor.

    `opener` is pickled and runs on the nodes, where Ratchet must be installed. `tokenizer` is the
    model's own; prompts are tokenized in this process. `say` is called with what happens to
    replicas.

    Each answer comes once. A request that is lost with its actor `LOSSES` times becomes an error;
    a replica that is replaced `LIVES` times in a row without answering is given up. Raises
    UnfinishedError where none is left, or none could be started in `patience_s` seconds, and any
    UserError that `opener` raises. Ray ends the actors when the pool is garbage-collected.
    """

    def __init__(
        self,
        opener: Callable[[], Backend],
        tokenizer: Any,
        share: Share,
        *,
        say: Callable[[str], None] = lambda message: None,
        patience_s: float = 600.0,
    ) -> None:
        self._ray = library()
        self._opener, self._tokenizer, self._share = opener, tokenizer, share
        self._say, self._patience_s = say, patience_s
        self._reason = ""
        self._first: _Card | None = None
        # No retries and no restarts by Ray: a request that kills its actor would do so again and
        # again, and would not be counted here.
        self._remote = self._ray.remote(
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(_Actor)
        self._replicas = [_Replica(number + 1) for number in range(share.replicas)]
        for replica in self._replicas:
            self._start(replica)
        while self._first is None:
            self._open_another()

    def wait_for_all(self) -> None:
        """Wait until every replica is open, where the first is not enough: to measure, say.

        Raises as opening the pool does.
        """
        while any(r.card is None for r in self._replicas if r.pending is not None):
            self._open_another()

    def _open_another(self) -> None:
        replica = self._next()
        try:
            self._take(replica)
        except _LostError as lost:
            self._replace(replica, str(lost))

    @property
    def subject(self) -> Mapping[str, Any]:
        return self._card.subject

    @property
    def max_length(self) -> int:
        return self._card.max_length

    @property
    def prefix_token_id(self) -> int:
        return self._card.prefix_token_id

    def encode(self, text: str) -> tuple[int, ...]:
        return tokens.encode(self._tokenizer, text)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], options: PromptOptions = AS_USUAL
    ) -> tuple[int, ...]:
        return tokens.encode_chat(self._tokenizer, messages, options)

    def encode_answer(
        self, text: str, prompt: Sequence[int] | None = None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return answers.read(self._tokenizer, text, prompt)

    @property
    def vocabulary(self) -> str:
        return tokens.vocabulary_of(self._tokenizer)

    def as_read(self, ids: Sequence[int]) -> str:
        return tokens.as_read(self._tokenizer, ids)

    def generate(
        self, requests: Sequence[GenerationRequest], settings: GenerationSettings
    ) -> Iterator[Generation]:
        """Answers, a batch at a time, in the order in which batches are done."""

        def size(request: GenerationRequest) -> tuple[int, int]:
            count = len(request.seeds)
            return count, len(request.prompt_ids) + count * settings.max_new_tokens

        def failed(request: GenerationRequest, why: str) -> list[Generation]:
            return [
                Generation(request.id, position, (), "", "error", 0.0, error=why)
                for position in range(len(request.seeds))
            ]

        def ask(actor: Any, some: Sequence[GenerationRequest]) -> Any:
            return actor.generate.remote(some, settings)

        yield from self._answers(in_batches(requests, size, self._share.replicas), ask, failed)

    def logprobs(self, requests: Sequence[LogprobRequest]) -> Iterator[Logprobs]:
        """Log-probabilities, a batch at a time."""

        def size(request: LogprobRequest) -> tuple[int, int]:
            return 1, len(request.context_ids) + len(request.target_ids)

        def failed(request: LogprobRequest, why: str) -> list[Logprobs]:
            return [Logprobs(request.id, (), 0.0, error=why)]

        def ask(actor: Any, some: Sequence[LogprobRequest]) -> Any:
            return actor.logprobs.remote(some)

        batches = in_batches(
            requests, size, self._share.replicas, lambda request: request.context_ids
        )
        yield from self._answers(batches, ask, failed)

    @property
    def _card(self) -> _Card:
        assert self._first is not None
        return self._first

    def _answers(
        self,
        batches: Sequence[Batch],
        ask: Callable[[Any, Sequence[Any]], Any],
        failed: Callable[[Any, str], list[Any]],
    ) -> Iterator[Any]:
        waiting = deque(batches)
        for replica in self._replicas:
            # An earlier caller may have left a batch unread: its answers are not for this one.
            replica.batch = None
        while waiting or any(replica.batch for replica in self._replicas):
            for replica in self._replicas:
                if waiting and replica.card is not None and replica.pending is None:
                    replica.batch = waiting.popleft()
                    replica.pending = ask(replica.actor, replica.batch.requests)
            replica = self._next()
            batch = replica.batch
            try:
                found = self._take(replica)
            except _LostError as lost:
                pieces = batch.after_a_loss() if batch else []
                given_up = [piece for piece in pieces if piece.is_given_up]
                waiting.extend(piece for piece in pieces if not piece.is_given_up)
                self._replace(replica, str(lost), batch if not given_up else None)
                for piece in given_up:
                    why = f"{LOSSES} replicas were lost while they answered it: {lost}"
                    yield from failed(piece.requests[0], why)
            else:
                yield from found if batch else ()

    def _next(self) -> _Replica:
        """Wait for a replica that has answered, was opened or was lost.

        Raises UnfinishedError where none is left, or none is opened in time.
        """
        began = time.monotonic()
        told = False
        while True:
            pending = {r.pending: r for r in self._replicas if r.pending is not None}
            if not pending:
                raise UnfinishedError(
                    f"no replica is left; the last one was lost: {self._reason}",
                    hint="answers are kept: repair the cluster and run the same command again",
                )
            ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=_POLL_S)
            if ready:
                return pending[ready[0]]
            if any(replica.card is not None for replica in pending.values()):
                continue
            if time.monotonic() - began > self._patience_s:
                raise UnfinishedError(
                    f"no replica is ready after {self._patience_s:.0f} s: each needs "
                    f"{self._share.cpus:g} cores and {self._share.gpus:g} GPUs of one node",
                    hint="`ray status` shows what is free; answers are kept, and the same command "
                    "continues",
                )
            if not told:
                told = True
                self._say("Waiting for replicas: for room in the cluster, or for models to load")

    def _take(self, replica: _Replica) -> list[Any]:
        """The answers of a replica that is ready; none where it has only been opened."""
        exceptions = self._ray.exceptions
        pending, replica.pending, replica.batch = replica.pending, None, None
        try:
            found = self._ray.get(pending)
        except exceptions.RayTaskError as error:
            # Ray raises an exception of the cause's class as well, but without its fields.
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise _LostError(_in_a_line(error.cause)) from None
        except exceptions.RayError as error:
            raise _LostError(_why(error, exceptions)) from None
        if replica.card is not None:
            replica.failures = 0
            return list(found)
        replica.card = found
        self._admit(found)
        return []

    def _admit(self, card: _Card) -> None:
        if self._first is None:
            self._first = card
        first = self._first
        for name in ("subject", "max_length", "prefix_token_id"):
            mine, others = getattr(card, name), getattr(first, name)
            if mine != others:
                raise UserError(
                    f"the replicas differ in {name}: {others} on {first.node}, {mine} on "
                    f"{card.node}",
                    hint="use nodes of one kind, with the same versions installed",
                )
        odd = [
            f"{name} {card.libraries.get(name)}"
            for name in card.libraries
            if card.libraries.get(name) != first.libraries.get(name)
        ]
        if odd:
            self._say(f"Node {card.node} has other versions than {first.node}: {', '.join(odd)}")

    def _start(self, replica: _Replica) -> None:
        replica.card = None
        replica.actor = self._remote.remote(self._opener)
        replica.pending = replica.actor.open.remote()

    def _replace(self, replica: _Replica, why: str, batch: Batch | None = None) -> None:
        where = f" on {replica.card.node}" if replica.card else ", while it was opened,"
        with contextlib.suppress(Exception):
            self._ray.kill(replica.actor)
        replica.actor = replica.card = None
        replica.failures += 1
        self._reason = why
        said = f"Replica {replica.number} of {len(self._replicas)}{where} was lost: {why}."
        if batch:
            said += f" Its requests ({len(batch.requests)}) are asked again."
        if replica.failures < LIVES:
            self._start(replica)
            self._say(f"{said} A new one is being started.")
        else:
            self._say(f"{said} It is given up after {LIVES} times.")


def library() -> Any:
    """The module `ray`. Raises UserError where it is not installed."""
    try:
        importlib.import_module("ray.util")
        return importlib.import_module("ray")
    except ImportError as error:
        raise UserError(
            f"Ray is not installed: {error}", hint="pip install 'ratchet-eval[ray]'"
        ) from None


def _why(error: Any, exceptions: Any) -> str:
    if "node has died" in str(error):
        return "its node died"
    if isinstance(error, exceptions.ActorUnavailableError):
        return "its node can't be reached"
    if isinstance(error, exceptions.RayActorError):
        return "its process died"
    return _in_a_line(error)


def _in_a_line(error: BaseException) -> str:
    first = (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")
    return f"{type(error).__name__}: {first}"
