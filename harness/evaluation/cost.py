"""What a run would cost at a server, counted before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.backends.base import GenerationRequest, LogprobRequest
from harness.backends.openai.backend import OpenAIBackend
from harness.backends.openai.rate_limit import Budget, Prices
from harness.evaluation.conversations import longest_requests
from harness.evaluation.generate import generation_requests, grouped, likelihood_requests, require
from harness.evaluation.plan import Scoring
from harness.store import runs
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class Cost:
    """The most tokens that are `read` and `written`, with the prices and bounds of `budget`."""

    read: int
    written: int
    budget: Budget

    @property
    def usd(self) -> float | None:
        """US dollars, at most; None where no prices are configured."""
        prices = self.budget.prices
        return None if prices == Prices() else prices.of(self.read, self.written)

    @property
    def sentences(self) -> list[str]:
        """Sentences for the user: tokens, money, and whether the budget may run out."""
        said = [f"in all at most {self.read:,} tokens read and {self.written:,} written"]
        said.append(
            "no prices are configured, so no money is shown: set `prices:` in openai:FILE.yaml"
            if self.usd is None
            else f"at most ${self.usd:,.4f}"
        )
        most_tokens, most_usd = self.budget.most_tokens, self.budget.most_usd
        if most_tokens is not None and self.read + self.written > most_tokens:
            said.append(f"the budget of {most_tokens:,} tokens may run out")
        if most_usd is not None and self.usd is not None and self.usd > most_usd:
            said.append(f"the budget of ${most_usd:,.4f} may run out")
        return said


def cost_of(scoring: Scoring, store: Store) -> Cost | None:
    """What `score` of the same would cost at most, if each request is answered at the first try.

    None where the model is not behind a server. No prompt is sent. Raises UserError for answers
    that the server can't give.
    """
    if scoring.candidate.subject.get("backend") != "openai":
        return None
    backend = scoring.candidate.open()
    assert isinstance(backend, OpenAIBackend)
    wanted = list(scoring.answers())
    known = runs.cached_responses(store, [want.key for want in wanted])
    read = written = 0
    for (_, kind), group in grouped(want for want in wanted if want.key not in known).items():
        require(backend, kind)
        requests: Sequence[GenerationRequest | LogprobRequest]
        if kind != "generation":
            pieces = likelihood_requests(backend, group).values()
            requests = [part for parts in pieces for part in parts]
        elif any(want.sample.options.then for want in group):
            requests = list(longest_requests(backend, group))
        else:
            requests = generation_requests(backend, group, scoring.seed)
        for request in requests:
            more = backend.most_tokens(request, group[0].task.settings)
            read, written = read + more[0], written + more[1]
    return Cost(read, written, backend.budget)
