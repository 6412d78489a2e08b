"""What holds of every metric that ships, and of the registry that finds them."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.metrics import get_metric, known_metrics
from harness.metrics.base import Metric, MetricItem
from harness.records import Response, Sample, ScoreOutcome

OPTIONS = {
    "f1_macro": {"labels": ["yes", "no"]},
    "json_schema": {"schema": {"type": "object"}},
    "regex": {"pattern": "a"},
}
NEEDS_A_MODEL = {"judge", "factual_consistency", "reward_model", "evaluate:NAME"}
if importlib.util.find_spec("html5lib") is None:
    NEEDS_A_MODEL.add("web_page")
NAMES = [name for name in known_metrics() if name not in NEEDS_A_MODEL]

HOSTILE = [
    *("", " ", "\x00", "\ud800", "!!!", "😀👍", "مرحبا بالعالم", "你好，世界", "Hello 世界 mixed"),
    *("\n\r\t", "a" * 100_000, "你" * 20_000, '{"a": 1}', "{" * 5000, "NaN", "\u200b", "ａｂｃ"),
]


@pytest.fixture(scope="module", autouse=True)
def no_workspace(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RATCHET_HOME", str(tmp_path_factory.mktemp("empty") / "no-workspace"))
        yield


def item(key, texts, references=("ref", '{"a": 1}'), error_at=None, kind="generation"):
    return MetricItem(
        Sample(key, "t", text="some text", references=tuple(references), fields={"answer": 0}),
        tuple(
            Response(
                "k", key, "t", kind, index, 0, text,
                token_ids=(1, 2), logprobs=(-0.5, -1.0), latency_s=0.1,
                error="the server died" if index == error_at else None,
            )
            for index, text in enumerate(texts)
        ),
    )  # fmt: skip


def make(name):
    metric = get_metric(name, OPTIONS.get(name, {}))
    return metric, metric.spec.needs


@pytest.mark.parametrize("name", NAMES)
def test_hostile_answers_get_a_finite_value_or_a_reason(name):
    metric, kind = make(name)
    assert isinstance(metric, Metric)
    items = [item(str(i), [text, text], kind=kind) for i, text in enumerate(HOSTILE)]
    items += [
        item(f"r{i}", ["answer"], references=[text], kind=kind) for i, text in enumerate(HOSTILE)
    ]
    items += [item("none", [], kind=kind), item("bare", ["x"], references=(), kind=kind)]
    spec = metric.spec
    for one, row in zip(items, metric.score(items), strict=True):
        indices = [None] if spec.per == "sample" else [r.index for r in one.responses]
        assert [evidence.response_index for evidence in row] == indices
        for evidence in row:
            if evidence.outcome is not ScoreOutcome.SCORED:
                assert evidence.value is None
                assert evidence.reason
                continue
            assert math.isfinite(evidence.value)
            assert spec.low is None or evidence.value >= spec.low - 1e-6
            assert spec.high is None or evidence.value <= spec.high + 1e-6
            assert len(evidence.stats) == len(spec.stats)
            assert all(map(math.isfinite, evidence.stats))


@pytest.mark.parametrize("name", NAMES)
def test_an_error_of_a_response_stays_an_error(name):
    metric, kind = make(name)
    (row,) = metric.score([item("s", ["a", "b"], error_at=1, kind=kind)])
    assert row[-1].outcome is ScoreOutcome.ERROR
    assert "the server died" in row[-1].reason


TEXT = st.sampled_from(["a cat sat", "yes", '{"a": 1}', "你好", "", "the the the", "no way", "x"])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5, deadline=None)
@given(texts=st.lists(st.lists(TEXT, min_size=2, max_size=3), min_size=2, max_size=5))
def test_a_score_depends_on_neither_batch_nor_order(name, texts):
    metric, kind = make(name)
    items = [
        item(str(i), own, references=["the cat", "no"], kind=kind) for i, own in enumerate(texts)
    ]
    together = metric.score(items)
    backwards = metric.score(items[::-1])[::-1]
    alone = [metric.score([one])[0] for one in items]
    for rows in zip(together, backwards, alone, strict=True):
        for first, *others in zip(*rows, strict=True):
            for other in others:
                assert other.outcome is first.outcome
                assert other.value == pytest.approx(first.value, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_declaration_is_whole(name):
    spec = make(name)[0].spec
    assert spec.name == name
    assert spec.signature.startswith(f"{name}|v:{spec.version}")
    assert spec.unit
    assert spec.uncertainty
    assert spec.direction in ("higher", "lower")
    if spec.form == "corpus":
        from harness.statistics.corpus import AGGREGATES

        assert spec.aggregate in AGGREGATES
    if spec.form == "group":
        assert spec.per == "sample"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError) as caught:
        get_metric("toxcity")
    assert "toxicity" in caught.value.cure
    with pytest.raises(UserError, match="no metric named"):
        get_metric("zzzzzz")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("self_bleu", {"max_ordr": 3}, "no option 'max_ordr'"),
        ("self_bleu", {"max_order": "3"}, "can't take '3'"),
        ("self_bleu", {"max_order": True}, "can't take True"),
        ("self_bleu", {"max_order": 0}, "1..9"),
        ("self_bleu", {"tokenize": "elvish"}, "can't take 'elvish'"),
        ("regex", {}, "lacks an option"),
        ("bertscore", {"model": "./nowhere"}, "no model folder"),
        ("toxicity", {"classifier": "./nowhere"}, "no model folder"),
        ("factual_consistency", {"model": "/no/where"}, "no model folder"),
        ("no/such/file.py:Metric", {}, "no such metric file"),
    ],
)
def test_wrong_options_are_named(name, options, message):
    with pytest.raises(UserError, match=message):
        get_metric(name, options)


OWN = '''
from dataclasses import dataclass

from harness.metrics.base import MetricSpec
from harness.metrics.items import score_each


@dataclass(frozen=True)
class Shouting:
    """Share of responses with more than `limit` exclamation marks."""

    limit: int = 0

    @property
    def spec(self):
        return MetricSpec("shouting", "lower", options=(("limit", str(self.limit)),))

    def score(self, items):
        return score_each(items, lambda _, r: float(r.text.count("!") > self.limit))
'''


def test_a_metric_in_a_file_of_the_users(tmp_path):
    path = tmp_path / "shouting.py"
    path.write_text(OWN)
    metric = get_metric(f"{path}:Shouting", {"limit": 1})
    values = [one.value for one in metric.score([item("s", ["hi!", "hi!!"])])[0]]
    assert values == [0.0, 1.0]
    with pytest.raises(UserError, match="defines no 'Whisper'"):
        get_metric(f"{path}:Whisper")
    path.write_text("raise RuntimeError('broken')")
    with pytest.raises(UserError, match="RuntimeError: broken"):
        get_metric(f"{path}:Shouting")
    path.write_text("class Shouting: pass")
    with pytest.raises(UserError, match="is no metric"):
        get_metric(f"{path}:Shouting")


def test_the_registry_imports_nothing_heavy():
    code = (
        "import sys; from harness.metrics import get_metric, known_metrics; known_metrics();"
        "[get_metric(n).spec.signature for n in"
        " ('self_bleu', 'toxicity', 'bertscore', 'perplexity', 'rouge_l', 'similarity')];"
        "print(*{'torch', 'transformers', 'numpy', 'pandas', 'sklearn', 'sacrebleu', 'nltk'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
