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


VECTOR = """class V:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
    def __add__(self, other): return V(self.x + getattr(other, "x", other))
    __radd__ = __add__
    def __mul__(self, k): return V(self.x * k)
    __rmul__ = __mul__
    def __iadd__(self, other):
        self.x += other.x
        return self
    def __floordiv__(self, k): return V(self.x // k)
    def __pow__(self, k): return V(self.x ** k)
    def __matmul__(self, other): return self.x * other.x
    def __or__(self, other): return V(self.x | other.x)
    def __invert__(self): return V(~self.x)
    def __abs__(self): return abs(self.x)
    def __float__(self): return float(self.x)
    def __index__(self): return self.x
    def __round__(self, digits=None): return round(self.x)
    def __repr__(self): return f"V({self.x})"
    def __format__(self, how): return format(self.x, how)
    def __enter__(self): return self
    def __exit__(self, *raised): self.x = None
"""


@pytest.mark.parametrize(
    "test",
    [
        *("V(2) * 3 == V(6) == 3 * V(2)", "sum([V(1), V(2)]) == V(3)", "V(7) // 2 == V(3)"),
        *("V(2) ** 3 == V(8)", "V(2) @ V(3) == 6", "V(1) | V(2) == V(3)", "~V(1) == V(-2)"),
        *("abs(V(-2)) == 2", "float(V(2)) == 2.0", "[5, 6, 7][V(1)] == 6", "round(V(2)) == 2"),
        *("repr(V(2)) == 'V(2)'", "str([V(1)]) == '[V(1)]'", "f'{V(2):03d}' == '002'"),
        *("V(1) != V(2)", "not V(2) * 3 == V(7)"),
    ],
)
def test_operators_reach_the_programs_objects(sandbox: Sandbox, test: str) -> None:
    outcome = sandbox.run_tests(VECTOR, f"assert {test}", "V", limits=PATIENT)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome


def test_a_context_of_the_programs_is_entered_and_left(sandbox: Sandbox) -> None:
    tests = "with V(1) as v:\n    assert v.x == 1\nassert v.x is None\nv = w = V(1)\nv += V(2)\n"
    outcome = sandbox.run_tests(VECTOR, tests + "assert w == V(3)", "V", limits=PATIENT)
    assert (outcome.label, outcome.verdict) == ("pass", "split"), outcome
    raising = "try:\n    with V(1):\n        raise ValueError\nexcept ValueError: pass"
    outcome = sandbox.run_tests(VECTOR, raising, "V", limits=PATIENT)
    assert (outcome.label, outcome.verdict) == ("pass", "cooperative"), outcome


OWN = "class E(ValueError):\n    def __init__(self, code):\n        super().__init__('m')\n"


