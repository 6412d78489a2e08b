"""What programs return equals what tests expect, whatever its type, and on the safe side."""

from __future__ import annotations

import pytest

from harness.sandbox.outcome import Job
from harness.sandbox.pool import Sandbox
from tests.harness.sandbox.run_builders import IDENTITY, PATIENT, run

IMPORTS = (
    "import datetime as dt\nfrom decimal import Decimal\nfrom fractions import Fraction\n"
    "from collections import Counter, OrderedDict, defaultdict, deque, namedtuple\nimport math\n"
)
SETUP = (
    "from dataclasses import dataclass\nfrom enum import Enum\n"
    "@dataclass\nclass Point:\n    x: int\n    y: list\n"
    "class Color(Enum):\n    RED = 1\n    BLUE = 2\n"
)
VALUES = [
    *("dt.date(2020, 2, 29)", "dt.datetime(2020, 1, 2, 3, 4, 5, 6)", "dt.time(1, 2, 3, 4)"),
    *("dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc)", "dt.datetime(2020, 1, 2, fold=1)"),
    *("dt.time(1, tzinfo=dt.timezone(dt.timedelta(hours=2)))", "dt.timezone.utc"),
    *("dt.timedelta(days=-3, microseconds=7)", "Decimal('1.10')", "Decimal('-Infinity')"),
    *("Fraction(-3, 7)", "Fraction(2**2000, 3)", "deque([1, [2]], maxlen=3)", "Counter('aab')"),
    *("OrderedDict([(1, 2), (0, 1)])", "defaultdict(int, {1: 2})", "defaultdict(list)"),
    *("{dt.date(2020, 1, 1): [Decimal(1), (Fraction(1),)]}", "{dt.date(2020, 1, 1)}"),
    *("{1: 2}.keys()", "{1: 2}.items()", "frozenset({1})", "3 + 4j", "bytearray(b'ab')"),
]


@pytest.mark.parametrize("value", VALUES)
def test_values_cross_both_ways(sandbox: Sandbox, value: str) -> None:
    tests = f"value = {value}\nback = f(value)\nassert back == value\n"
    same = "assert type(back) is type(value)\nassert repr(back) == repr(value)"
    outcome = run(sandbox, IDENTITY, IMPORTS + tests + same)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome
    outcome = run(sandbox, f"{IMPORTS}def f(): return {value}", f"{IMPORTS}assert f() == {value}")
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("dt.date(2020, 1, 2)", "dt.date(2020, 1, 1)"),
        ("dt.datetime(2020, 1, 1)", "dt.date(2020, 1, 1)"),
        ("dt.datetime(2020, 1, 1)", "dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)"),
        ("Decimal('0.1')", "0.1"),
        ("Fraction(1, 3)", "Fraction(1, 2)"),
        ("OrderedDict([(1, 2), (0, 1)])", "OrderedDict([(0, 1), (1, 2)])"),
        ("(1, 2)", "[1, 2]"),
        ("'1'", "1"),
        ("float('nan')", "float('nan')"),
        ("math.nan", "math.nan"),
        ("deque([1])", "[1]"),
        ("{1: 2}.values()", "[2]"),
    ],
)
def test_what_is_not_equal_stays_so(sandbox: Sandbox, given: str, expected: str) -> None:
    program = f"{IMPORTS}def f(): return {given}"
    assert run(sandbox, program, f"{IMPORTS}assert f() == {expected}").label == "fail:tests"


@pytest.mark.parametrize(
    ("given", "tests"),
    [
        ("Counter(a=1, b=0)", "assert f() == Counter(a=1)"),
        ("[math.nan, {'x': float('nan')}]", "assert f() == [math.nan, {'x': math.nan}]"),
        ("defaultdict(list, a=[1])", "assert f()['b'] == []"),
        ("Decimal('1.10')", "assert f() == Decimal('1.1') and str(f()) == '1.10'"),
        ("dt.timedelta(1)", "assert dt.date(2020, 1, 1) + f() == dt.date(2020, 1, 2)"),
        (
            "namedtuple('P', 'x count')(1, 2)",
            "p = f()\nassert p == (1, 2)\nassert p.x == p[0] == 1 and p.count == 2\n"
            "assert p._asdict() == {'x': 1, 'count': 2} and isinstance(p, tuple)",
        ),
        ("(n for n in (1, 2))", "assert list(f()) == [1, 2]\nassert next(f()) == 1"),
        ("iter([1, 2])", "assert sorted(f(), reverse=True) == [2, 1]"),
        ("map(abs, [-1])", "assert [*f()] == [1]"),
    ],
)
def test_values_are_used_as_what_they_are(sandbox: Sandbox, given: str, tests: str) -> None:
    outcome = run(sandbox, f"{IMPORTS}def f(): return {given}", IMPORTS + tests)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome


