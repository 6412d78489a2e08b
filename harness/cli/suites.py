"""`ratchet suites check`: finds what is wrong with a suite before a model is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from harness.core.types import Sample
    from harness.evaluation.plan import Extent
    from harness.metrics.base import Metric
    from harness.suite.suite import Suite, Task

suites = typer.Typer(help="Look at suites without scoring anything.", no_args_is_help=True)


@suites.callback()
def _suites() -> None:
    """Look at suites without scoring anything."""


@suites.command()
def check(
    suite: Annotated[Path, typer.Argument(help="The suite, a YAML file.", show_default=False)],
    model: Annotated[
        str, typer.Option("--model", help="The model whose tokenizer counts tokens.")
    ] = "smollm2-135m-instruct",
) -> None:
    """Validate a suite and show one rendered prompt of each task, with its length in tokens."""
    from rich.console import Console

    from harness.suite.load import load_suite

    loaded = load_suite(suite)
    console = Console()
    encoder = _encoder(model, console)
    console.print(f"{loaded.name}: {len(loaded.tasks)} tasks, protocol {loaded.digest}")
    for task in loaded.tasks:
        _show_task(task, encoder, console)
    _show_gate(loaded, console)


def _encoder(model: str, console: Console) -> _Encoder | None:
    """The tokenizer's chat encoding, or None with a word of why: checking needs no weights."""
    from harness.core.errors import UserError
    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve

    try:
        files = resolve(model, Workspace.at())
    except UserError as error:
        console.print(f"(no token counts: {error.what})", style="dim", markup=False)
        return None
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(files.tokenizer)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = f"the tokenizer of {model!r} can't be loaded: {said}"
        raise UserError(what, file=files.tokenizer) from error
    return _Encoder(model, tokenizer)


@dataclass(frozen=True)
class _Encoder:
    """The chat encoding of a model, without its weights."""

    model: str
    tokenizer: Any

    def tokens(self, task: Task, sample: Sample) -> int:
        """Tokens of a sample's prompt. Raises UserError where the chat template refuses it."""
        from harness.backends.tokenization import encode_chat
        from harness.evaluation.prompts import TEMPLATE_FAULTS, refused_prompt

        try:
            return len(encode_chat(self.tokenizer, sample.prompt, sample.options))
        except TEMPLATE_FAULTS as error:
            raise refused_prompt(task.name, sample, error, self.tokenizer) from error

    def ignored(self, sample: Sample) -> str | None:
        """A sentence on arguments of a suite that the chat template doesn't name."""
        template = str(self.tokenizer.chat_template or "")
        unknown = [name for name in sample.options.template if name not in template]
        if not unknown:
            return None
        return (
            f"the chat template of {self.model} doesn't name {', '.join(unknown)}: nothing changes"
        )


def _show_task(task: Task, encoder: _Encoder | None, console: Console) -> None:
    from rich.text import Text

    reserve = sum(sample.reserve for sample in task.samples)
    console.print()
    console.print(
        Text(task.name, style="bold"), Text(f"{len(task.samples)} samples", "dim"), end=""
    )
    console.print(Text(f" ({reserve} in reserve)" if reserve else "", "dim"))
    for metric in task.metrics:
        console.print(Text(f"  {metric.spec.signature}", style="dim"))
        for line in _told_apart(metric):
            console.print(Text(f"    {line}", style="dim"))
    sample = task.samples[0]
    for line in _prompt_lines(sample):
        console.print(Text(f"  {line}"))
    if sample.text is not None:
        console.print(Text(f"  text: {_shown(sample.text)}"))
    for reference in sample.references:
        console.print(Text(f"  reference: {_shown(reference)}"))
    for picture in sample.pictures:
        console.print(Text(f"  picture: {picture.path or 'in the data'} ({picture.kind})"))
    # How many tokens a picture takes is known by the model's processor alone.
    if encoder is not None and sample.prompt and not sample.pictures:
        lengths = [encoder.tokens(task, s) for s in task.samples]
        console.print(
            Text(
                f"  sample {sample.id}: {lengths[0]} tokens with the chat template; "
                f"the longest prompt has {max(lengths)}, and {task.settings.max_new_tokens} "
                "may be generated",
                style="dim",
            )
        )
        if (ignored := encoder.ignored(sample)) is not None:
            console.print(Text(f"  {ignored}", "yellow"))


def _prompt_lines(sample: Sample) -> list[str]:
    """The turns of a sample, many of them without their middle, and how they are asked."""
    turns = [f"{message['role']}: {_shown(message['content'])}" for message in sample.prompt]
    if len(turns) > 2 * _TURNS:
        between = f"… {len(turns) - 2 * _TURNS} turns more …"
        turns = [*turns[:_TURNS], between, *turns[-_TURNS:]]
    options = sample.options
    if options.then:
        turns.append(f"then, each after an answer: {_shown(options.then[0]['content'])}")
        if len(options.then) > 1:
            turns.append(f"… {len(options.then) - 1} turns more …")
    if options.tools:
        turns.append(f"tools: {', '.join(tool['function']['name'] for tool in options.tools)}")
    if options.template:
        told = ", ".join(f"{name}: {value}" for name, value in options.template.items())
        turns.append(f"template: {told}")
    if options.prefill:
        turns.append(f"answer begins: {_shown(options.prefill)}")
    return turns


