"""Signals that need a model: how far the meaning has moved, and whether an answer helps."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.backends.base import Backend, GenerationRequest, GenerationSettings
from harness.core.thoughts import without_thoughts
from harness.watch.monitor.text import Text

RUBRIC = (
    "An answer serves its question if it is correct, complete enough to act on, and to the point."
)
_INSTRUCTION = (
    "You judge one answer to one question. {rubric}\n"
    "Think briefly, then end with exactly one of [[YES]] or [[NO]] and nothing after it."
)
_CASE = "Question:\n{question}\n\nAnswer:\n{answer}"
_VERDICT = re.compile(r"\[\[(YES|NO)\]\]")
_TOKENS = 256


def centre(answers: Sequence[str], model: str | None = None) -> tuple[float, ...]:
    """The mean direction of the answers' embeddings: a unit vector, rounded to six digits.

    `model` as in `harness.metrics.similarity.embed`. Raises ValueError where the embeddings
    cancel out.
    """
    import numpy as np

    from harness.metrics.similarity import embed

    mean = embed(answers, model=model).mean(axis=0)
    length = float(np.linalg.norm(mean))
    if length == 0:
        raise ValueError("the answers have no direction in common")
    return tuple(round(float(part), 6) for part in mean / length)


def distances(
    answers: Sequence[str], middle: Sequence[float], model: str | None = None
) -> list[float]:
    """Half of 1 − cosine between each answer and the middle: 0 (alike) to 1 (opposite)."""
    import numpy as np

    from harness.metrics.similarity import embed

    if not answers:
        return []
    texts = list(dict.fromkeys(answers))
    apart = np.clip((1 - embed(texts, model=model) @ np.asarray(middle)) / 2, 0.0, 1.0)
    found = dict(zip(texts, apart.tolist(), strict=True))
    return [found[answer] for answer in answers]


def judged(texts: Sequence[Text], model: str, rubric: str | None = None) -> list[float | None]:
    """1 where the model `model` finds that an answer serves its question, else 0.

    None without a question, or where the model gave no verdict that can be read: one verdict, at
    the very end. At temperature 0; `model` is a folder, a hub id or `openai:URL#MODEL`.
    """
    from harness.metrics.judge import open_judge

    asked = [i for i, text in enumerate(texts) if text.prompt]
    replies = ask(open_judge(model), [texts[i] for i in asked], rubric or RUBRIC)
    found: list[float | None] = [None] * len(texts)
    for i, value in zip(asked, replies, strict=True):
        found[i] = value
    return found


def ask(backend: Backend, texts: Sequence[Text], rubric: str) -> list[float | None]:
    """The verdict of `backend` on each answer, as in `judged`."""
    requests = []
    for row, text in enumerate(texts):
        case = _CASE.format(question=text.prompt, answer=text.response)
        prompt = backend.encode_chat(
            [
                {"role": "system", "content": _INSTRUCTION.format(rubric=rubric)},
                {"role": "user", "content": case},
            ]
        )
        requests.append(GenerationRequest(str(row), prompt, (0,)))
    found: list[float | None] = [None] * len(texts)
    if requests:
        for reply in backend.generate(requests, GenerationSettings(max_new_tokens=_TOKENS)):
            if reply.error is None:
                found[int(reply.request_id)] = verdict_of(reply.text)
    return found


def verdict_of(reply: str) -> float | None:
    """1 for yes, 0 for no; None where there is none, more than one, or words after it."""
    reply = without_thoughts(reply)
    verdicts = list(_VERDICT.finditer(reply))
    if len(verdicts) != 1 or reply[verdicts[0].end() :].strip(" \n.*"):
        return None
    return float(verdicts[0].group(1) == "YES")
