"""The sandbox through its public functions: verdicts, plain data, whole programs, failures."""

from __future__ import annotations

import pytest

from harness.core.errors import UserError
from harness.sandbox.outcome import LABELS, Job, Limits
from harness.sandbox.pool import Sandbox
from tests.harness.sandbox.run_builders import IDENTITY, PATIENT, TIER, run


def test_an_outcome_says_what_it_took(sandbox: Sandbox) -> None:
    outcome = run(sandbox, "def f(x):\n    print('seen', x)\n    return x + 1", "assert f(1) == 2")
    assert outcome.label == "pass"
    assert outcome.passed
    assert outcome.verdict == "split"
    assert outcome.tier == sandbox.tier == TIER
    assert outcome.output == "seen 1\n"
    assert 0 < outcome.cpu_s < 5
    assert outcome.wall_s > 0
    assert 5_000_000 < outcome.peak_memory_bytes < 100_000_000
    assert outcome.label in LABELS


@pytest.mark.parametrize(
    "value",
    [
        *("None", "True", "0", "-7", "10**400", "-(2**3000)", "1.5", "float('inf')", "1+2j"),
        *("''", "'\\ud800 é 中'", "b'\\x00\\xff'", "bytearray(b'x')", "range(3, 9, 2)"),
        *("[]", "()", "{}", "set()", "frozenset({1})", "[(1, [2, {3}])]", "{(1, 2): {'d': [3]}}"),
        *("{'i': 'ff'}", "{'h': 0}", "{1: 2, None: 3}", "[[[[[[[[1]]]]]]]]", "-0.0"),
    ],
)
def test_plain_data_crosses_unchanged(sandbox: Sandbox, value: str) -> None:
    tests = (
        f"value = {value}\nback = f(value)\nassert back == value\nassert type(back) is type(value)"
    )
    assert run(sandbox, IDENTITY, tests).passed


def test_nan_crosses_unchanged(sandbox: Sandbox) -> None:
    assert run(sandbox, IDENTITY, "x = f(float('nan'))\nassert x != x").passed


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("class Mine(dict): pass\ndef f(): return Mine(a=2, b=1)", "{'a': 2, 'b': 1}"),
        ("class Mine(tuple): pass\ndef f(): return Mine((1, 2))", "(1, 2)"),
        ("import enum\nE = enum.IntEnum('E', 'a b')\ndef f(): return E.b", "2"),
    ],
)
def test_a_subclass_arrives_as_its_base(sandbox: Sandbox, program: str, value: str) -> None:
    tests = f"assert f() == {value}\nassert type(f()) is type({value})"
    assert run(sandbox, program, tests).passed


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ("x.append(3)", "[1]", "[1, 3]"),
        ("x.sort()", "[3, 1, 2]", "[1, 2, 3]"),
        ("x['b'] = 2", "{'a': 1}", "{'a': 1, 'b': 2}"),
        ("x.add(2)", "{1}", "{1, 2}"),
        ("x[0].append(1); x.append(5)", "[[]]", "[[1], 5]"),
        ("x.extend(b'b')", "bytearray(b'a')", "bytearray(b'ab')"),
    ],
)
def test_changed_arguments_come_back(
    sandbox: Sandbox, change: str, before: str, after: str
) -> None:
    program = f"def f(x):\n    {change}"
    assert run(
        sandbox, program, f"x = {before}\ny = x\nf(x)\nassert x == {after}\nassert x is y"
    ).passed
    assert run(sandbox, program, f"x = {before}\nf(x=x)\nassert x == {after}, x").passed


def test_a_changed_list_within_a_list_keeps_its_identity(sandbox: Sandbox) -> None:
    program = "def f(rows):\n    rows[0].append(1)"
    assert run(sandbox, program, "row = []\nf([row])\nassert row == [1]").passed


@pytest.mark.parametrize("error", ["ValueError", "KeyError", "ZeroDivisionError", "StopIteration"])
def test_exceptions_map_by_name(sandbox: Sandbox, error: str) -> None:
    tests = f"try: f()\nexcept {error} as e: assert 'told' in str(e)\nelse: raise AssertionError"
    assert run(sandbox, f"def f(): raise {error}('told')", tests).passed