def test_a_named_tuple_goes_back_as_the_programs_own(sandbox: Sandbox) -> None:
    program = f"{IMPORTS}P = namedtuple('P', 'x y')\ndef f(): return P(1, 2)\ndef g(p): return p.y"
    assert run(sandbox, program, "assert g(f()) == 2\nassert f() == P(1, 2) != P(2, 1)").passed


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(): return Point(1, [2])", "assert f() == Point(1, [2])"),
        ("def f(): return [Point(1, [2])]", "assert [Point(1, [2])] == f() != [Point(1, [3])]"),
        ("def f(c): return Color.BLUE", "assert f(Color.RED) is Color.BLUE"),
        ("def f(c): return c is Color.RED", "assert f(Color.RED) and not f(Color.BLUE)"),
        (f"{SETUP}def f(): return Color.BLUE", "assert f() == Color.BLUE != Color.RED"),
    ],
)
def test_the_setups_classes_are_shared(sandbox: Sandbox, program: str, tests: str) -> None:
    outcome = sandbox.run_tests(program, tests, "f", setup=SETUP, limits=PATIENT)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome


def test_a_class_of_the_setup_compares_itself(sandbox: Sandbox) -> None:
    setup = (
        "class Vector:\n    def __init__(self, *xs): self.xs = xs\n"
        "    def __eq__(self, other): return isinstance(other, Vector) and self.xs == other.xs\n"
        "class Near:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, other): return abs(other - self.x) < 0.1\n"
    )
    yes = "class Yes:\n    def __sub__(self, other): return 0\n    __eq__ = lambda *_: True\n"
    for program, tests, label in (
        ("def f(): return Vector(1, 2)", "assert f() == Vector(1, 2) == f()", "pass"),
        ("def f(): return Vector(1, 3)", "assert f() == Vector(1, 2)", "fail:tests"),
        (f"{yes}Vector = Yes\ndef f(): return Vector()", "assert f() == Vector(1)", "fail:tests"),
        ("def f(): return 3.05", "assert f() == Near(3)", "pass"),
        (f"{yes}def f(): return Yes()", "assert f() == Near(3)", "fail:tests"),
    ):
        outcome = sandbox.run_tests(program, tests, "f", setup=setup, limits=PATIENT)
        assert (outcome.label, outcome.verdict) == (label, "split"), (program, outcome)


def test_an_iterator_is_one_to_isinstance(sandbox: Sandbox) -> None:
    tests = "import types\nassert isinstance(f(), types.GeneratorType)\nassert list(f()) == [1]"
    assert run(sandbox, "def f(): yield 1", tests).passed


def test_the_programs_own_classes_are_asked_of_it(sandbox: Sandbox) -> None:
    program = f"{SETUP}def f(): return Point(1, [2])"
    tests = (
        "assert f() == Point(1, [2])\nassert f() != Point(2, [2])\nassert isinstance(f(), Point)"
    )
    outcome = run(sandbox, program, tests)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome


