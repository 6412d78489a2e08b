"""`evaluate:NAME`: any module of Hugging Face's `evaluate`, by hub id or path."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.types import Direction, Response, Sample
from harness.metrics.base import Evidence, MetricItem, MetricSpec
from harness.metrics.support.items import Outcome, score_each
from harness.metrics.support.silence import silent_unscored


def load_module(name: str) -> Any:
    """The module, loaded once. Raises UserError that says what is missing (often: the network)."""
    return _load(name)


@lru_cache(maxsize=8)
def _load(name: str) -> Any:
    import evaluate

    try:
        return evaluate.load(name)
    except ImportError as error:
        raise UserError(
            f"evaluate:{name} needs a package: {_first_line(error)}", field=name
        ) from error
    except Exception as error:
        raise UserError(
            f"evaluate:{name} can't be loaded: {_first_line(error)}",
            field=name,
            hint="the module's script comes from the hub: fetch it once with the network "
            f"(python -c \"import evaluate; evaluate.load('{name}')\"), or give the path of a "
            "local copy: evaluate:path/to/module.py",
        ) from error


@dataclass(frozen=True, slots=True)
class HfEvaluate:
    """Mean over the responses of what the module computes for one response alone.

    `key` is the entry of its answer that holds the value (by default the module's name, or the only
    entry); `with_options` goes to its `compute`. Where a module's corpus value is not a mean over
    samples (BLEU, macro-F1), so is this one not that value: take Ratchet's own metric then.
    """

    name: str
    key: str | None = None
    better: Direction = "higher"
    with_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        load_module(self.name)

    @property
    def spec(self) -> MetricSpec:
        options = [(k, str(v)) for k, v in sorted(self.with_options.items())]
        script = _script(self.name)
        if script is not None:
            # A path says nothing of what is in the file, and is another on every machine.
            digest = hashlib.sha256(script.read_bytes()).hexdigest()[:12]
            options.insert(0, ("module", f"{script.name}@{digest}"))
        return MetricSpec(
            f"evaluate:{self._short}",
            self.better,
            scale="interval",
            unit="the module's own",
            low=None,
            high=None,
            version="2",
            options=(("key", self.key or "auto"), ("evaluate", _version()), *options),
        )

    @property
    def _short(self) -> str:
        script = _script(self.name)
        return self.name if script is None else script.stem

    def score(self, items: Sequence[MetricItem]) -> list[list[Evidence]]:
        return score_each(items, self._value, silent=silent_unscored())

    def _value(self, sample: Sample, response: Response) -> Outcome:
        module = load_module(self.name)
        given: dict[str, Any] = {"predictions": [response.text]}
        features = module.features[0] if isinstance(module.features, list) else module.features
        if "references" in features:
            if not sample.references:
                return Evidence.unscored(None, "the sample has no reference")
            several = not hasattr(features["references"], "dtype")
            given["references"] = [list(sample.references) if several else sample.references[0]]
        try:
            answer = module.compute(**given, **self.with_options)
        except Exception as error:  # noqa: BLE001 - a module of anybody's may raise anything
            return Evidence.error(None, f"{type(error).__name__}: {_first_line(error)}")
        return self._pick(answer)

    def _pick(self, answer: Mapping[str, Any] | None) -> Outcome:
        found = dict(answer or {})
        key = self.key or (self._short if self._short in found else next(iter(found), None))
        value = found.get(key) if key is not None else None
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            entries = ", ".join(map(str, found)) or "none"
            return Evidence.error(None, f"no number under {key!r}; the module's entries: {entries}")


def _script(name: str) -> Path | None:
    """The module's file where `name` is a path (a folder holds the script of its own name)."""
    path = Path(name)
    if path.is_dir():
        path = path / f"{path.name}.py"
    return path if path.is_file() else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _version() -> str:
    from importlib.metadata import version

    return version("evaluate")
