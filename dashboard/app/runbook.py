"""What each signal of the watch means when it fails, as docs/oncall.md has it."""

from __future__ import annotations

MEANS: dict[str, str] = {
    "errors": "Requests end in errors. Nearly always the server: out of memory, a wrong template, "
    "a time limit. Read the answers that tripped it: the error says which. A roll back helps only "
    "where the new model is what the server can't load or answers too long.",
    "errors_now": "The circuit breaker: at least half of the requests of a minute failed. As "
    "errors, and at once. It speaks once an hour while it lasts, and is over when a look an hour "
    "later finds it so.",
    "latency": "Answers are slower than the reference's. Load and neighbors on the machine move "
    "them as much as the model: begin with the requests, then see the length of answers.",
    "tokens_per_s": "Answers come slower per token: another dtype, another card, or no batching. "
    "Rarely the weights.",
    "completion": "Conversations are given up. Read them. A model that asks back, refuses or loops "
    "shows here first.",
    "satisfaction": "Stars and thumbs fell. Few users give any, and they are not all users: mind "
    "n, and what else moved.",
    "corrections": "Users change answers. Their texts are training data: ratchet watch harvest.",
    "retries": "Users ask again. Read question and answer side by side: wrong language, wrong "
    "format, or beside the point.",
    "toxicity": "The classifier reads English unless the policy names another. Read before you "
    "act: it is wrong on quotes.",
    "sensitive_words": "Words of the lists. A new campaign or a product's name may be the reason, "
    "and not the model.",
    "refusals": "It declines more often. A system prompt that changed does the same as a model "
    "that did.",
    "language": "It answers in another script than it was asked in. Often the chat template, or a "
    "prompt in two languages.",
    "length": "Answers became longer or shorter: the end token, the time limit, or the style of "
    "the training data.",
    "json_valid": "Answers are no longer one JSON object. Whoever reads them by program is broken "
    "now: roll back first.",
    "embedding_drift": "Answers mean something else than the reference's. New topics move it as "
    "well as a new model.",
    "judge": "The judge likes the answers less. Make sure that the judge is still the same one.",
}


def means(signal: str) -> str | None:
    """What a signal's failure means; None for one that isn't the watch's own."""
    return MEANS.get("latency" if signal.startswith("latency_") else signal)