@pytest.mark.parametrize(
    ("raised", "test", "label"),
    [
        ("KeyError('x')", "str(e) == \"'x'\" and e.args == ('x',)", "pass"),
        ("FileNotFoundError(2, 'no', 'a')", "(e.errno, e.filename) == (2, 'a')", "pass"),
        ("E(5)", "e.code == 5 and str(e) == 'm' and isinstance(e, ValueError)", "pass"),
        ("E(5)", "e.code == 6", "fail:tests"),
        ("E(Always())", "e.code == 6", "fail:tests"),
        ("Mine(1)", "str(e) == 'mine' and e.args == (1,)", "pass"),
        ("ValueError(object())", "'object' in str(e)", "pass"),
    ],
)
def test_exceptions_keep_what_they_are_made_of(
    sandbox: Sandbox, raised: str, test: str, label: str
) -> None:
    program = (
        f"{OWN}        self.code = code\n"
        "class Mine(Exception):\n    def __str__(self): return 'mine'\n"
        "class Always(int):\n    def __eq__(self, other): return True\n"
        f"def f(): raise {raised}"
    )
    tests = f"try:\n    f()\nexcept Exception as e:\n    assert {test}\nelse:\n    assert False"
    outcome = run(sandbox, program, tests)
    assert (outcome.label, outcome.verdict) == (label, "split"), outcome


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(x): return x", "x = [1]\nassert f(x) is x"),
        ("def f(x): return list(x)", "x = [1]\nassert f(x) is not x and f(x) == x"),
        ("def f(): return int", "assert f() is int"),
        ("def f(): return ...", "assert f() is ..."),
        ("def f(x):\n    'Says.'", "assert f.__doc__ == 'Says.'"),
        ("def f(x: int): pass", "assert f.__annotations__ == {'x': int}"),
        ("class A: pass\nclass f(A): pass", "assert issubclass(f, A)"),
        ("class f:\n    def __init__(self): self.a = 1", "assert vars(f()) == {'a': 1}"),
        ("class f:\n    def g(self): return 1", "class H(f): pass\nassert H().g() == 1"),
        (
            "def f(): return int(input()) * 2",
            "from unittest.mock import patch\nwith patch('builtins.input', return_value='3'):\n"
            "    assert f() == 6",
        ),
        (
            "def f(): print('hi')",
            "import io, contextlib\nout = io.StringIO()\n"
            "with contextlib.redirect_stdout(out): f()\nassert out.getvalue() == 'hi\\n'",
        ),
        (
            "def f(): return input()",
            "import io, sys\nsys.stdin = io.StringIO('a')\nassert f() == 'a'",
        ),
        (
            "def f(x): return x",
            "import threading\nt = threading.Thread(target=f, args=(1,))\nt.start()\nt.join()",
        ),
        (
            "import random\ndef f(): return random.random()",
            "import random\nrandom.seed(42)\nassert f() == 0.6394267984578837",
        ),
        ("def f(a, b):\n    a.append(1)\n    return b", "x = []\nassert f(x, x) == [1]"),
        ("def f(g): g[0][0] = 1", "g = [[0]] * 2\nf(g)\nassert g == [[1], [1]]"),
        ("class f: pass", "assert type(f()).__name__ == 'f' and type(f()) is f"),
        ("class f:\n    x = 1", "import copy\nassert copy.deepcopy(f()).x == 1"),
        (
            "def f(path): return open(path).read()",
            "import tempfile\nwith tempfile.NamedTemporaryFile('w') as file:\n"
            "    file.write('x')\n    file.flush()\n    assert f(file.name) == 'x'",
        ),
        (
            "import os\ndef f(): return os.environ['A']",
            "import os\nos.environ['A'] = '1'\nassert f() == '1'",
        ),
        (
            "def f(n): return n and 1 + f(n - 1)",
            "import sys\nsys.setrecursionlimit(9000)\nassert f(3000) == 3000",
        ),
    ],
)
def test_what_only_the_programs_own_process_can_answer(
    sandbox: Sandbox, program: str, tests: str
) -> None:
    outcome = run(sandbox, program, tests)
    assert (outcome.label, outcome.verdict) == ("pass", "cooperative"), outcome
    assert run(sandbox, program, f"{tests}\nassert f == 5").label == "fail:tests"


@pytest.mark.parametrize(
    "tests",
    [
        *("assert f(1) is None", "assert f(True) is True", "assert type(f(1)) is int"),
        *("import math\nassert math.isclose(f(1.0), 1)", "id = 1\nassert f(id) == 1"),
        "import random\nrandom.seed(1)\nx = random.random()\nassert f(x) == x",
        "class T:\n    def check(self): assert f(1) == 1\nT().check()",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self): assert f(1)\n",
        "import copy\nx = [1]\ny = copy.deepcopy(x)\nassert f(x) == y",
        "assert f.__name__ == 'f'",
        "for given, wanted in [(True, True), (None, None)]: assert f(given) is wanted",
        "import math\nassert f(math.inf) is not math.nan",
        "try:\n    f()\nexcept TypeError as e:\n    assert type(e).__name__ == 'TypeError'",
        "try:\n    f()\nexcept TypeError as e:\n    assert e.__class__.__name__ == 'TypeError'",
        "def patch(x): return x\nassert f(patch(1)) == 1",
    ],
)
def test_ordinary_tests_stay_out_of_the_programs_reach(sandbox: Sandbox, tests: str) -> None:
    assert run(sandbox, IDENTITY, tests).verdict == "split"
