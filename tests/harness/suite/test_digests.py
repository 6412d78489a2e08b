"""The digests under which runs and answers are stored, written down: refactoring must keep them.

A test that fails here says that runs, cached answers or watches of an older version are no longer
found. Change a row only together with a suite or its data.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Candidate
from harness.comparison.calibrations import policy_document
from harness.core.digests import digest_of
from harness.evaluation.plan import Extent, Scoring
from harness.evaluation.runner import protocol_of
from harness.suite.load import load_suite
from harness.watch.monitor.policy import WatchPolicy, load_policy

ROOT = Path(__file__).resolve().parents[3]

SUITES: dict[str, tuple[str | None, str, str, str]] = {
    "suites/bias-pairs.yaml": (
        "1836c956fd26cf58",
        "e0ce1089e199b9ee",
        "8a56279a99a23084",
        "161060051be8e554",
    ),
    "suites/chat-en.yaml": (None, "df3ad8a1724527a0", "044d2ab9574965c3", "141ae40a61f50f0d"),
    "suites/chat-zh.yaml": (None, "f107425d9ccfa45a", "0fae1b37d845ac0d", "db7b9bd42dc717b2"),
    "suites/code.yaml": (None, "42d7aaf1b095fb75", "a44cb76807203377", "1333810c73724388"),
    "suites/forgetting.yaml": (
        "bfd29059813161e9",
        "44d8520df48aa0ae",
        "81b85649a0a7dac8",
        "112df628604f4b04",
    ),
    "suites/knowledge.yaml": (
        "a10c85f9ae4e56a6",
        "d97f2def2ee09582",
        "428f386387df433d",
        "92ac3cd33a17f6ae",
    ),
    "suites/math.yaml": (
        "e8ad443f08510493",
        "da8845957260f022",
        "84d44cec642675f9",
        "22013962028856cb",
    ),
    "suites/quickstart.yaml": (
        "a204c01f531f23ba",
        "65cb8385d633ae4a",
        "e191581597bc9124",
        "5a602f3be1135aac",
    ),
    "suites/pictures.yaml": (
        "4bbc857846032242",
        "e0b801384ec8c451",
        "9ea3af8e1e5b57b4",
        "bc9dacdfe2cd8c9a",
    ),
    "suites/rag.yaml": (
        "51b42d2512b763a5",
        "5a4165029faf62df",
        "673c1d9ae558f366",
        "fadfe83d0bff483f",
    ),
    "suites/safety.yaml": (
        "529bd55080babad3",
        "6b3b434d4e49371a",
        "e388574f1883b08c",
        "367678405e6a577c",
    ),
    "suites/tools.yaml": (
        "d01bca42c26fcc48",
        "396f8e1ca952ea2f",
        "781046a636fc7438",
        "ddd92969d2579ac0",
    ),
    "trainers/recipes/gates/pairs.yaml": (
        "eaa21ea451afccd5",
        "012e0a2385eae732",
        "54b4cbeef117502b",
        "7a2b547d9a831354",
    ),
    "trainers/recipes/gates/preference.yaml": (
        "c478e57e41598ee7",
        "37cfc4e5d3e97b13",
        "8108459f4b17822d",
        "c73b23b255d91522",
    ),
    "trainers/recipes/gates/replies.yaml": (
        "9dea1d3b68d3654b",
        "088aca801c930b9b",
        "8f298ff76daccb5b",
        "b2dae6f3cac4a840",
    ),
}
"""Suite -> digest of a run's protocol (None where it names a library's version or the sandbox's
tier), of its tasks' digests, of the addresses of its answers, and of its policy as it is stored.
"""


def _no_model() -> Any:
    raise AssertionError("nothing is opened")


@pytest.mark.parametrize("name", SUITES)
def test_a_shipped_suite_keeps_its_digests(name: str) -> None:
    protocol, tasks, keys, policy = SUITES[name]
    suite = load_suite(ROOT / name)
    model = Candidate("m", "0" * 64, {"backend": "scripted"}, _no_model)
    wanted = Scoring(model, suite, 3, 5, 1, Extent(responses=2, reserve=0.5)).answers()
    assert digest_of([task.digest for task in suite.tasks]) == tasks
    assert digest_of([want.key for want in wanted]) == keys
    assert digest_of(policy_document(suite.policy)) == policy
    if protocol is not None:
        assert digest_of(protocol_of(suite, 3, 5)) == protocol


def test_a_watch_policy_keeps_its_digest(tmp_path: Path) -> None:
    assert WatchPolicy().digest == "67b7da7d56dbea9b"
    path = tmp_path / "watch.yaml"
    path.write_text(
        "{margin: 0.1, alpha_per_day: 0.002, window: 12h, settle: 90s, reference: previous,"
        " conversations: 500, signals: {completion: {required: true, margin: 0.03},"
        " toxicity: {share: 0.2, floor: 0.01}, retries: false,"
        " json_valid: {reference: anchor, metric: intents/json_valid}}}"
    )
    assert load_policy(path).digest == "988f06381702c6ae"
