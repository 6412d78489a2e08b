"""Where other tools put their checkpoints, and by what each says that one is whole."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.core.errors import UserError
from harness.models.resolve import ADAPTER_CONFIG
from trainers.checkpoints.whole import read_json, why_not_whole

AUTO = "auto"
_VOCABULARY = ("tokenizer.json", "*.model", "vocab*", "*.tiktoken", "tekken.json")
STEP = "{step}"


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint of another tool: `place` is all of it, `model` the folder with its weights;
    `tokenizer` is where that lies elsewhere.
    """

    step: int
    place: Path
    model: Path
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """`patterns` are paths below the followed folder, with {step} for the number; `models` where
    the weights may lie in a checkpoint, the first that is there; `is_done` reads the tool's own
    word that a checkpoint is finished (None: it has none, so that its files must have rested).
    """

    name: str
    patterns: tuple[str, ...]
    is_done: Callable[[Path, Path, int], bool] | None
    models: tuple[str, ...] = ("",)
    tokenizer: str | None = None
    lacking: str = ""

    def candidates(self, folder: Path) -> Iterator[tuple[int, Path]]:
        """(step, place) of whatever looks like a checkpoint, whole or not."""
        for pattern in self.patterns:
            found = list(_matching(folder, pattern))
            yield from found
            if found:
                return


def _trainer_state(folder: Path, place: Path, step: int) -> bool:
    """Transformers writes it after all that belongs to the model."""
    state = read_json(place / "trainer_state.json")
    return isinstance(state, dict) and state.get("global_step") == step


def _tracker(folder: Path, place: Path, step: int) -> bool:
    """Verl writes the number of the last whole checkpoint."""
    try:
        return int((folder / "latest_checkpointed_iteration.txt").read_text().strip()) >= step
    except (OSError, ValueError):
        return False


def _stable(folder: Path, place: Path, step: int) -> bool:
    return (place / "STABLE").exists()


def _renamed(folder: Path, place: Path, step: int) -> bool:
    """NeMo-RL writes into tmp_step_N and renames that."""
    return (place / "training_info.json").exists()


_TRAINER = Layout("hf", ("checkpoint-{step}",), _trainer_state)
LAYOUTS: Mapping[str, Layout] = {
    "hf": _TRAINER,
    "axolotl": _TRAINER,
    "verl": Layout(
        "verl",
        ("global_step_{step}",),
        _tracker,
        ("actor/lora_adapter", "actor/huggingface"),
        tokenizer="actor/huggingface",
        lacking="let verl save it: actor_rollout_ref.actor.checkpoint.save_contents with hf_model",
    ),
    "openrlhf": Layout("openrlhf", ("global_step{step}_hf",), None),
    "prime-rl": Layout(
        "prime-rl",
        ("weights/step_{step}", "broadcasts/step_{step}", "step_{step}"),
        _stable,
        lacking="let prime-rl save weights: --weights, or --ckpt.weights",
    ),
    "nemo-rl": Layout(
        "nemo-rl",
        ("step_{step}",),
        _renamed,
        ("policy/weights/model/consolidated", "policy/weights/model", "policy/weights", "hf"),
        tokenizer="policy/tokenizer",
        lacking="let NeMo-RL save it for Hugging Face (save_consolidated: true), or convert it "
        "into the checkpoint's folder hf/",
    ),
}
"""By the word that `--layout` takes."""


