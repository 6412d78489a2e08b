"""Programs' objects and exceptions as tests see them, and what only one process can answer."""

from __future__ import annotations

import pytest

from harness.sandbox.pool import Sandbox
from tests.harness.sandbox.run_builders import IDENTITY, PATIENT, run

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
