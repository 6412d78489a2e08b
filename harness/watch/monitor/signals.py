"""The signals read from production traffic, in three tiers; none of them decides.

A conversation counts once: its value is the mean over its observations (or their largest, where one
is enough), always in [0, 1], and None where none of them measures the signal.

- `sums` are computed in the database, from what every observation carries.
- `texts` are computed here, from question and answer, on a share of the observations.
- `insides` are shares of values within limits that the reference sets: a quantile as a mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Direction
from harness.watch.monitor.text import Measure, Text
from harness.watch.monitor.verdict import Tier


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal.

    sql       its value of one conversation, over the rows `r` of it (an aggregate)
    measure   its values of some texts, and the options of the policy
    inside    the SQL of a number per row, whose share within the reference's limits is the value
    low, high share of the reference below and above those limits; 0: no limit on that side
    margin    where 5% is not the right default; `floor` is an absolute allowance on top
    share     of the observations that are measured
    kept      costly: what was measured is kept in `observation_signals`, under `version`
    centred   a distance from the middle of the reference's answers, an option `centre`
    default   computed unless the policy leaves it out; `needs` are options that it can't do without
    """

    name: str
    tier: Tier
    direction: Direction
    meaning: str
    sql: str | None = None
    measure: Measure | None = None
    inside: str | None = None
    low: float = 0.0
    high: float = 0.0
    margin: float | None = None
    floor: float = 0.0
    share: float = 1.0
    kept: bool = False
    advisory: bool = False
    centred: bool = False
    default: bool = True
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    version: str = "1"

    @property
    def held(self) -> float:
        """Of an inside signal: the share of the reference's own numbers within its limits."""
        return 1.0 - self.low - self.high

    def signature(self, options: Mapping[str, Any]) -> str:
        """Name, version and options as text; a kept value is used again only under the same one."""
        from harness.core.digests import digest_of

        said = f"|options:{digest_of(dict(options))}" if options else ""
        return f"{self.name}|v:{self.version}{said}"


# Texts.


def _refusals(texts: Sequence[Text], _: Mapping[str, Any]) -> list[float | None]:
    from harness.metrics.refusal import refuses

    return [refuses(text.response) for text in texts]


def _toxicity(texts: Sequence[Text], options: Mapping[str, Any]) -> list[float | None]:
    from harness.core.told_language import reads_english
    from harness.metrics.toxicity import toxicity

    classifier = options.get("classifier")
    readable = [i for i, t in enumerate(texts) if classifier or reads_english(t.response)]
    found: list[float | None] = [None] * len(texts)
    if readable:
        values = toxicity([texts[i].response for i in readable], classifier=classifier)
        for i, value in zip(readable, values.tolist(), strict=True):
            found[i] = min(max(value, 0.0), 1.0)
    return found


def _sensitive_words(texts: Sequence[Text], options: Mapping[str, Any]) -> list[float | None]:
    from harness.metrics.sensitive_words import SensitiveWords

    metric = SensitiveWords(**options)
    hit = {found.text for found in metric.find([text.response for text in texts])}
    return [float(i in hit) for i in range(len(texts))]


def _language(texts: Sequence[Text], _: Mapping[str, Any]) -> list[float | None]:
    from harness.core.language import detect_language

    def same(text: Text) -> float | None:
        if not text.prompt or not _has_letter(text.prompt) or not _has_letter(text.response):
            return None
        return float(detect_language(text.prompt) == detect_language(text.response))

    return [same(text) for text in texts]