_TURNS = 3
"""How many turns are shown of each end of a long prompt."""


def _told_apart(metric: Metric) -> list[str]:
    """Where an answer must be written as its label is, since another label reads almost the same:
    one line, none for most suites.
    """
    from harness.core.labels import Labels

    known = getattr(metric, "known", None)
    groups = known.told_apart() if isinstance(known, Labels) else []
    if not groups:
        return []
    shown = "; ".join(" and ".join(map(repr, group[:_LABELS])) for group in groups[:_LABELS])
    more = f" (and {len(groups) - _LABELS} more groups)" if len(groups) > _LABELS else ""
    return [f"case, articles or the exact text tell labels apart: {shown}{more}"]


_LABELS = 3
"""How many groups of labels, and labels of a group, are shown."""


def _shown(text: str, limit: int = 160) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def _show_gate(suite: Suite, console: Console) -> None:
    from rich.text import Text

    from harness.report.table import Flowed

    roles = suite.roles()
    names = list(roles)
    console.print()
    console.print(
        Text(f"gate: margin {suite.policy.margin}, alpha {suite.policy.alpha}", style="bold")
    )
    for role in ("required", "watched", "advisory"):
        held = [name for name in names if roles[name] == role]
        if held:
            console.print(Flowed(held, ", ", first=f"  {role}:", indent=4))
    _show_power(suite, [name for name in names if roles[name] != "advisory"], console)


def _show_power(suite: Suite, gated: list[str], console: Console) -> None:
    """The smallest drop that each gated metric shows at 80% power: measured, else assumed."""
    from rich.text import Text

    from harness.comparison.looks import schedule
    from harness.report.table import FittedTable, Flowed

    last = schedule(suite.policy.looks or (1.0,))[-1]
    known, note = _calibration(suite)
    console.print(Text("\nsmallest drop that FAILs in 80% of cases:", style="bold"))
    titles = ("  metric", "drop", "samples × answers", "margin", "")
    table, later, assumed, above = FittedTable(titles, frozenset({""})), [], False, False
    for task, metric in suite.metrics():
        name = task.named(metric)
        if name not in gated:
            continue
        margin = suite.policy.margin_of(name)
        if name in known:
            drop, n, responses = known[name]
        elif _like_a_share(metric):
            assumed = True
            drop, n, responses = _visible(suite, task, last, len(gated), margin)
        else:
            later.append(name)
            continue
        wide = drop > margin
        above = above or wide
        table.add(
            f"  {name}",
            _percent(drop),
            f"{n} × {responses}",
            f"{margin:.1%}",
            "above it" if wide else "",
            style="yellow" if wide else "",
        )
    if table.rows:
        console.print(table)
    if above:
        console.print(Text("  above its margin: smaller drops often go unseen", "yellow"))
    if later:
        first = "  `ratchet calibrate` measures:"
        console.print(Flowed(later, ", ", first=first, indent=4, style="dim"))
    if known:
        console.print(Text(f"  measured by calibration {note}", "dim"))
    if assumed:
        console.print(Text("  before scoring, taken as right or wrong and 70% right;", "dim"))
        console.print(Text("  sampled anchors with 16 answers", "dim"))


def _calibration(suite: Suite) -> tuple[dict[str, tuple[float, int, int]], str]:
    """What the newest calibration of this suite measured: metric -> drop, samples, answers."""
    from harness.comparison.calibrations import newest
    from harness.core.workspace import Workspace
    from harness.store.store import Store

    workspace = Workspace.at()
    if not workspace.home.exists():
        return {}, ""
    with Store(workspace) as store:
        found = newest(store, suite.digest)
    if found is None:
        return {}, ""
    rows = found.detail["metrics"]
    return {
        row["metric"]: (
            math.inf if row["visible"] is None else row["visible"],
            row["n"],
            row["responses"],
        )
        for row in rows
    }, found.note


def _like_a_share(metric: Metric) -> bool:
    """Whether the metric is a share for which higher is better, as of right or wrong answers."""
    spec = metric.spec
    whole = (spec.low, spec.high) == (0.0, 1.0)
    return whole and spec.direction == "higher" and spec.scale == "ratio" and spec.form != "corpus"


def _visible(
    suite: Suite, task: Task, extent: Extent, tests: int, margin: float
) -> tuple[float, int, int]:
    """The smallest visible drop, a share; the samples or clusters; the answers to each."""
    from harness.comparison.evidence import planned_responses
    from harness.evaluation.plan import samples_in
    from harness.gate.calibration import visible_before_scoring

    samples = samples_in(suite, task, None, 0, extent)
    n = len({sample.cluster or f"\0{sample.id}" for sample in samples})
    responses = planned_responses(suite, extent)[task.name] if task.sampled else 1
    drop = visible_before_scoring(
        n,
        responses=responses,
        anchor_responses=max(16, responses) if task.sampled else 1,
        margin=margin,
        alpha=suite.policy.alpha,
        tests=tests,
    )
    return drop, n, responses


def _percent(drop: float) -> str:
    return f"{drop:.1%}" if drop < 1 else "no drop at all"
