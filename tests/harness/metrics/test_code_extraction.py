"""The program in an answer, in the shapes in which models give it."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.metrics.support.code_extraction import extract_code

ADD = "def add(a, b):\n    return a + b\n"
PROMPT = (
    "from typing import List\n\n\ndef helper(x):\n    return x\n\n\n"
    'def total(xs: List[int]) -> int:\n    """ Sum of xs.\n    >>> total([1, 2])\n    3\n    """\n'
)


def run(program, call):
    names: dict[str, object] = {}
    exec(program, names)
    return eval(call, names)


@pytest.mark.parametrize(
    "answer",
    [
        f"```python\n{ADD}```",
        f"```\n{ADD}```",
        f"```py\n{ADD}```\n",
        f"~~~python\n{ADD}~~~",
        f"````python\n{ADD}````",
        f"Sure! Here it is:\n\n```python\n{ADD}```\n\nIt adds `a` and `b`.",
        f"当然可以：\n```python\n{ADD}```\n这段代码把两个数相加。",
        f"```Python\r\n{ADD}```".replace("\n", "\r\n"),
        "1. First write\n\n   ```python\n   def add(a, b):\n       return a + b\n   ```\n\n2. Done",
        f"```python title=add.py\n{ADD}```",
        f"```python\n{ADD}",
        ADD,
        f"Here is the function:\n\n{ADD}\nThis returns the sum.",
        f"下面是代码：\n{ADD}\n说明\n这个函数返回两数之和。",
        f"{ADD}\nDone",
        f"{ADD}\nNote: works\n",
        f"<think>def add(a, b): return 0</think>\n```python\n{ADD}```",
        f"I should add them.\n</think>\n{ADD}",
        f"```python\ndef add(a, b):\n    return 0\n```\nWrong. Corrected:\n```python\n{ADD}```",
        f"```python\n{ADD}```\nUse it:\n```python\nprint(add(1, 2))\n```\nOutput:\n```\n3\n```",
        f"```bash\npip install nothing\n```\n```python\n{ADD}```",
        f"```python\n{ADD}```\nExample:\n```\n>>> add(1, 2)\n3\n```",
        f"```javascript\nfunction add(a, b) {{ return 0 }}\n```\n\n{ADD}```python\n{ADD}```",
        "```python\nclass add:\n    pass\n```\nor rather\n```python\nadd = lambda a, b: a + b\n```",
    ],
)
def test_the_program_is_found(answer):
    program = extract_code(answer, entry_point="add")
    assert program is not None
    assert run(program, "add(1, 2)") == 3


def test_blocks_that_the_last_one_needs_come_along():
    answer = (
        "First a constant:\n```python\nimport math\nTWO = 2\n```\nA helper:\n"
        "```python\ndef twice(x):\n    return TWO * x\n```\nUnrelated:\n```python\n1 / 0\n```\n"
        "Now:\n```python\ndef area(r):\n    return math.pi * twice(r)\n```\n"
        "```python\nprint(area(1))\n```"
    )
    program = extract_code(answer, entry_point="area")
    assert run(program, "area(1)") == pytest.approx(6.2831853)
    assert "1 / 0" not in program
    assert "print" not in program


@pytest.mark.parametrize(
    "answer",
    [
        "    return sum(xs)\n",
        "return sum(xs)",
        "    out = 0\n    for x in xs:\n        out += x\n    return out",
        "out = 0\nfor x in xs:\n    out += x\nreturn out",
        "    return sum(xs)\n\n\nprint(total([1]))\nThis sums the list.",
        "    return sum(xs)\n\nThe function sums.",
        "```python\n    return sum(xs)\n```",
        "```python\ndef total(xs: List[int]) -> int:\n    return sum(map(helper, xs))\n```",
        "def total(xs: List[int]) -> int:\n    return sum(map(helper, xs))",
        "    def inner(x):\n        return x\n    return sum(map(inner, xs))\n# 说明：求和",
    ],
)
def test_a_prompt_is_completed(answer):
    program = extract_code(answer, entry_point="total", prompt=PROMPT)
    assert run(program, "total([1, 2, 3])") == 6


@pytest.mark.parametrize(
    ("answer", "needle"),
    [
        ("```python\nn = int(input())\nprint(n)\n```", "int(input())"),
        ("输入\n```\n3\n```\n程序：\n```python\nimport sys\nprint(sys.stdin.read())\n```\n"
         "输出：\n```\n3\n```", "sys.stdin"),
        ("```python\nprint(input())\n```\n运行：\n```bash\npython a.py\n```", "input"),
        ("这是程序：\nfor line in open(0):\n    print(line.strip())\n希望有帮助！", "open(0)"),
        ("n = int(input())\nprint(n * 2)", "n * 2"),
    ],
)  # fmt: skip
def test_a_whole_program(answer, needle):
    program = extract_code(answer)
    ast.parse(program)
    assert needle in program


@pytest.mark.parametrize(
    "answer",
    ["", "I can't do that.", "抱歉，我做不到。", "<think>def add(a, b): return a + b", "```\n```",
     "The answer is 42.", "加法", "x", "```text\nadd them\n```"],
)  # fmt: skip
def test_no_program_is_none(answer):
    assert extract_code(answer, entry_point="add") is None


def test_what_does_not_compile_is_kept_for_the_sandbox_to_tell():
    cut = "```python\ndef add(a, b):\n    return (a +"
    assert "return (a +" in extract_code(cut, entry_point="add")
    assert "return (a +" in extract_code("def add(a, b):\n    return (a +", entry_point="add")
    wide = "```python\ndef add(a，b):\n    return a + b\n```"
    assert "，" in extract_code(wide, entry_point="add")


@pytest.mark.parametrize(
    "text", ["(" * 5000, "-" * 50000 + "1", "a = " * 3000, "\x00def add():", "x\n" * 9000]
)
def test_hostile_text_is_survived(text):
    for wrapped in (text, f"```python\n{text}\n```", f"def add(a):\n    {text}"):
        extract_code(wrapped, entry_point="add", prompt=PROMPT)
        extract_code(wrapped)


LINES = st.sampled_from(
    [
        "def add(a, b):",
        "    return a + b",
        "```",
        "```python",
        "说明：",
        "Done",
        "x = 1",
        "",
        "@",
        "class A:",
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=12).map("\n".join))
def test_any_text_gives_a_program_or_none(text):
    for entry_point in ("add", None):
        found = extract_code(text, entry_point=entry_point)
        assert found is None or found.strip()