def test_an_exception_of_the_programs_own_maps_to_its_nearest_builtin(sandbox: Sandbox) -> None:
    program = "class Mine(LookupError): pass\ndef f(): raise Mine('x')"
    assert run(sandbox, program, "try: f()\nexcept LookupError: pass\nelse: assert False").passed


def test_the_programs_own_exception_can_be_caught_by_name(sandbox: Sandbox) -> None:
    program = "class Base(ValueError): pass\nclass Mine(Base): pass\ndef f(): raise Mine('told')"
    tests = "try: f()\nexcept Mine as e: assert str(e) == 'told'\nelse: assert False"
    outcome = run(sandbox, program, tests)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome
    assert run(sandbox, program, tests.replace("Mine", "Base")).passed
    assert (
        run(sandbox, program.replace("raise Mine", "raise KeyError"), tests).label == "fail:tests"
    )


def test_objects_cross_within_containers(sandbox: Sandbox) -> None:
    program = (
        "class Node:\n    def __init__(self, v): self.v = v\n"
        "def f(n): return [Node(i) for i in range(n)]\n"
        "def g(nodes): return sum(n.v for n in nodes)\n"
    )
    assert run(
        sandbox, program, "nodes = f(4)\nassert nodes[3].v == 3\nassert g(nodes) == 6"
    ).passed


def test_a_generator_is_asked_for_its_values(sandbox: Sandbox) -> None:
    program = "def f(n):\n    while True:\n        yield n\n        n += 1"
    tests = "import itertools\nassert list(itertools.islice(f(3), 4)) == [3, 4, 5, 6]"
    assert run(sandbox, program, tests).passed


def test_tests_that_catch_everything_cannot_hide_an_exit(sandbox: Sandbox) -> None:
    tests = "for _ in range(3):\n    try: f()\n    except BaseException: pass"
    assert run(sandbox, "import os\ndef f(): os._exit(0)", tests).label == "fail:exited"


def test_classes_stay_with_the_program_and_are_tested_all_the_same(sandbox: Sandbox) -> None:
    program = (
        "class Stack:\n"
        "    def __init__(self): self.items = []\n"
        "    def push(self, x): self.items.append(x); return self\n"
        "    def __len__(self): return len(self.items)\n"
        "    def __getitem__(self, i): return self.items[i]\n"
        "    def __eq__(self, other): return self.items == other.items\n"
        "    def __iter__(self): return iter(self.items)\n"
        "def top(stack): return stack.items[-1]\n"
    )
    tests = (
        "s = Stack()\ns.push(1).push(2)\nassert len(s) == 2\nassert s[0] == 1\n"
        "assert s.items == [1, 2]\n"
        "assert list(s) == [1, 2]\nassert s == Stack().push(1).push(2)\nassert s != Stack()\n"
        "assert top(s) == 2\nassert s != [1, 2]\nassert candidate is Stack\n"
    )
    outcome = run(sandbox, program, tests, "Stack")
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome
    assert (
        run(sandbox, program, tests.replace("top(s) == 2", "top(s) == 1"), "Stack").label
        == "fail:tests"
    )


def test_an_entry_point_may_be_an_expression(sandbox: Sandbox) -> None:
    program = "class Solution:\n    def add(self, a, b): return a + b"
    assert run(sandbox, program, "assert candidate(1, 2) == 3", "Solution().add").passed


def test_names_of_the_setup_are_the_judges_own(sandbox: Sandbox) -> None:
    program = "def near(a, b): return True\ndef f(): return 5"
    tests = "assert near(f(), 1)"
    fair = sandbox.run_tests(program, tests, "f", setup="def near(a, b): return abs(a - b) < 1")
    assert fair.label == "fail:tests"


def test_check_is_called_for_tests_that_leave_it(sandbox: Sandbox) -> None:
    tests = "def check(candidate):\n    assert candidate(1) == 2\n"
    assert run(sandbox, IDENTITY, tests).label == "fail:tests"


