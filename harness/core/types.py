"""The nouns of Ratchet as frozen, typed records."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

Direction = Literal["higher", "lower"]
"""Whether a larger value of a metric is better or worse."""

Form = Literal["mean", "perplexity", "group", "pass_at_k", "corpus", "quantile", "winshare"]
"""How per-sample values become the metric's value: `mean` averages them; `perplexity` is
exp(sum of NLL / sum of tokens); `group` is computed on fixed groups of K responses and then
averaged; `pass_at_k` from (n, c); `corpus` from summed counts; `quantile` over all responses."""

FailRule = Literal["drop", "strict"]
"""`strict`: fail only where "within the margin" is rejected. `drop`: at the last look also where
"no drop at all" is rejected and the best estimate exceeds the margin."""

Row = dict[str, Any]
"""One row of data, or of what a query found: field -> value."""

ResponseKind = Literal["generation", "text", "reference"]
"""`generation`: the model wrote it. `text`: log-probabilities of a given text (perplexity).
`reference`: log-probabilities of the reference answer given the prompt (reference NLL)."""


class ScoreOutcome(StrEnum):
    """What became of one score. The value is NULL unless it is `scored`."""

    SCORED = "scored"
    ERROR = "error"
    UNSCORED = "unscored"


LOST = "lost: "
"""Begins the reason of an error that is not the model's: a sandbox or a server that died. The
sample is scored again, and until then it counts neither for nor against the model.
"""


NOTE = "note: "
"""Begins the reason of a score that has a value, where its reader should know more of it: a text
was cut, an answer said nothing. A run's table counts them.
"""


class VerdictOutcome(StrEnum):
    """What the gate says. Only measured harm is `fail`."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INCOMPARABLE = "incomparable"

    @property
    def exit_code(self) -> int:
        """The exit code of a verb that ends with this verdict, 0 to 3."""
        return {"pass": 0, "fail": 1, "inconclusive": 2, "incomparable": 3}[self.value]


@dataclass(frozen=True, slots=True)
class PromptOptions:
    """How a sample's messages become what a model reads, beside what they say.

    tools      what the model may call, each as OpenAI writes a function
    template   arguments of the model's chat template (`enable_thinking`), by name
    prefill    how the answer begins: written after the prompt, and part of the answer's text
    raw        the messages' texts as they are, without a chat template: for base models
    now        the moment that a chat template writes, in ISO's form; None for the fixed one
    space_is_given  the white space that ends a prompt counts as the beginning of a given answer
               (a choice), as lm-eval counts it
    then       what is said after each answer but the last: the conversation goes on with it
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    prefill: str = ""
    raw: bool = False
    now: str | None = None
    space_is_given: bool = False
    then: tuple[Mapping[str, Any], ...] = ()

    @property
    def stored(self) -> dict[str, Any]:
        """What is not as usual, in JSON's types; empty for most samples."""
        given = {
            "tools": [dict(tool) for tool in self.tools],
            "template": dict(self.template),
            "prefill": self.prefill,
            "raw": self.raw,
            "now": self.now,
            "space_is_given": self.space_is_given,
            "then": [dict(turn) for turn in self.then],
        }
        return {key: value for key, value in given.items() if value}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> PromptOptions:
        listed = {key: tuple(stored.get(key, ())) for key in ("tools", "then")}
        return cls(**{**stored, **listed})


AS_USUAL = PromptOptions()
"""No tools, no arguments, the model's own chat template."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a prompt shows: the digest and kind (`image/png`) of its bytes, which are in
    the file `path` or given as `content`.
    """

    sha256: str
    kind: str
    path: Path | None = None
    content: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """Its bytes. Raises ValueError where the file holds others than when the suite was read."""
        found = self.content if self.content is not None else Path(str(self.path)).read_bytes()
        if hashlib.sha256(found).hexdigest() != self.sha256:
            raise ValueError(f"the picture {self.path} has changed since the suite was read")
        return found


@dataclass(frozen=True, slots=True)
class Sample:
    """One item of a task.

    `id` is stable and unique within the task; `fields` is the row of data as it was read;
    `prompt` are the rendered chat messages (empty for a task that scores given text); `text` is
    that given text; `references` are the rendered reference answers; `cluster` groups samples
    that are not independent; `reserve` marks samples that are kept for later looks; `options` say
    how the messages are asked; `question` is what is asked last, without examples before it.
    `pictures` are those that the messages show, in order; a sample that was stored has none.
    """

    id: str
    task: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    prompt: tuple[Mapping[str, Any], ...] = ()
    text: str | None = None
    references: tuple[str, ...] = ()
    cluster: str | None = None
    language: str | None = None
    reserve: bool = False
    options: PromptOptions = AS_USUAL
    question: str | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True)
class Response:
    """What a model said to a sample, or how likely it found a given text.

    For kind `generation`, `text` and `token_ids` are the model's words. For `text` and
    `reference` they are the given words and `logprobs` holds the natural logarithm of each
    token's probability given all before it. `index` runs over the K responses of one sample,
    `draw` is 0 unless a fresh draw was asked for. `key` is the content address under which the
    response is cached. `latency_s` is seconds from the request's start to its last token,
    `first_token_s` to its first; None where there is none, or the backend doesn't measure it.
    `error` says why there is no answer; the text is then empty.

    `asked` names what the model really read (see `harness.evaluation.asked`), `prompt` is that as
    text, kept with one answer of a task; both None where the backend doesn't know. `whole` is what
    was written where `text` is only what a suite reads of it; it is not stored.
    """

    key: str
    sample_id: str
    task: str
    kind: ResponseKind
    index: int
    draw: int
    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] | None = None
    finish_reason: str = "stop"
    latency_s: float | None = None
    error: str | None = None
    first_token_s: float | None = None
    asked: str | None = None
    prompt: str | None = None
    whole: str | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """One metric's evidence for one sample (and response) of one run.

    `stats` are the sufficient statistics that the metric's form needs, in the order that the
    metric declares (perplexity: NLL in nats, tokens, words, bytes; Pass@k: n, c).
    `response_index` is None where a metric needs all K responses at once.
    """

    run_id: str
    task: str
    metric: str
    sample_id: str
    response_index: int | None
    draw: int
    outcome: ScoreOutcome
    value: float | None
    reason: str | None = None
    stats: tuple[float, ...] = ()
    cluster: str | None = None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a run was, in three parts.

    `protocol` must match for two runs to be compared with each other (a mapping task -> field ->
    value, with a digest per task); `subject` is what is being compared and is shown; a
    difference of `provenance` warns.
    """

    protocol: Mapping[str, Any]
    subject: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """One model scored on one suite."""

    id: str
    model: str
    model_digest: str
    suite: str
    suite_digest: str
    fingerprint: Fingerprint
    started_at: datetime
    seed: int
    limit: int | None = None
    training_id: str | None = None
    step: int | None = None
