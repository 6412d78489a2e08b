"""Files of other tools and suites, damaged at random: a value or a UserError, never a crash."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from harness.core.types import Response, Sample
from harness.data.bfcl import read_bfcl
from harness.interop.importers.common import Imported
from harness.interop.importers.csv_scores import read_csv
from harness.interop.importers.evalscope import read_evalscope
from harness.interop.importers.helm import read_helm
from harness.interop.importers.inspect_log import read_inspect
from harness.interop.importers.lighteval import read_lighteval
from harness.interop.importers.lm_eval import read_lm_eval
from harness.interop.importers.nemo import read_nemo
from harness.interop.importers.opencompass import read_opencompass
from harness.interop.importers.promptfoo import read_promptfoo
from harness.metrics import get_metric
from harness.metrics.base import MetricItem
from harness.suite.load import load_suite
from tests.damage_builders import allowed, damage, spoil
from tests.harness.fuzz.budget import fuzz
from tests.harness.interop import (
    test_evalscope,
    test_helm,
    test_lighteval,
    test_nemo,
    test_opencompass,
    test_promptfoo,
)
from tests.harness.interop.import_builders import HEADER, INSPECT, LM_EVAL

CHANCE = st.integers(0, 2**63).map(random.Random)
pytestmark = pytest.mark.long


def damaged_logs_of_inspect(chance: random.Random) -> None:
    content = json.loads((INSPECT / "small.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.json"
        for _ in range(chance.randint(1, 3)):
            content = damage(content, chance)
        path.write_text(json.dumps(content))
        allowed(lambda: read_inspect(path))
        path.write_bytes(spoil((INSPECT / "small.json").read_bytes(), chance))
        allowed(lambda: read_inspect(path))
        packed = path.with_suffix(".eval")
        packed.write_bytes(spoil((INSPECT / "good.eval").read_bytes(), chance))
        allowed(lambda: read_inspect(packed))


def damaged_results_of_lm_eval(chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(LM_EVAL / "a", folder, dirs_exist_ok=True)
        (results,) = folder.glob("results_*.json")
        samples = chance.choice(sorted(folder.glob("samples_*.jsonl")))
        if chance.random() < 0.5:
            results.write_text(json.dumps(damage(json.loads(results.read_text()), chance)))
        lines = [json.loads(line) for line in samples.read_text().splitlines()]
        at = chance.randrange(len(lines))
        lines[at] = damage(lines[at], chance)
        samples.write_text("\n".join(json.dumps(row) for row in lines))
        allowed(lambda: read_lm_eval(folder))
        samples.write_bytes(spoil(samples.read_bytes(), chance))
        allowed(lambda: read_lm_eval(folder))


def damaged_csvs(chance: random.Random) -> None:
    rows = [f"qa,em,higher,{n},{n % 2}" for n in range(5)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.csv"
        path.write_bytes(spoil("\n".join([HEADER, *rows]).encode(), chance))
        allowed(lambda: read_csv(path, name="x"))


BFCL = {
    "id": "multiple_0",
    "question": [[{"role": "user", "content": "Weather?"}]],
    "function": [
        {
            "name": "weather",
            "description": "The weather.",
            "parameters": {
                "type": "dict",
                "properties": {"days": {"type": "array", "items": {"type": "float"}}},
                "required": ["days"],
            },
        }
    ],
}
RIGHT = {"id": "multiple_0", "ground_truth": [{"weather": {"days": [[1.5], ""]}}]}


def damaged_cases_of_bfcl(chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        data = Path(name) / "data"
        (data / "possible_answer").mkdir(parents=True)
        spec = SimpleNamespace(submodule_search_locations=[name])
        patch.setattr("importlib.util.find_spec", lambda _name: spec)
        for path, content in ((data, BFCL), (data / "possible_answer", RIGHT)):
            line = json.dumps(damage(content, chance)).encode()
            made = spoil(line, chance) if chance.random() < 0.3 else line
            (path / "BFCL_v4_multiple.json").write_bytes(made)
        rows: list[Any] = []
        allowed(lambda: rows.extend(read_bfcl("bfcl:multiple", Path())))
        for _, row in rows:
            allowed(lambda row=row: _scored(row))


def _scored(row: Any) -> None:
    response = Response("k", "s", "t", "generation", 0, 0, "[weather(days=[1.5, 2])]")
    item = MetricItem(Sample("s", "t", fields=row), (response,))
    get_metric("tool_arguments").score([item])


RIGHTS = [True, False, True, True]
EACH = list(enumerate(RIGHTS))
OTHERS: list[tuple[Callable[[Path], Path], Callable[[Path], Imported]]] = [
    (
        lambda at: test_promptfoo.write(
            at.with_suffix(".json"), [test_promptfoo.result(*one) for one in EACH]
        ),
        read_promptfoo,
    ),
    (
        lambda at: test_evalscope.write(at, [test_evalscope.review(*one) for one in EACH], 0.75),
        read_evalscope,
    ),
    (lambda at: test_helm.write(at, RIGHTS), read_helm),
    (lambda at: test_nemo.write(at, [test_nemo.prediction(*one) for one in EACH], 0.75), read_nemo),
    (
        lambda at: test_lighteval.write(at, [test_lighteval.detail(*one) for one in EACH], 0.75),
        read_lighteval,
    ),
    (lambda at: test_opencompass.write(at, RIGHTS), read_opencompass),
]
"""For each tool, what writes as it does, and what reads that."""


def damaged_results_of_others(chance: random.Random) -> None:
    write, read = chance.choice(OTHERS)
    with tempfile.TemporaryDirectory() as name:
        place = write(Path(name) / "results")
        files = sorted(one for one in place.rglob("*") if one.is_file()) or [place]
        for file in chance.sample(files, min(chance.randint(1, 2), len(files))):
            file.write_bytes(_damaged_file(file, chance))
        allowed(lambda: read(place))


def _damaged_file(file: Path, chance: random.Random) -> bytes:
    """Still of its kind in two of three cases, so that what stands behind the syntax is reached."""
    if file.suffix == ".parquet" or chance.random() < 0.3:
        return spoil(file.read_bytes(), chance)
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in text.splitlines()]
        at = chance.randrange(len(rows))
        rows[at] = damage(rows[at], chance)
        return "\n".join(map(json.dumps, rows)).encode()
    if file.suffix == ".json":
        return json.dumps(damage(json.loads(text), chance)).encode()
    return yaml.safe_dump(damage(yaml.safe_load(text), chance)).encode()


SUITE = b"""name: s
tasks:
  qa:
    data: rows.jsonl
    prompt: {system: "Be brief.", user: "{{ q }} {{ tags | join(', ') }}"}
    generate: {max_new_tokens: 8, temperature: 0, stop: ["\\n"]}
    reference: "{{ a }}"
    metrics: [exact_match, rouge_l, {regex: {pattern: "[0-9]+"}}]
    reserve: 0.3
  read:
    data: rows.jsonl
    text: "{{ a }}"
    metrics: [perplexity]