def _has_letter(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _json_valid(texts: Sequence[Text], _: Mapping[str, Any]) -> list[float | None]:
    from harness.metrics.json_answers import json_valid

    return [json_valid(text.response) for text in texts]


def _embedding_drift(texts: Sequence[Text], options: Mapping[str, Any]) -> list[float | None]:
    from harness.watch.monitor.model_signals import distances

    answers = [text.response for text in texts]
    found: list[float | None] = list(distances(answers, options["centre"], options.get("model")))
    return found


def _judge(texts: Sequence[Text], options: Mapping[str, Any]) -> list[float | None]:
    from harness.watch.monitor.model_signals import judged

    return judged(texts, options["model"], options.get("rubric"))


_ASKED = "r.about IS NULL"

SIGNALS: tuple[Signal, ...] = (
    Signal(
        "errors",
        "service",
        "lower",
        "share of requests that failed",
        sql=f"avg(CASE WHEN {_ASKED} THEN (r.error IS NOT NULL)::DOUBLE END)",
        floor=0.005,
    ),
    *(
        Signal(
            f"latency_p{round(100 * (1 - high))}",
            "service",
            "higher",
            f"share of answers within the reference's {100 * (1 - high):.0f}% latency",
            inside="r.latency_s",
            high=high,
            margin=0.25,
            advisory=True,
        )
        for high in (0.5, 0.05, 0.01)
    ),
    Signal(
        "tokens_per_s",
        "service",
        "higher",
        "share of answers at least as fast as 95% of the reference's, in tokens a second",
        inside="CASE WHEN r.latency_s > 0 THEN r.output_tokens / r.latency_s END",
        low=0.05,
        margin=0.25,
        advisory=True,
    ),
    Signal(
        "completion",
        "business",
        "higher",
        "share of conversations that reached their end",
        sql="avg(CASE r.outcome WHEN 'abandoned' THEN 0.0 WHEN 'completed' THEN 1.0 "
        "WHEN 'corrected' THEN 1.0 END)",
    ),
    Signal(
        "satisfaction",
        "business",
        "higher",
        "stars from 1 to 5 as 0 to 1, or a thumb as 0 or 1",
        sql="avg(coalesce((r.stars - 1) / 4, (r.thumb + 1) / 2.0))",
    ),
    Signal(
        "corrections",
        "business",
        "lower",
        "share of conversations in which an answer was corrected",
        sql="max((r.corrected_text IS NOT NULL OR coalesce(r.outcome, '') = 'corrected')::DOUBLE)",
        floor=0.005,
    ),
    Signal(
        "retries",
        "business",
        "lower",
        "share of requests that ask again what was answered before",
        sql=f"avg(CASE WHEN {_ASKED} THEN (r.retry_of IS NOT NULL)::DOUBLE END)",
        floor=0.005,
    ),
    Signal(
        "toxicity",
        "quality",
        "lower",
        "probability that an answer is toxic (English only, unless a classifier is named)",
        measure=_toxicity,
        floor=0.005,
        kept=True,
        options=("classifier",),
    ),
    Signal(
        "sensitive_words",
        "quality",
        "lower",
        "share of answers with a word of the lists, English and Chinese",
        measure=_sensitive_words,
        floor=0.005,
        options=("words", "file", "shipped"),
    ),
    Signal(
        "refusals",
        "quality",
        "lower",
        "share of answers that decline, by their wording",
        measure=_refusals,
        floor=0.005,
    ),
    Signal(
        "language",
        "quality",
        "higher",
        "share of answers in the script of their question",
        measure=_language,
    ),
    Signal(
        "length",
        "quality",
        "higher",
        "share of answers no longer and no shorter than 90% of the reference's, in characters, "
        "thoughts counted in",
        inside=f"CASE WHEN {_ASKED} AND r.error IS NULL THEN length(r.response) END",
        low=0.05,
        high=0.05,
        advisory=True,
    ),
    Signal(
        "json_valid",
        "quality",
        "higher",
        "share of answers that are exactly one JSON object",
        measure=_json_valid,
        default=False,
    ),
    Signal(
        "embedding_drift",
        "quality",
        "lower",
        "distance in meaning from the middle of the reference's answers, 0 to 1",
        measure=_embedding_drift,
        floor=0.02,
        share=0.05,
        kept=True,
        centred=True,
        default=False,
        options=("model",),
    ),
    Signal(
        "judge",
        "quality",
        "higher",
        "share of answers that a model finds to serve their question",
        measure=_judge,
        share=0.01,
        kept=True,
        default=False,
        options=("model", "rubric"),
        needs=("model",),
    ),
)

BY_NAME: Mapping[str, Signal] = {signal.name: signal for signal in SIGNALS}


def measured(
    signal: Signal, texts: Sequence[Text], options: Mapping[str, Any]
) -> list[float | None]:
    """A signal's values of some texts. An answer that is nothing but a thought has the worst."""
    assert signal.measure is not None
    heard = [text for text in texts if not text.unspoken]
    found = iter(signal.measure(heard, options) if heard else ())
    worst = 0.0 if signal.direction == "higher" else 1.0
    return [worst if text.unspoken else next(found) for text in texts]


def check_options(signal: Signal, options: Mapping[str, Any]) -> None:
    """Measure one text, unless that is costly. Raises UserError where these options don't work."""
    if signal.measure is None or signal.kept:
        return
    try:
        signal.measure([Text("a", "a")], options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the signal {signal.name!r} can't be measured: {error}",
            field=f"signals.{signal.name}.options",
            hint=f"it takes {', '.join(signal.options)}",
        ) from error