@pytest.mark.parametrize(
    "program",
    [
        "class Point:\n    x, y = 1, [9]\n    def __eq__(self, other): return True\n"
        "def f(): return Point()",
        "class Other:\n    x, y = 1, [2]\n    def __eq__(self, other): return True\n"
        "def f(): return Other()",
        "class Yes:\n    def __eq__(self, other): return True\n"
        "class Point:\n    x, y = 1, Yes()\ndef f(): return Point()",
        "import datetime\nclass D(datetime.date):\n    def __eq__(self, other): return True\n"
        "def f(): return D(2020, 1, 1)",
    ],
)
def test_no_equality_of_the_programs_is_believed(sandbox: Sandbox, program: str) -> None:
    outcome = sandbox.run_tests(program, "assert f() == Point(1, [2])", "f", setup=SETUP)
    assert (outcome.label, outcome.verdict) == ("fail:tests", "split"), outcome


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        (
            "from pathlib import Path\ndef f(): return Path('a') / 'b'",
            "from pathlib import Path\nassert f() == Path('a/b')",
        ),
        (
            "from array import array\ndef f(): return array('i', [1])",
            "from array import array\nassert array('i', [1]) == f()",
        ),
        (
            "def f(p): return p.x",
            "from collections import namedtuple\nassert f(namedtuple('P', 'x')(1)) == 1",
        ),
        (
            "async def f(box): return box.value",
            "class Box: value = 3\nassert f(Box()) == 3",
        ),
    ],
)
def test_what_only_one_process_can_compare_is_cooperative(
    sandbox: Sandbox, program: str, tests: str
) -> None:
    outcome = run(sandbox, program, tests)
    assert (outcome.label, outcome.verdict) == ("pass", "cooperative"), outcome


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        ("x.popleft()", "deque([1, 2])", "deque([2])"),
        ("x['a'] += 1", "Counter('a')", "Counter('aa')"),
        ("x.move_to_end(1)", "OrderedDict([(1, 1), (2, 2)])", "OrderedDict([(2, 2), (1, 1)])"),
        ("x['a'].append(1)", "defaultdict(list)", "{'a': [1]}"),
    ],
)
def test_changed_collections_come_back(
    sandbox: Sandbox, change: str, before: str, after: str
) -> None:
    tests = f"{IMPORTS}x = {before}\nf(x)\nassert x == {after}, x"
    outcome = run(sandbox, f"def f(x):\n    {change}", tests)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("async def f(x): return x + 1", "assert f(1) == 2"),
        ("async def f(x): x.append(1)", "x = []\nf(x)\nassert x == [1]"),
        (
            "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1",
            "import asyncio\nassert asyncio.run(f(1)) == 2\n"
            "async def both(): return await f(2) + await f(3)\nassert asyncio.run(both()) == 7\n"
            "async def all(): return await asyncio.gather(f(1), f(2))\n"
            "assert asyncio.run(all()) == [2, 3]",
        ),
        (
            "async def f(x): raise ValueError('no')",
            "import asyncio\ntry: asyncio.run(f(1))\nexcept ValueError: pass\nelse: assert False",
        ),
        (
            "async def f(n):\n    for i in range(n): yield i",
            "import asyncio\nasync def given(): return [x async for x in f(3)]\n"
            "assert asyncio.run(given()) == [0, 1, 2]",
        ),
    ],
)
def test_async_functions_are_awaited(sandbox: Sandbox, program: str, tests: str) -> None:
    outcome = run(sandbox, program, tests)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome
    assert run(sandbox, program, tests + "\nassert f is None").label == "fail:tests"


RIGHT = "def f(): return 2"


@pytest.mark.parametrize("mode", ["split", "cooperative"])
@pytest.mark.parametrize(
    ("programs", "label", "chosen"),
    [
        ([RIGHT, "def f(): return 3"], "pass", 0),
        (["from nowhere import x\ndef f(): return 3", "def g(): return 2", RIGHT], "pass", 2),
        (["def f(: return 2", RIGHT], "pass", 1),
        (["def f(): return 3", RIGHT], "fail:tests", 0),
        (["def f(): raise ValueError", RIGHT], "fail:tests", 0),
        (["import sys\nsys.exit(0)\ndef f(): return 3", RIGHT], "fail:exited", 0),
        (["import os\nos._exit(0)\ndef f(): return 3", RIGHT], "fail:exited", 0),
        (["x = bytes(1 << 40)\ndef f(): return 3", RIGHT], "fail:memory", 0),
        (["def g(): return 1", "def h(): return 1"], "fail:load", 0),
    ],
)
def test_the_first_program_that_loads_is_judged_and_no_other(
    sandbox: Sandbox, programs: list[str], label: str, chosen: int, mode: str
) -> None:
    first, *others = programs
    job = Job.of_tests(first, "assert f() == 2", "f", others=tuple(others), limits=PATIENT,
                       mode=mode)  # type: ignore[arg-type]  # fmt: skip
    (outcome,) = sandbox.run_many([job])
    assert (outcome.label, outcome.chosen) == (label, chosen), outcome


@pytest.mark.parametrize("claim", ["-1", "16", "true", "1.0", '"1"', "null", "[]", "1, 2"])
def test_a_false_word_about_the_choice_is_tampering(sandbox: Sandbox, claim: str) -> None:
    program = (
        f"import os\nbody = b'[\"ready\", {claim}]'\n"
        "os.write(3, len(body).to_bytes(4, 'big') + body)\n" + RIGHT
    )
    assert run(sandbox, program, "assert f() == 2").label == "fail:protocol"
