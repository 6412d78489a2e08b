"""One sample of a verdict: which of its words moved the answer between the two models."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.attribution.attention import CAUTION, attention
from harness.attribution.integrated import Attributed, integrated_gradients
from harness.attribution.likelihood import Asked, logprobs_of
from harness.attribution.occlusion import left_out, words_of
from harness.attribution.picture import picture
from harness.core.errors import UserError
from harness.core.protocol import tasks_of
from harness.core.types import Run, Sample
from harness.core.workspace import Workspace
from harness.models.resolve import ModelFiles, resolve
from harness.store.runs import load_samples, require_run
from harness.store.store import Store

MOST_WORDS = 200
"""Words that are left out one by one; each is one more reading of the prompt by both models."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one model makes of the sample: nats that each token carries, log p(answer) without each
    word, attention to each token.
    """

    attributed: Attributed
    without_word: tuple[float, ...]
    attention: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SampleExplained:
    """`tokens` and `words` are the question's own, in order; `answer` is what should have been
    said: its reference, or else what the anchor said.
    """

    task: str
    sample: Sample
    answer: str
    tokens: tuple[str, ...]
    words: tuple[str, ...]
    anchor: Side
    candidate: Side

    @property
    def change(self) -> float:
        """Log p(answer), candidate minus anchor, in nats."""
        return self.candidate.attributed.whole - self.anchor.attributed.whole

    @property
    def integrated(self) -> list[tuple[str, float]]:
        """How much of the change each token carries, in nats."""
        both = zip(self.candidate.attributed.tokens, self.anchor.attributed.tokens, strict=True)
        return list(zip(self.tokens, (a - b for a, b in both), strict=True))

    @property
    def occluded(self) -> list[tuple[str, float]]:
        """By how much the change shrinks towards 0 from below, or grows, without each word: what
        the word adds to it, in nats.
        """
        both = zip(self.candidate.without_word, self.anchor.without_word, strict=True)
        return list(zip(self.words, (self.change - (a - b) for a, b in both), strict=True))

    def pictures(self) -> dict[str, str]:
        """File name -> SVG, one for each method."""
        about = f"{self.task}/{self.sample.id}: log p(answer), candidate − anchor, is "
        about += f"{self.change:+.2f} nats"
        answer = f"The answer: {self.answer[:300]}"
        gap = max(self.anchor.attributed.gap, self.candidate.attributed.gap)
        looked = list(zip(self.tokens, self.candidate.attention, strict=True))
        return {
            "integrated-gradients.svg": picture(
                f"Integrated Gradients · {about}",
                self.integrated,
                [answer, f"What the tokens carry sums up to within {gap:.1%} of it."],
            ),
            "occlusion.svg": picture(
                f"Each word left out · {about}", self.occluded, [answer, "What each word adds."]
            ),
            "attention.svg": picture(
                f"Attention of the candidate · {self.task}/{self.sample.id}",
                looked,
                [answer, CAUTION],
                signed=False,
            ),
        }


def explain_sample(
    store: Store,
    workspace: Workspace,
    verdict_id: str,
    sample_id: str,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> SampleExplained:
    """Both models of a verdict asked about one of its samples. Loads one after the other.

    Raises UserError for a sample that isn't the verdict's, or has no question and no answer, and
    for models whose weights are not here any more: before any weight is loaded.
    """
    [verdict] = store.query("SELECT * FROM verdicts WHERE verdict_id = ?", [verdict_id])
    if verdict["anchor_run"] is None:
        raise UserError(
            "the verdict's anchor is no run, so there is no answer to compare with",
            field=verdict_id,
            hint="explain a verdict between two runs",
        )
    anchor, candidate = (require_run(store, verdict[f"{s}_run"]) for s in ("anchor", "candidate"))
    task, sample = _sample(store, candidate, sample_id)
    answer = right_answer(store, anchor, sample)
    if not sample.prompt or not answer:
        raise UserError(
            f"the sample {task}/{sample.id} has no "
            + ("answer that should have been given" if sample.prompt else "question, only a text"),
            field="--sample",
            hint="name one that has a prompt and a reference, or an answer of the anchor's",
        )
    files = [files_of(run, workspace) for run in (anchor, candidate)]
    sides: list[Side] = []
    for run, found in zip((anchor, candidate), files, strict=True):
        say(f"Asking {run.model}")
        side, tokens, words = _side(found, sample, answer)
        sides.append(side)
        gc.collect()
    if len(sides[0].attributed.tokens) != len(sides[1].attributed.tokens):
        raise UserError(
            "the two models read the question as other tokens, so nothing can be subtracted",
            field="--sample",
            hint="explain a candidate that has the anchor's tokenizer and chat template",
        )
    return SampleExplained(task, sample, answer, tokens, words, sides[0], sides[1])


def right_answer(store: Store, anchor: Run, sample: Sample) -> str | None:
    """What should have been said: the sample's text, its first reference, or else the first answer
    of the run `anchor`.
    """
    if sample.text is not None:
        return sample.text
    if sample.references:
        return sample.references[0]
    return next(iter(answers_to(store, anchor, sample)), None)


def answers_to(store: Store, run: Run, sample: Sample) -> list[str]:
    """What a run's model said to a sample, in a fixed order."""
    rows = store.query(
        "SELECT r.text FROM run_responses l JOIN responses r USING (key) WHERE l.run_id = ? "
        "AND l.task = ? AND l.sample_id = ? AND l.kind = 'generation' AND r.error IS NULL "
        "ORDER BY r.draw, r.response_index",
        [run.id, sample.task, sample.id],
    )
    return [row["text"] for row in rows]