@dataclass(slots=True)
class Scan:
    """Finds whole checkpoints. `rest_s` is for how long the files of a checkpoint must have rested
    whose tool doesn't say that it is finished; `tokenizer` is the folder of one for checkpoints
    that have none.
    """

    folder: Path
    wanted: str
    rest_s: float
    tokenizer: Path | None = None
    now: Callable[[], float] = time.time
    _reported: set[Path] = field(default_factory=set)

    def layout(self) -> Layout | None:
        """The layout that is there; None while there is nothing yet."""
        if self.wanted in LAYOUTS:
            return LAYOUTS[self.wanted]
        if self.wanted != AUTO:
            return Layout(self.wanted, (self.wanted,), None)
        for layout in LAYOUTS.values():
            for _, place in layout.candidates(self.folder):
                if layout.name not in ("prime-rl", "nemo-rl") or _is_of(layout, place):
                    return layout
        return None

    def whole(self) -> list[Found]:
        """Whole checkpoints, by step."""
        layout = self.layout()
        if layout is None:
            return []
        found = [
            one
            for step, place in layout.candidates(self.folder)
            if (one := self._whole(layout, step, place)) is not None
        ]
        return sorted(found, key=lambda one: one.step)

    def unusable(self) -> Iterator[tuple[Path, str]]:
        """(place, why) of checkpoints that their tool calls finished and that can't be loaded;
        each is told once.
        """
        layout = self.layout()
        if layout is None or layout.is_done is None:
            return
        for step, place in layout.candidates(self.folder):
            if place in self._reported or not layout.is_done(self.folder, place, step):
                continue
            if self._whole(layout, step, place) is None and self._rested(place):
                self._reported.add(place)
                yield place, _why_unusable(layout, place)

    def _whole(self, layout: Layout, step: int, place: Path) -> Found | None:
        done = layout.is_done
        if done is not None and not done(self.folder, place, step):
            return None
        model = _model_in(layout, place)
        if model is None or why_not_whole(model) is not None:
            return None
        if done is None and not self._rested(place):
            return None
        if _has_tokenizer(model):
            return Found(step, place, model)
        elsewhere = self.tokenizer or (layout.tokenizer and place / layout.tokenizer)
        if elsewhere and _has_tokenizer(elsewhere):
            return Found(step, place, model, elsewhere)
        # An adapter is asked with its base's.
        return Found(step, place, model) if (model / ADAPTER_CONFIG).exists() else None

    def _rested(self, place: Path) -> bool:
        try:
            times = [path.stat().st_mtime for path in (place, *place.rglob("*"))]
        except OSError:
            return False
        return self.now() - max(times) >= self.rest_s


def require_layout(wanted: str) -> str:
    """Raises UserError for what is neither a layout's name nor a pattern."""
    if wanted in (AUTO, *LAYOUTS) or wanted.count(STEP) == 1:
        return wanted
    raise UserError(
        f"there is no layout {wanted!r}",
        field="--layout",
        hint=f"{AUTO}, {', '.join(LAYOUTS)}, or a pattern such as 'run/step_{STEP}/model'",
    )


def planned_by(place: Path) -> int | None:
    """How many checkpoints the job will save, where transformers wrote it down."""
    state = read_json(place / "trainer_state.json")
    if not isinstance(state, dict):
        return None
    steps, every = state.get("max_steps"), state.get("save_steps")
    if not isinstance(steps, int) or not isinstance(every, int) or steps < 1 or every < 1:
        return None
    return -(-steps // every)


def _matching(folder: Path, pattern: str) -> Iterator[tuple[int, Path]]:
    name = re.compile(re.escape(pattern).replace(re.escape(STEP), r"(\d+)"))
    for place in folder.glob(pattern.replace(STEP, "*")):
        found = name.fullmatch(place.relative_to(folder).as_posix())
        if found and place.is_dir():
            yield int(found[1]), place


def _model_in(layout: Layout, place: Path) -> Path | None:
    """The folder of the weights: the first that has any, else the first that is there."""
    there = [place / name for name in layout.models if (place / name).is_dir()]
    with_weights = [f for f in there if any(f.glob("*.safetensors")) or any(f.glob("*.bin"))]
    return next(iter([*with_weights, *there]), None)


def _has_tokenizer(folder: Path) -> bool:
    """With its vocabulary, which is written last."""
    return any(path.is_file() for name in _VOCABULARY for path in folder.glob(name))


def _is_of(layout: Layout, place: Path) -> bool:
    """Both call a checkpoint step_N."""
    if layout.name == "prime-rl":
        return place.parent.name in ("weights", "broadcasts") or (place / "STABLE").exists()
    return (place / "training_info.json").exists()


def _why_unusable(layout: Layout, place: Path) -> str:
    why = why_not_whole(_model_in(layout, place) or place)
    if why is None:
        return "it has no tokenizer: name a folder that has it with --tokenizer"
    return f"{why}; {layout.lacking}" if layout.lacking else why
