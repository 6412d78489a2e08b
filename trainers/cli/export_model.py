"""`ratchet export-model LINE|PATH --to DIR`: a model to take away, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.core.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from harness.registry.registry import Registry
    from trainers.export.quantize import Bits, Quantized


def export_model(
    model: Annotated[
        str, typer.Argument(help="A line, a checkpoint's digest, or a model's folder.")
    ],
    to: Annotated[Path, typer.Option("--to", help="The new folder.", show_default=False)],
    merge: Annotated[
        bool, typer.Option("--merge", help="Base and adapter as one model. The default.")
    ] = False,
    adapter: Annotated[bool, typer.Option("--adapter", help="The adapter alone.")] = False,
    gguf_ready: Annotated[
        bool, typer.Option("--gguf-ready", help="Merged, as llama.cpp's converter takes it.")
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="Of the merged weights: float32, float16 or bfloat16.")
    ] = "float32",
    rounded_to: Annotated[
        str | None,
        typer.Option("--quantize", help="int8 or int4: merged, with fewer bits to a weight."),
    ] = None,
) -> None:
    """Write a model and its card, and check that it answers as the original does."""
    from rich.console import Console
    from rich.text import Text

    from harness.core.workspace import Workspace
    from harness.models.resolve import resolve
    from harness.registry.registry import Registry
    from harness.store.store import Store
    from trainers.export.export import Form, export
    from trainers.export.model_card import model_card, origin_of

    if merge + adapter + gguf_ready > 1:
        raise UserError("one export has one form", hint="--merge, --adapter or --gguf-ready")
    if dtype not in ("float32", "float16", "bfloat16"):
        raise UserError(
            f"weights can't be written as {dtype!r}",
            field="--dtype",
            hint="float32, float16 or bfloat16",
        )
    if rounded_to not in (None, "int8", "int4"):
        raise UserError(
            f"weights can't be rounded to {rounded_to!r}", field="--quantize", hint="int8 or int4"
        )
    if rounded_to and (adapter or gguf_ready or dtype != "float32"):
        raise UserError("one export has one form", hint="--quantize alone, or another form alone")
    form: Form = "adapter" if adapter else "gguf-ready" if gguf_ready else "merge"
    console = Console()
    workspace = Workspace.at().ensure()
    with Store(workspace) as store:
        registry = Registry(workspace, store)
        folder, digest = _found(model, registry)
        files = resolve(str(folder), workspace, say=console.print)
        base = _base_of(folder)
        origin = origin_of(model.removeprefix("line:"), folder, digest, base, registry, store)
        if rounded_to is not None:
            from trainers.export.quantize import quantize

            card = model_card(origin, "merge")
            bits: Bits = "int4" if rounded_to == "int4" else "int8"
            small = quantize(files, to, bits, card=card, workspace=workspace, say=console.print)
            _show_sides(small, console)
            return
        done = export(
            files,
            to,
            form,
            card=model_card(origin, form),
            workspace=workspace,
            dtype=dtype,
            say=console.print,
        )
    console.print(Text(f"{done.folder}: {form}, {dtype}", style="bold"))
    console.print(Text(f"  logits are off by at most {done.difference:.2g} of the largest"))
    scored = f"{len(origin.scores)} scores" if origin.scores else "no scores: it was never a run"
    console.print(Text(f"  README.md holds {scored}"))


def _show_sides(done: Quantized, console: Console) -> None:
    """Size, speed and loss beside each other; what the loss means is for the gate to say."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("", "before", done.bits, "ratio"):
        table.add_column(name, justify="left" if not name else "right")
    before, after = done.before, done.after
    table.add_row(
        "weights, MB",
        f"{before.bytes / 1e6:.1f}",
        f"{after.bytes / 1e6:.1f}",
        f"{after.bytes / before.bytes:.2f}",
    )
    table.add_row(
        "reading, ms",
        f"{before.seconds * 1e3:.1f}",
        f"{after.seconds * 1e3:.1f}",
        f"{after.seconds / before.seconds:.2f}",
    )
    table.add_row("loss, nats a token", f"{before.nll:.4f}", f"{after.nll:.4f}", "")
    console.print(table)
    console.print(Text(f"{done.folder}: {done.bits}", style="bold"))
    console.print("Whether that is a loss: ratchet gate", str(done.folder), "--against MODEL")


def _found(model: str, registry: Registry) -> tuple[Path, str]:
    """The folder of a line's promoted checkpoint, of a digest, or as named; and its digest."""
    from harness.core.files import digest_of_folder

    name = model.removeprefix("line:")
    if name in registry.lines():
        promoted = registry.promoted(name)
        if promoted is None:
            raise UserError(
                f"the line {name!r} has no promoted checkpoint",
                hint="promote one, or name a model's folder",
            )
        return promoted.path, promoted.digest
    if Path(model).is_dir():
        return Path(model), digest_of_folder(Path(model))
    if model != name:
        raise UserError(f"there is no line {name!r}", hint=f"known: {', '.join(registry.lines())}")
    folder = registry.path(model)
    return folder, folder.name


def _base_of(folder: Path) -> str | None:
    """What an adapter says it is one of; a path of this machine is nobody else's business."""
    import json

    path = folder / "adapter_config.json"
    if not path.exists():
        return None
    named = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
    return None if named is None else Path(named).name if Path(named).exists() else str(named)