@pytest.mark.parametrize(
    ("tests", "named"),
    [
        ("assert f(1) == 1\n\nassert f(2) == 3", "line 3, `assert f(2) == 3`: AssertionError"),
        ("for x, y in [(1, 1), (2, 3)]:\n    assert f(x) == y, x", "line 2, `assert f(x) == y, x`"),
        ("assert (\n    f(1)\n    == 2\n)", "line 2, `f(1) == 2`: AssertionError"),
        ("def check(g):\n    assert g(1) == 1\n    assert g(2) == 3", "line 3, `assert g(2) == 3`"),
        ("def check(g):\n    x = g(1)\n    assert x == 2\ncheck(f)", "line 3, `assert x == 2`"),
        ("def same(x, y):\n    assert x == y\nsame(f(1), 2)", "line 3, `same(f(1), 2)`"),
        ("s = '\\x0c\x0c'\nassert candidate(1) > 1", "line 2, `assert candidate(1) > 1`"),
        ("assert f(1) is None", "line 1, `assert f(1) is None`: AssertionError"),
        ("f(1)[0]", "line 1, `f(1)[0]`: TypeError"),
        (f"assert f({'1 + ' * 99}1) == 'wish'", "+ 1) == 'wish'`: AssertionError"),
    ],
)
def test_a_failure_names_the_line_of_the_tests(sandbox: Sandbox, tests: str, named: str) -> None:
    outcome = run(sandbox, IDENTITY, tests)
    assert (outcome.label, outcome.verdict) == ("fail:tests", "split"), outcome
    assert named in outcome.detail
    assert len(outcome.detail) < 150


def test_a_failure_in_the_setup_says_so(sandbox: Sandbox) -> None:
    outcome = sandbox.run_tests(IDENTITY, "same(1)", "f", setup="def same(x): assert f(x) == 2")
    assert outcome.detail.startswith("line 1, `same(1)`: ")
    outcome = sandbox.run_tests(IDENTITY, "f(1)", "f", setup="\nassert 1 == 2")
    assert outcome.detail == "line 2 of setup.py, `assert 1 == 2`: AssertionError"


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): raise ValueError('line 9, `assert f(0) == 0`: AssertionError')",
        "class Lie(Exception): pass\nLie.__name__ = 'line 9, `assert f(0)`'\ndef f(x): raise Lie",
        "exec(compile('def f(x):\\n' + ' \\n' * 8 + '  assert f == 0', 'tests.py', 'exec'))",
        "import linecache, re, sys, traceback\n"
        "re.split = linecache.getline = traceback.extract_tb = lambda *a, **k: ['line 9']\n"
        "for m in list(sys.modules.values()):\n"
        "    if hasattr(m, 'named'): m.named = lambda *a: 'line 9, '\n"
        "def f(x):\n    print('line 9, `assert f(0) == 0`: AssertionError')\n    return 0",
    ],
)
def test_no_program_forges_the_line(sandbox: Sandbox, program: str) -> None:
    outcome = run(sandbox, program, "assert candidate(7) == 8")
    assert (outcome.label, outcome.verdict) == ("fail:tests", "split"), outcome
    assert outcome.detail.startswith("line 1, `assert candidate(7) == 8`: ")


def test_no_later_program_reads_the_line() -> None:
    """With one worker and one judge, what a failure leaves in the zygote the next program sees."""
    look = (
        "import gc\n"
        "def f():\n"
        "    secret = '_'.join(['hidden', 'line'])\n"
        "    return sum(secret in repr(o) for o in gc.get_objects() if type(o) is not dict)\n"
    )
    with Sandbox(workers=1, minimum="C") as alone:
        for _ in range(3):
            failed = run(alone, IDENTITY, "assert f(1) == 'hidden_line'")
            assert "hidden_line" in failed.detail
            assert "hidden_line" not in failed.output
            assert run(alone, look, "assert f() == 0").passed
        assert run(alone, f"{look}left = ['hidden_line']", "assert f() > 0").passed