gate:
  margin: 0.05
  metrics:
    qa/exact_match: {required: true}
"""
ROWS = b"".join(
    b'{"id": "%d", "q": "1+%d?", "a": "%d", "tags": ["x", "y"]}\n' % (n, n, n + 1) for n in range(6)
)


def damaged_suites(chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, rows = Path(folder) / "suite.yaml", Path(folder) / "rows.jsonl"
        both = chance.random() < 0.3
        spoiled = both or chance.random() < 0.6
        path.write_bytes(_damaged_suite(chance) if spoiled else SUITE)
        rows.write_bytes(_damaged_rows(chance) if both or not spoiled else ROWS)
        allowed(lambda: load_suite(path))


def _damaged_suite(chance: random.Random) -> bytes:
    """Still YAML in half of the cases, so that what stands behind the syntax is reached."""
    if chance.random() < 0.5:
        return spoil(SUITE, chance)
    return yaml.safe_dump(damage(yaml.safe_load(SUITE), chance), sort_keys=False).encode()


def _damaged_rows(chance: random.Random) -> bytes:
    if chance.random() < 0.5:
        return spoil(ROWS, chance)
    found = [json.loads(line) for line in ROWS.splitlines()]
    at = chance.randrange(len(found))
    found[at] = damage(found[at], chance)
    return "\n".join(map(json.dumps, found)).encode()


@pytest.mark.parametrize(
    "body",
    [
        *(damaged_logs_of_inspect, damaged_results_of_lm_eval, damaged_results_of_others),
        *(damaged_csvs, damaged_cases_of_bfcl),
    ],
)
def test_a_damaged_result_is_a_run_or_one_message(body: Callable[[random.Random], None]) -> None:
    fuzz("importers", CHANCE, body, parts=5)


def test_a_damaged_suite_is_a_suite_or_one_message() -> None:
    fuzz("files", CHANCE, damaged_suites, parts=2)
