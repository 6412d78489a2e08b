"""The pre-commit hook: checks the suites among the files that changed."""

from __future__ import annotations

import sys

from harness.core.errors import UserError


def check_suites() -> None:
    """`ratchet-check-suites FILE…`: exits with 1, and a word on each, where a suite is wrong."""
    from harness.suite.load import load_suite

    wrong = 0
    for path in sys.argv[1:]:
        try:
            load_suite(path)
        except UserError as error:
            wrong += 1
            print(error.render(), file=sys.stderr)  # noqa: T201 -- a hook of its own, no verb
    sys.exit(1 if wrong else 0)
