"""Every reason that the watch writes has its Chinese, with the same numbers in it."""

from __future__ import annotations

import re

import pytest

from harness.report.zh_reasons import chinese

REASONS = [
    "its reference is not complete yet",
    "it has no reference",
    "the reference has 12 values of it, 20 are needed",
    "the reference leaves nothing that could be worse by more than the margin",
    "31 conversations are too few to know so far a quantile",
    "shown to be within the margin",
    "shown to be above 0.1234 on 2030-01-02 03:04 UTC",
    "shown to be below 0.8 on 2030-01-02 03:04 UTC, at 0.153 over 3,474 conversations",
    "no conversation of the current window or the one before has a value of it",
    "with 40 values the reference is too small to show a margin this narrow",
    "neither within nor beyond the margin is shown yet",
    "not seen in both arms yet",
    "0.500 beside 0.700: within the margin",
    "0.500 beside 0.700: worse than the margin allows",
    "0.500 beside 0.700: 1,200 conversations can't tell yet",
    "12 conversations were answered by both: split by conversation",
    "12 of 20 requests failed within 60 s, and the breaker trips at 50%",
    "nothing was ever promoted on bot",
    "0a906e9334af is promoted by now, and 1b906e9334af was judged",
    "0a906e9334af was promoted again after this was decided",
    "0a906e9334af was promoted again after it failed, and has not failed since",
    "0a906e9334af has no version before it to go back to",
    "0a906e9334af was itself restored within the last 60 min: check the server and the requests "
    "before the model",
    "1.00% passed: 10.00% from now on",
    "0a906e9334af gets 1.00% of bot",
    "refusals: shown to be above 0.1 on 2030-01-02 03:04 UTC; retries: it has no reference; and "
    "2 more",
    "watch w-12: refusals: shown to be above 0.1 on 2030-01-02 03:04 UTC",
]


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_in_chinese_has_the_same_numbers(reason: str) -> None:
    said = chinese(reason)
    assert re.search(r"[\u4e00-\u9fff]", said)
    assert sorted(re.findall(r"\d[\d.,]*", reason)) == sorted(re.findall(r"\d[\d.,]*", said))
    bare = re.sub(r"UTC|[0-9a-f]{12}|\b(bot|refusals|retries|w)\b", "", said)
    assert not re.search(r"[A-Za-z]{3}", bare), said
    assert not re.search(r"[,:;]\s", said), "half-width marks"


def test_what_has_no_known_form_stays() -> None:
    assert chinese("by hand") == "by hand"
    assert chinese("") == ""