def sample_of(store: Store, verdict_id: str, name: str) -> tuple[Run, str, Sample]:
    """(candidate, task, sample) of a stored verdict, the sample by `ID` or `task/ID`. Raises
    UserError where none or several are meant.
    """
    [verdict] = store.query("SELECT * FROM verdicts WHERE verdict_id = ?", [verdict_id])
    candidate = require_run(store, verdict["candidate_run"])
    return candidate, *_sample(store, candidate, name)


def _sample(store: Store, run: Run, name: str) -> tuple[str, Sample]:
    """By `ID` or `task/ID`. Raises UserError where none or several are meant."""
    tasks = tasks_of(run.fingerprint.protocol)
    found: list[tuple[str, Sample]] = []
    some: list[str] = []
    for task, declared in tasks.items():
        samples = load_samples(store, declared.digest)
        some.extend(f"{task}/{each}" for each in list(samples)[:3])
        for wanted in {name, name.removeprefix(f"{task}/")}:
            if wanted in samples:
                found.append((task, samples[wanted]))
                break
    if len(found) != 1:
        several = ", ".join(f"{task}/{sample.id}" for task, sample in found)
        raise UserError(
            f"{name!r} is several samples: {several}"
            if found
            else f"the verdict has no sample {name!r}",
            field="--sample",
            hint="write TASK/ID" if found else f"such as {', '.join(some[:3])}",
        )
    return found[0]


def files_of(run: Run, workspace: Workspace) -> ModelFiles:
    """The files that a run's model was scored from: by its name, or among the checkpoints of its
    training. Raises UserError where none there has the digest that was scored.
    """
    for place in places_of(run, workspace):
        try:
            files = resolve(place, workspace)
        except UserError:
            continue
        if files.digest == run.model_digest:
            return files
    raise UserError(
        f"the weights of {run.model} are not here any more, or never were: nothing can be asked "
        "of them",
        field=run.id,
        hint="bring them back to where they were scored; a server's and imported runs' can't be",
    )


def places_of(run: Run, workspace: Workspace) -> Iterator[str]:
    """Names under which a run's model may lie here, as `resolve` takes them."""
    name = run.model.removeprefix("vllm:")
    if ":" not in name or Path(name).exists():
        yield name
    yield str(workspace.checkpoints / run.model_digest)
    if run.training_id is not None and run.step is not None:
        home = workspace.trainings / run.training_id
        for folder in sorted(home.glob(f"*/step-{run.step:06d}*")):
            yield str(folder)


def _side(
    files: ModelFiles, sample: Sample, answer: str
) -> tuple[Side, tuple[str, ...], tuple[str, ...]]:
    from harness.backends.transformers.backend import TransformersBackend
    from harness.models.resolve import load

    model, tokenizer = load(files)
    model.requires_grad_(False)
    backend = TransformersBackend(model, tokenizer)
    question = str(sample.prompt[-1]["content"])
    asked = _asked(backend, sample, question, answer)
    if len(asked.ids) > backend.max_length or asked.begin == asked.end:
        raise UserError(
            f"the question of {sample.task}/{sample.id} is "
            + ("empty" if asked.begin == asked.end else "longer than the model reads"),
            field="--sample",
            hint="name another sample",
        )
    words = words_of(question)[:MOST_WORDS]
    texts = [_asked(backend, sample, text, answer) for text in left_out(question, words)]
    side = Side(
        integrated_gradients(model, asked),
        tuple(logprobs_of(model, texts)),
        attention(model, asked),
    )
    tokens = tuple(tokenizer.decode([i]) for i in asked.prompt[asked.begin : asked.end])
    return side, tokens, tuple(question[begin:end] for begin, end in words)


def _asked(backend: Any, sample: Sample, question: str, answer: str) -> Asked:
    def prompt(text: str) -> Sequence[int]:
        turns: list[Mapping[str, Any]] = [
            *sample.prompt[:-1],
            {**sample.prompt[-1], "content": text},
        ]
        ids: Sequence[int] = backend.encode_chat(turns, sample.options)
        return ids

    ids = prompt(question)
    before, said = backend.encode_answer(answer, ids)
    whole = Asked.between((*ids, *before), (*prompt(""), *before), said)
    return whole