def test_a_cooperative_failure_names_no_line(sandbox: Sandbox) -> None:
    outcome = sandbox.run_tests(IDENTITY, "assert f(1) == 2", "f", mode="cooperative")
    assert outcome.detail == "AssertionError"


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(g): return g(2)", "assert f(lambda x: x + 1) == 3"),
        ("def f(x): return x.value", "class Box: value = 3\nassert f(Box()) == 3"),
    ],
)
def test_what_cannot_be_split_is_cooperative_and_says_so(
    sandbox: Sandbox, program: str, tests: str
) -> None:
    outcome = run(sandbox, program, tests)
    assert (outcome.label, outcome.verdict) == ("pass", "cooperative"), outcome
    strict = sandbox.run_tests(program, tests, "f", mode="split")
    assert strict.label == "infra"


@pytest.mark.parametrize(
    ("program", "label"),
    [
        ("def f(): return 1", "pass"),
        ("def f(): return 2", "fail:tests"),
        ("def f(:", "fail:load"),
        ("import os\ndef f(): os._exit(0)", "fail:exited"),
        ("import os\ndef f(): os.abort()", "fail:signal"),
        ("import os, time\nos.close(3)\ntime.sleep(9)", "fail:protocol"),
        ("import os\nos.write(3, b'\\0\\0\\0\\2[]')\ndef f(): return 2", "fail:protocol"),
        ("def f():\n    while True: pass", "timeout:cpu"),
        ("import time\ndef f(): time.sleep(99)", "timeout:wall-idle"),
        ("def f(): return bytes(1 << 40)", "fail:memory"),
    ],
)
def test_the_cooperative_form_has_the_same_labels(
    sandbox: Sandbox, program: str, label: str
) -> None:
    limits = Limits(cpu_s=0.5, wall_s=0.5)
    outcome = sandbox.run_tests(program, "assert f() == 1", "f", mode="cooperative", limits=limits)
    assert (outcome.label, outcome.verdict) == (label, "cooperative"), outcome


@pytest.mark.parametrize(
    ("program", "given", "expected", "label"),
    [
        ("print(int(input()) * 2)", "21\n", "42", "pass"),
        ("print(int(input()) * 2)", "21\n", "42  \n\n", "pass"),
        ("print(41)", "", "42", "fail:tests"),
        ("import sys\nprint(42)\nsys.exit(0)", "", "42\n", "pass"),
        ("import sys\nprint(42)\nsys.exit(3)", "", "42\n", "fail:exited"),
        ("print(42)\nraise ValueError('late')", "", "42\n", "fail:exited"),
        ("import os\nprint(42, flush=True)\nos.abort()", "", "42", "fail:signal"),
        ("while True: pass", "", "42", "timeout:cpu"),
        ("import time\ntime.sleep(99)", "", "42", "timeout:wall-idle"),
        ("while True: print('x' * 999)", "", "42", "fail:output"),
        ("if __name__ == '__main__':\n    print(sum(map(int, open(0))))", "1\n2\n", "3", "pass"),
        ("import threading\nthreading.Timer(0.05, print, ['42']).start()", "", "42", "pass"),
        ("print('中文')", "", "中文", "pass"),
    ],
)
def test_whole_programs_are_judged_by_what_they_print(
    sandbox: Sandbox, program: str, given: str, expected: str, label: str
) -> None:
    limits = Limits(cpu_s=0.7, wall_s=0.7)
    outcome = sandbox.run_stdio(program, given, expected, limits=limits)
    assert (outcome.label, outcome.verdict) == (label, "split"), outcome


def test_a_failing_program_shows_its_traceback(sandbox: Sandbox) -> None:
    outcome = sandbox.run_stdio("x = 1\nraise ValueError('late')", "", "42")
    assert "ValueError: late" in outcome.output
    assert "line 2" in outcome.output


def test_outcomes_come_in_the_jobs_order(sandbox: Sandbox) -> None:
    jobs = [
        Job.of_tests(f"def f():\n    print({n})", "candidate()", "f", limits=PATIENT)
        for n in range(40)
    ]
    assert [outcome.output for outcome in sandbox.run_many(jobs)] == [f"{n}\n" for n in range(40)]


def test_tests_that_do_not_compile_are_the_users_mistake(sandbox: Sandbox) -> None:
    with pytest.raises(UserError, match="tests of a job do not compile"):
        sandbox.run_tests(IDENTITY, "assert (", "f")
