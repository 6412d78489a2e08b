"""The policy of watching, and what single signals make of a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.watch.monitor.policy import DEFAULT_WATCH_POLICY, WatchPolicy, load_policy
from harness.watch.monitor.signals import BY_NAME
from harness.watch.monitor.text import Text
from tests.harness.suite_builders import Ratchet


def written(folder: Path, text: str) -> Path:
    path = folder / "watch.yaml"
    path.write_text(text, encoding="utf-8")
    return path


WHOLE = """
margin: 0.1
alpha_per_day: 0.002
window: 12h
settle: 90s
reference: previous
conversations: 500
signals:
  completion: {required: true, margin: 0.03}
  toxicity: {share: 0.2, floor: 0.01}
  json_valid: {reference: anchor, metric: intents/json_valid}
  retries: false
"""


def test_a_whole_policy_is_read(tmp_path: Path) -> None:
    policy = load_policy(written(tmp_path, WHOLE))
    assert (policy.window_s, policy.settle_s, policy.source) == (43_200, 90, "previous")
    assert policy.margin_of("completion") == 0.03
    assert policy.margin_of("errors") == 0.1
    assert policy.role_of("completion") == "required"
    assert policy.share_of("toxicity") == 0.2
    assert policy.source_of("json_valid") == "anchor"
    assert "retries" not in policy.watched()
    assert "json_valid" in policy.watched()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, "\n")) == DEFAULT_WATCH_POLICY


def test_another_policy_has_another_digest() -> None:
    assert WatchPolicy(margin=0.1).digest != DEFAULT_WATCH_POLICY.digest
    assert WatchPolicy().digest == DEFAULT_WATCH_POLICY.digest


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("margn: 0.1\n", 1, "did you mean 'margin'"),
        ("margin: 0.1\nsignals:\n  completon: {}\n", 3, "did you mean 'completion'"),
        ("signals:\n  errors: {flor: 0.1}\n", 2, "did you mean 'floor'"),
        ("signals:\n  errors: {required: true, advisory: true}\n", 2, "not both"),
        ("signals:\n  errors: {options: {model: x}}\n", 2, "takes no option 'model'"),
        ("signals:\n  completion: {reference: anchor}\n", 2, "needs `metric:"),
        ("signals:\n  judge: {share: 0.1}\n", 2, "needs the option 'model'"),
        ("reference: yesterday\n", 1, "or a digest"),
        ("reference: anchor\n", 1, "set per signal"),
        ("window: soon\n", 1, "a duration is written"),
        ("margin: 0.1\nwindow_s: 60\n", 2, "did you mean 'window'"),
        ("signals:\n  toxicity:\n", 2, "keys and values"),
        ("window: 5s\n", 1, "a minute at least"),
        ("window: .inf\n", 1, "at most 3650d"),
        ("settle: 99999999999d\n", 1, "at most 3650d"),
        ("alpha_per_day: 0\n", 1, "greater than 0"),
        ("alpha_per_day: 0.1\nalpha_per_day: 0.2\n", 2, "written twice"),
        ("signals:\n  sensitive_words: {options: {file: /nowhere/x}}\n", 2, "word list"),
    ],
)
def test_a_bad_policy_is_one_message_with_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_policy(written(tmp_path, text))
    assert said in str(caught.value)
    assert caught.value.line == line or "word list" in said
    assert "Traceback" not in str(caught.value)


def test_the_verb_says_what_a_policy_asks_and_refuses_a_typo(
    ratchet: Ratchet, tmp_path: Path
) -> None:
    code, said = ratchet("watch", "policy", written(tmp_path, WHOLE))
    assert code == 0
    assert "json_valid" in said
    assert "expect at most 0.002 false alarms a day, 0.06 a month" in said
    code, said = ratchet("watch", "check", "--policy", written(tmp_path, "margn: 1\n"))
    assert code == 3
    assert "did you mean 'margin'" in said


def test_nothing_to_watch_is_bad_input_and_no_verdict(ratchet: Ratchet) -> None:
    code, said = ratchet("watch", "check")
    assert code == 3
    assert "nothing was ever promoted" in said
    assert ratchet("watch", "status")[0] == 3
    code, said = ratchet("watch", "status", "no-such-line")
    assert code == 3
    assert "there is no line 'no-such-line'" in said


def test_refusals_are_known_in_both_languages() -> None:
    measure = BY_NAME["refusals"].measure
    assert measure is not None
    said = (
        "I'm sorry, but I can't help with that.",
        "抱歉，我无法回答这个问题。",
        "The parcel arrives tomorrow.",
        "您的包裹明天到。",
    )
    assert measure([Text(None, text) for text in said], {}) == [1.0, 1.0, 0.0, 0.0]


def test_language_is_that_of_the_question() -> None:
    measure = BY_NAME["language"].measure
    assert measure is not None
    texts = [
        Text("现在几点？", "现在是中午。"),
        Text("现在几点？", "It is noon."),
        Text("What time is it?", "It is noon."),
        Text(None, "It is noon."),
        Text("What time is it?", "12:00"),
    ]
    assert measure(texts, {}) == [1.0, 0.0, 1.0, None, None]


def test_toxicity_says_nothing_of_what_it_can_t_read() -> None:
    measure = BY_NAME["toxicity"].measure
    assert measure is not None
    mild, chinese, harsh = measure(
        [
            Text(None, "Have a nice day"),
            Text(None, "你真是个笨蛋"),
            Text(None, "you are a stupid idiot"),
        ],
        {},
    )
    assert chinese is None
    assert mild is not None
    assert harsh is not None
    assert mild < 0.3 < harsh


def test_sensitive_words_are_found_in_both_languages() -> None:
    measure = BY_NAME["sensitive_words"].measure
    assert measure is not None
    texts = [Text(None, "what the fuck"), Text(None, "你这个王八蛋"), Text(None, "fine, 很好")]
    assert measure(texts, {}) == [1.0, 1.0, 0.0]
    assert measure(texts, {"words": ["很好"], "shipped": False}) == [0.0, 0.0, 1.0]
