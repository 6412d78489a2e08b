"""The program in an answer, over the file of answers beside this test, and the order of several."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.metrics.support.code_blocks import blocks
from harness.metrics.support.code_extraction import MOST, extract_code, programs
from harness.metrics.support.thoughts import without_thoughts

FENCE = "```"
ADD = "def add(a, b):\n    return a + b\n"
PROMPTS = {
    "TYPED": (
        "from typing import List\nimport math\n\n\n"
        'def total(xs: List[int]) -> int:\n    """Sum."""\n'
    ),
    "METHOD": (
        "from typing import List\n\nclass Solution:\n    def add(self, a: int, b: int) -> int:\n"
    ),
    "FENCED": "Complete it:\n```python\ndef total(xs):\n",
    None: "",
}
CASES = {
    name: (wish, answer)
    for name, wish, answer in re.findall(
        r"^%%% ([^\n]*?): ([^\n]*)\n(.*?)(?=^%%% |\Z)",
        (Path(__file__).parent / "code_answers.txt").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
}


def gives(program, call):
    names = {"__name__": "program"}
    exec(program, names)
    return eval(call, names)


def printed(program):
    command = [sys.executable, "-S", "-E", "-c", program]
    return subprocess.run(command, input="3\n", capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("name", CASES)
def test_the_program_of_an_answer(name):
    wish, answer = CASES[name]
    called, given, prompt = re.fullmatch(r"(.*) -> (.*?)(?: after (\w+))?", wish).groups()
    if called == "3 on stdin":
        program = extract_code(answer)
        assert (printed(program) if program else "no program") == given
        return
    entry = called.partition("(1")[0] if "()." in called else called.partition("(")[0]
    program = extract_code(answer, entry_point=entry, prompt=PROMPTS[prompt])
    assert (repr(gives(program, called)) if program else "no program") == given


def test_there_are_enough_of_them():
    assert len(CASES) > 100


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_the_ends_of_lines_do_not_matter(ends):
    answer = f"\ufeffText\n{FENCE}python\n\ufeff{ADD}{FENCE}\nDone".replace("\n", ends)
    assert gives(extract_code(answer, entry_point="add"), "add(1, 2)") == 3


def test_a_method_has_an_object_of_its_own_at_each_call():
    answer = (
        "class Solution:\n    seen = 0\n    def __init__(self): self.n = 0\n"
        "    def add(self, a, b):\n        self.n += 1\n        return self.n\n"
    )
    program = extract_code(answer, entry_point="add")
    assert gives(program, "[add(1, 2), add(1, 2)]") == [1, 1]


def test_one_reading_is_the_common_case():
    answer = f"Sure.\n{FENCE}python\nimport math\n\n{ADD}{FENCE}\n{FENCE}\n3\n{FENCE}"
    assert len(programs(answer, entry_point="add")) == 1
    assert len(programs(f"{FENCE}python\nprint(input())\n{FENCE}")) == 1


def test_several_readings_come_in_order():
    answer = (
        f"{FENCE}python\ndef add(a, b):\n    return 1\n{FENCE}\n"
        f"{FENCE}python\nimport numpy\ndef add(a, b):\n    return 2\nprint(add(1, 2))\n{FENCE}"
    )
    later, earlier, alone = programs(answer, entry_point="add")
    assert "return 2" in later
    assert "return 1" in earlier
    assert "numpy" in later
    assert "numpy" not in alone
    assert "print" not in alone


def test_what_is_needed_at_once_comes_first_in_the_second_reading():
    answer = (
        f"{FENCE}python\n@trace\n{ADD}{FENCE}\nwhere\n"
        f"{FENCE}python\ndef trace(f):\n    return f\n{FENCE}"
    )
    after, before = programs(answer, entry_point="add")[:2]
    with pytest.raises(NameError):
        gives(after, "add(1, 2)")
    assert gives(before, "add(1, 2)") == 3


def test_a_list_of_answers_is_cut():
    versions = "".join(
        f"{FENCE}python\ndef add(a, b):\n    return {n}\n{FENCE}\n" for n in range(50)
    )
    found = programs(versions, entry_point="add")
    assert len(found) == MOST == 4
    assert gives(found[0], "add(1, 2)") == 49


def test_the_definitions_alone_keep_what_they_need():
    answer = (
        "from __future__ import annotations\nimport math\nTWO = 2\nn = int(input())\n"
        "def half(x: Never) -> int:\n    return x / TWO\ndef add(a, b):\n    n = half(a + b)\n"
        "    return math.floor(2 * n)\nprint(add(n, 1))\nassert add(1, 1) == 3\n"
    )
    first, alone = programs(f"{FENCE}python\n{answer}{FENCE}", entry_point="add")
    assert first == answer
    assert gives(alone, "add(1, 2)") == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("<think>a", ""),
        ("b<think>a", "b"),
        ("<thinking>a</thinking>b", "b"),
        ("say `</think>` so", "say `</think>` so"),
        ("I don't know</think> it's 3", "it's 3"),
        ("x = '</think>'", "x = '</think>'"),
        ("<think>say '</think>'!</think>b", "b"),
        (f"{FENCE}\nx = 1  # </think>\n{FENCE}", f"{FENCE}\nx = 1  # </think>\n{FENCE}"),
        (f"{FENCE}python\nso it is\n</think>b", "b"),
    ],
)
def test_thoughts_are_no_answer(text, said):
    assert without_thoughts(text) == said


def test_blocks_have_languages_and_places():
    text = f"a\n{FENCE}Python\nx = 1\n{FENCE}\nb ~~~\n~~~ c++\ny\n~~~\n{FENCE}\nz"
    found = blocks(text)
    assert [(b.language, b.code) for b in found] == [
        ("python", "x = 1\n"), ("c++", "y\n"), ("", "z\n"),
    ]  # fmt: skip
    assert text[slice(*found[1].span)] == "~~~ c++\ny\n~~~\n"
