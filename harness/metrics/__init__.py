"""The registry of metrics: each found by its name, and imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from harness.core.errors import UserError
from harness.core.plugins import PluginTable, imported
from harness.metrics.base import Metric

METRICS = PluginTable(
    "ratchet.metrics",
    "metric",
    {
        "abstains": "harness.metrics.abstains:Abstains",
        "accuracy": "harness.metrics.classification:Accuracy",
        "bertscore": "harness.metrics.bertscore:BertScoreMetric",
        "bleu": "harness.metrics.bleu:Bleu",
        "chrf": "harness.metrics.bleu:Chrf",
        "citation_precision": "harness.metrics.citations:CitationPrecision",
        "citation_recall": "harness.metrics.citations:CitationRecall",
        "code_tests": "harness.metrics.code_tests:CodeTests",
        "contains": "harness.metrics.contains:Contains",
        "distinct_n": "harness.metrics.distinct_n:DistinctN",
        "elo": "harness.metrics.elo:Elo",
        "exact_match": "harness.metrics.exact_match:ExactMatch",
        "f1_macro": "harness.metrics.classification:F1Macro",
        "factual_consistency": "harness.metrics.similarity:FactualConsistency",
        "faithfulness": "harness.metrics.faithfulness:Faithfulness",
        "hit_at_k": "harness.metrics.retrieval:HitAtK",
        "ifeval": "harness.metrics.ifeval:IfEval",
        "json_fields": "harness.metrics.json_answers:JsonFields",
        "json_match": "harness.metrics.json_answers:JsonMatch",
        "json_schema": "harness.metrics.json_answers:JsonSchema",
        "json_valid": "harness.metrics.json_answers:JsonValid",
        "judge": "harness.metrics.judge:JudgeMetric",
        "latency": "harness.metrics.latency:LatencyMetric",
        "length": "harness.metrics.length:Length",
        "math_equal": "harness.metrics.math_equal:MathEqual",
        "mrr": "harness.metrics.retrieval:Mrr",
        "multiple_choice": "harness.metrics.multiple_choice:MultipleChoice",
        "ndcg": "harness.metrics.retrieval:Ndcg",
        "pair_accuracy": "harness.metrics.pair_accuracy:PairAccuracy",
        "pass_at_k": "harness.metrics.pass_at_k:PassAtK",
        "pass_hat_k": "harness.metrics.pass_at_k:PassHatK",
        "perplexity": "harness.metrics.perplexity:Perplexity",
        "reference_nll": "harness.metrics.reference_nll:ReferenceNll",
        "refusal": "harness.metrics.refusal:Refusal",
        "regex": "harness.metrics.regex:Regex",
        "reward_model": "harness.metrics.reward_model:RewardModel",
        "rouge_1": "harness.metrics.rouge:Rouge1",
        "rouge_2": "harness.metrics.rouge:Rouge2",
        "rouge_l": "harness.metrics.rouge:RougeL",
        "rouge_lsum": "harness.metrics.rouge:RougeLsum",
        "rubric": "harness.metrics.rubric:RubricMetric",
        "self_bleu": "harness.metrics.self_bleu:SelfBleu",
        "sensitive_words": "harness.metrics.sensitive_words:SensitiveWords",
        "similarity": "harness.metrics.similarity:Similarity",
        "stereotype_preference": "harness.metrics.stereotype_preference:StereotypePreference",
        "token_f1": "harness.metrics.classification:TokenF1",
        "tool_abstain": "harness.metrics.tools:ToolAbstain",
        "tool_answer": "harness.metrics.tools:ToolAnswer",
        "tool_arguments": "harness.metrics.tools:ToolArguments",
        "tool_choice": "harness.metrics.tools:ToolChoice",
        "toxicity": "harness.metrics.toxicity:Toxicity",
        "toxicity_rate": "harness.metrics.toxicity:ToxicityRate",
        "turns_right": "harness.metrics.turns:TurnsRight",
        "web_page": "harness.metrics.web_page:WebPage",
    },
    also=", evaluate:NAME, lm_eval:NAME, or a file: path/to/file.py:Class",
)
_FAMILIES: Mapping[str, str] = {
    "evaluate": "harness.metrics.hf_evaluate:HfEvaluate",
    "lm_eval": "harness.metrics.lm_eval:LmEval",
}
"""`evaluate:NAME`: what stands before the colon finds the class, what follows is its first
argument."""


def known_metrics() -> list[str]:
    """Every name that `get_metric` knows, sorted: those that ship and those of installed plugins.

    `file.py:Class` names a metric in a file of the user's own.
    """
    return sorted([*METRICS.names(), *(f"{family}:NAME" for family in _FAMILIES)])


def get_metric(name: str, options: Mapping[str, Any] | None = None) -> Metric:
    """The metric called `name`, made with what the suite sets for it.

    `name` is one of `known_metrics()`, `evaluate:NAME`, or `path/to/file.py:Class`. Raises
    UserError for an unknown name, an unknown option, or an option of another type.
    """
    options = dict(options or {})
    factory = _find(name)
    _check_options(name, factory, options)
    metric = factory(**options)
    if not isinstance(metric, Metric):
        raise UserError(
            f"{name} is not a metric: it lacks `spec` or `score`",
            field=name,
            hint="see docs/metrics.md for one in twenty lines",
        )
    return metric


def _find(name: str) -> Callable[..., Metric]:
    if name in METRICS:
        return cast("Callable[..., Metric]", METRICS.load(name))
    family, colon, rest = name.partition(":")
    if colon and family in _FAMILIES and rest:
        return partial(imported(_FAMILIES[family]), rest)
    path, colon, attribute = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _load_file(name, Path(path), attribute)
    raise METRICS.unknown(name)


def _load_file(name: str, path: Path, attribute: str) -> Callable[..., Metric]:
    try:
        return cast("Callable[..., Metric]", _from_file(path, attribute))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the metric {name} can't be loaded: {type(error).__name__}: {error}",
            field=name,
            hint="import it by hand to see where it fails",
        ) from error


def _from_file(path: Path, attribute: str) -> Any:
    if not path.is_file():
        raise UserError("the file of the metric doesn't exist", file=path, hint="check the path")
    module_name = f"ratchet_metric_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while the class is made.
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, attribute):
        raise UserError(f"the file defines no {attribute!r}", file=path, hint="check the name")
    return getattr(module, attribute)


def _check_options(name: str, factory: Callable[..., Metric], options: Mapping[str, Any]) -> None:
    signature = inspect.signature(factory)
    parameters = signature.parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    target = factory.func if isinstance(factory, partial) else factory
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key, value in options.items():
        if key not in parameters:
            near = difflib.get_close_matches(key, list(parameters), n=1)
            raise UserError(
                f"the metric {name} has no option {key!r}",
                field=key,
                hint=f"did you mean {near[0]}?"
                if near
                else f"it knows {', '.join(parameters) or 'none'}",
            )
        if key in hints and not _fits(value, hints[key]):
            raise UserError(
                f"the metric {name} can't take {value!r} for {key}",
                field=key,
                hint=f"expected {_describe(hints[key])}",
            )
    try:
        signature.bind(**options)
    except TypeError as error:
        raise UserError(f"the metric {name} lacks an option: {error}", field=name) from error


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, type(None)):
        return isinstance(value, hint)
    return True


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(argument) for argument in arguments)
    return {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}.get(
        hint, "nothing" if hint is type(None) else str(hint)
    )
