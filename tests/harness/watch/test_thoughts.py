"""Signals read what was said to the user, and not what the model only thought."""

from __future__ import annotations

import pytest

from harness.core.types import Direction
from harness.registry.registry import Registry
from harness.store.store import Store
from harness.watch.monitor.look import check
from harness.watch.monitor.model_signals import verdict_of
from harness.watch.monitor.signals import BY_NAME, SIGNALS, measured
from harness.watch.monitor.text import Text
from tests.harness.watch.look_builders import LINE, POLICY, START, Promote, later, serve, signal

RUDE = "The user is a stupid fucking idiot. I can't help with that. 傻逼"


@pytest.mark.parametrize(
    ("name", "answer", "value"),
    [
        ("refusals", f"<think>{RUDE}</think>Of course: it is noon.", 0.0),
        ("refusals", "I can help, surely</think>I'm sorry, I can't help with that.", 1.0),
        ("sensitive_words", f"<think>{RUDE}</think>Of course.", 0.0),
        ("sensitive_words", f"<think>hm</think>{RUDE}", 1.0),
        ("json_valid", '<think>{"a": 1}, or so</think>{"a": 1}', 1.0),
        ("json_valid", '<think>{"a": 1}', 0.0),
        ("language", "<think>用户在问时间，我应该用英文回答。</think>It is noon.", 1.0),
        ("language", "<think>The user asks for the time.</think>现在是中午。", 0.0),
        # Nothing but a thought: the worst value of each.
        ("refusals", "<think>so, noon", 1.0),
        ("sensitive_words", "<think>so, noon</think>", 1.0),
        ("language", "<think>so, noon</think>\n", 0.0),
    ],
)
def test_a_thought_is_no_part_of_an_answer(name: str, answer: str, value: float) -> None:
    assert measured(BY_NAME[name], [Text.of("What time is it?", answer)], {}) == [value]


def test_toxicity_is_that_of_what_was_said() -> None:
    texts = [f"<think>{RUDE}</think>It is noon.", "It is noon.", "<think>It is noon."]
    rude, plain, cut = measured(BY_NAME["toxicity"], [Text.of("", text) for text in texts], {})
    assert rude == plain
    assert cut == 1.0


@pytest.mark.parametrize("one", [s for s in SIGNALS if s.measure], ids=lambda s: s.name)
def test_a_thought_alone_is_never_the_best(one: object) -> None:
    worst: dict[Direction, float] = {"higher": 0.0, "lower": 1.0}
    unspoken = Text.of("Who?", "<think>hm")
    assert measured(one, [unspoken], {}) == [worst[one.direction]]  # type: ignore[arg-type,attr-defined]


def test_a_judge_that_thinks_aloud_gives_one_verdict() -> None:
    assert verdict_of("<think>[[YES]]? Rather [[NO]].</think>It helps. [[YES]]") == 1.0
    assert verdict_of("<think>[[YES]]") is None


@pytest.mark.long
def test_what_was_kept_of_thoughts_before_is_measured_again(
    store: Store, registry: Registry, promote: Promote
) -> None:
    """A value that an earlier version kept of an answer with thoughts isn't its value any more."""
    policy = POLICY.changed(signals={"toxicity": {"share": 1.0}})
    digest = promote("a")

    def answer(i: int) -> str:
        return f"<think>{RUDE}</think>It is noon." if i % 2 else "It is noon."

    count = 310
    end = serve(store, digest, START, count, seed=1, response=answer)
    old = BY_NAME["toxicity"].signature({})
    store.append(
        "observation_signals",
        [
            {"observation_id": f"1-{i}", "signal": "toxicity", "signature": old, "value": 0.9}
            for i in range(count)
        ],
    )
    check(store, registry, LINE, policy, now=later(end))
    rows = store.query("SELECT * FROM observation_signals WHERE value < 0.5")
    again = {row["observation_id"] for row in rows}
    assert again == {f"1-{i}" for i in range(1, count, 2)}


def test_thoughts_move_no_signal(store: Store, registry: Registry, promote: Promote) -> None:
    digest = promote("a")
    end = serve(store, digest, START, 400, seed=1)
    thinks = lambda i: f"<think>{RUDE}</think>It is noon."  # noqa: E731
    end = serve(store, digest, later(end), 400, seed=2, response=thinks)
    verdict = check(store, registry, LINE, POLICY, now=later(end))
    for name in ("sensitive_words", "refusals"):
        assert signal(verdict, name).outcome != "fail"
