"""Opens `openai:URL#MODEL` or `openai:FILE.yaml` as a candidate that the runner can score."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from harness.backends.base import (
    Backend,
    BlindError,
    Candidate,
    GenerationRequest,
    GenerationSettings,
    LogprobRequest,
)
from harness.backends.openai.backend import OpenAIBackend
from harness.backends.openai.capabilities import gone
from harness.backends.openai.http import NoAnswerError, RefusedError, Wire
from harness.backends.openai.rate_limit import Budget, Pace, Prices
from harness.backends.openers import Opening
from harness.core.digests import digest_of
from harness.core.errors import UnfinishedError, UserError
from harness.core.strict_model import StrictModel
from harness.core.text_file import is_whole
from harness.core.workspace import Workspace
from harness.core.yaml_file import load_yaml, validate

SCHEME = "openai:"
KEY_VARIABLE = "RATCHET_API_KEY"
OPENAI_HOST, OPENAI_KEY = "api.openai.com", "OPENAI_API_KEY"

Say = Callable[[str], None]


class BudgetModel(StrictModel):
    """The most that one command may spend."""

    tokens: int | None = Field(default=None, ge=1)
    usd: float | None = Field(default=None, gt=0)


class PricesModel(StrictModel):
    """US dollars per million tokens."""

    input: float = Field(default=0.0, ge=0)
    output: float = Field(default=0.0, ge=0)


class AdapterModel(StrictModel):
    """A LoRA adapter to be loaded into a running vLLM; `on_server` is its folder over there,
    where that is another than here.
    """

    folder: str
    on_server: str | None = None


class ServedModel(StrictModel):
    """The YAML file that describes a served model.

    `weights` names the files that are served: their bytes then name the answers, and their
    tokenizer is used. `tokenizer` names a tokenizer alone. `key` is the name of an environment
    variable, never a key. `server`, `dtype` and `quantisation` are words for the fingerprint.
    """

    url: str = Field(pattern=r"^https?://")
    model: str | None = None
    weights: str | None = None
    tokenizer: str | None = None
    adapter: AdapterModel | None = None
    server: str | None = None
    dtype: str | None = None
    quantisation: str | None = None
    key: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    context: int | None = Field(default=None, ge=8)
    concurrency: int = Field(default=64, ge=1, le=1024)
    timeout_s: float = Field(default=120.0, gt=0)
    tries: int = Field(default=6, ge=1, le=20)
    prices: PricesModel = Field(default_factory=PricesModel)
    budget: BudgetModel = Field(default_factory=BudgetModel)


def read_served(name: str) -> ServedModel:
    """What `openai:...` describes; paths in a file are relative to it. Raises UserError."""
    rest = name.removeprefix(SCHEME)
    if rest.startswith(("http://", "https://")):
        url, _, model = rest.partition("#")
        _require_address(url)
        if not is_whole(model):
            raise UserError(f"{model!r} can't be the name of a model", field=SCHEME)
        return ServedModel(url=url, model=model or None)
    if not rest.endswith((".yaml", ".yml")):
        raise UserError(
            f"{name!r} does not name a server",
            hint="write openai:http://HOST:PORT/v1#MODEL, or openai:FILE.yaml",
        )
    document = load_yaml(Path(rest), what="served model")
    served = validate(ServedModel, document)
    try:
        _require_address(served.url)
    except UserError as error:
        raise document.error(error.what, ("url",), hint=error.hint) from None
    if served.budget.usd is not None and served.prices == PricesModel():
        raise document.error(
            "a budget in money needs prices",
            ("budget", "usd"),
            hint="add `prices: {input: ..., output: ...}`, in US dollars per million tokens",
        )
    beside = {
        field: str(document.path.parent / value)
        for field, value in (("weights", served.weights), ("tokenizer", served.tokenizer))
        if value and (document.path.parent / value).is_dir()
    }
    if served.adapter and (document.path.parent / served.adapter.folder).is_dir():
        folder = str(document.path.parent / served.adapter.folder)
        adapter = served.adapter.model_copy(update={"folder": folder})
        return served.model_copy(update={**beside, "adapter": adapter})
    return served.model_copy(update=beside)


def _require_address(url: str) -> None:
    """Raise UserError for what no server can have as its address."""
    import httpx2

    try:
        parsed = httpx2.URL(url)
        named = bool(parsed.host) and (parsed.port is None or 0 < parsed.port < 2**16)
        named = named and urlsplit(url).hostname is not None and is_whole(url)
    except (ValueError, httpx2.InvalidURL):
        named = False
    if not named or any(mark.isspace() for mark in url):
        raise UserError(
            f"{url!r} is not the address of a server",
            hint="write http://HOST:PORT/v1, such as http://127.0.0.1:8000/v1",
        )


def open_candidate(asked: Opening) -> Candidate:
    """The opener of `openai:`; `asked.hardware` is ignored. Raises as `open_served` does."""
    return open_served(asked.name, asked.workspace, say=asked.say)


def open_served(
    name: str,
    workspace: Workspace,
    *,
    weights: str | None = None,
    say: Say = lambda message: None,
) -> Candidate:
    """A served model as a candidate: the server is asked what it serves, and probed.

    `weights` is used where the description names none. Raises UserError for a description that is
    wrong, UnfinishedError for a server that does not answer.
    """
    served = read_served(name)
    if weights is not None and served.weights is None and served.adapter is None:
        served = served.model_copy(update={"weights": weights})
    return _opened(name, served, workspace, say)


@contextmanager
def served_adapter(
    name: str, folder: Path, workspace: Workspace, *, say: Say = lambda message: None
) -> Iterator[Candidate]:
    """The adapter in `folder` on the base that a running vLLM serves, as a candidate for as long
    as the `with` statement lasts: it is loaded into the server before and taken out after. The
    server must see the folder under the same path. Raises as `open_served` does.
    """
    served = read_served(name).model_copy(update={"adapter": AdapterModel(folder=str(folder))})
    candidate = _opened(name, served, workspace, say)
    try:
        yield candidate
    finally:
        # A server that is gone has nothing to unload, and that error would hide the first one.
        with suppress(UserError, UnfinishedError):
            unload_adapter(_wire(served), str(candidate.subject["model"]))


def _opened(name: str, served: ServedModel, workspace: Workspace, say: Say) -> Candidate:
    wire = _wire(served)
    files = _files(served, workspace, say)
    listed = _listed(wire)
    model = _adapter(served, wire, files, say) if served.adapter else _chosen(served, listed, wire)
    entry = listed.get(model) or {}
    folder = _tokenizer_folder(served, files, workspace, say)
    backend = OpenAIBackend(
        wire,
        model,
        None if folder is None else _tokenizer(folder),
        context=served.context or int(entry.get("max_model_len") or 2048),
        budget=Budget(
            served.budget.tokens,
            served.budget.usd,
            Prices(served.prices.input, served.prices.output),
        ),
        subject={**_declared(served, entry), **_named_tokenizer(served, folder, workspace)},
        say=say,
    )
    digest = files.digest if files else _observed(backend, served, workspace, say)

    def see() -> Callable[[], Backend]:
        if backend.tokenizer is None:
            return lambda: backend
        raise BlindError("its prompts are sent as tokens, which hold no picture")

    return Candidate(name, digest, backend.subject, lambda: backend, see=see)


def _wire(served: ServedModel) -> Wire:
    standard = OPENAI_KEY if urlsplit(served.url).hostname == OPENAI_HOST else KEY_VARIABLE
    variable = served.key or standard
    return Wire(
        served.url,
        key=os.environ.get(variable),
        key_name=variable,
        timeout_s=served.timeout_s,
        tries=served.tries,
        pace=Pace(served.concurrency),
    )


def _declared(served: ServedModel, entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the description says of the server. Its address is hashed: bundles are shared."""
    address = hashlib.sha256(served.url.encode()).hexdigest()[:8]
    return {
        "server": served.server or address,
        "software": entry.get("owned_by"),
        "dtype": served.dtype or "as served",
        "quantisation": served.quantisation,
    }


def _listed(wire: Wire) -> dict[str, Mapping[str, Any]]:
    """The models that the server lists, by name; empty for a server that has no list."""
    try:
        answer = wire.get("/models", tries=2).body
    except NoAnswerError as error:
        if error.gone:
            raise gone(wire, error) from None
        return {}
    except RefusedError:
        return {}
    data = answer.get("data") if isinstance(answer, Mapping) else None
    models = data if isinstance(data, list) else []
    return {str(m["id"]): m for m in models if isinstance(m, Mapping) and "id" in m}


def _chosen(served: ServedModel, listed: Mapping[str, Any], wire: Wire) -> str:
    if served.model is not None:
        # A name that is not listed may still work: the probe finds out.
        return served.model
    if len(listed) == 1:
        return next(iter(listed))
    what = f"serves {len(listed)} models" if listed else "lists no models"
    raise UserError(
        f"{wire.url} {what}",
        hint=f"name one: openai:{served.url}#{next(iter(sorted(listed)), 'MODEL')}"
        + ("" if listed else "; the address usually ends in /v1"),
    )


def _files(served: ServedModel, workspace: Workspace, say: Say) -> Any | None:
    from harness.models.resolve import resolve

    if served.adapter is not None:
        return resolve(served.adapter.folder, workspace, base=served.weights, say=say)
    return None if served.weights is None else resolve(served.weights, workspace, say=say)


def _tokenizer_folder(
    served: ServedModel, files: Any | None, workspace: Workspace, say: Say
) -> Path | None:
    from harness.models.resolve import resolve

    if served.tokenizer is None:
        return None if files is None else Path(files.tokenizer)
    folder = Path(served.tokenizer)
    if (folder / "tokenizer_config.json").is_file():
        return folder
    return resolve(served.tokenizer, workspace, say=say).tokenizer


def _named_tokenizer(
    served: ServedModel, folder: Path | None, workspace: Workspace
) -> dict[str, str]:
    """What the subject says of a tokenizer that the description names by itself: it is no part of
    the digest, and with another chat template the server would be asked something else.
    """
    from harness.models.resolve import tokenizer_digest

    if served.tokenizer is None or folder is None:
        return {}
    return {"tokenizer": tokenizer_digest(folder, workspace)[:8]}


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    from harness.core.quiet import quiet_libraries

    with quiet_libraries():
        return AutoTokenizer.from_pretrained(folder)


def _adapter(served: ServedModel, wire: Wire, files: Any, say: Say) -> str:
    """Load the adapter into the running server; returns the name under which it is served.

    The name holds a digest of the adapter's bytes, so that an adapter loaded earlier never answers
    in place of this one.
    """
    assert served.adapter is not None
    name = f"{served.model or 'ratchet'}-{files.digest[:12]}"
    path = served.adapter.on_server or str(Path(served.adapter.folder).absolute())
    say(f"Loading the adapter {served.adapter.folder} into {served.url} as {name}")
    try:
        body = {"lora_name": name, "lora_path": path}
        wire.post("/load_lora_adapter", body, as_text=True)
    except NoAnswerError as error:
        raise gone(wire, error) from None
    except RefusedError as error:
        if "already" in str(error):
            return name
        raise UserError(
            f"{served.url} does not load the adapter: {error}",
            hint="start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, and "
            "give `on_server:` the folder as the server sees it",
        ) from None
    return name


def unload_adapter(wire: Wire, name: str) -> None:
    """Take an adapter out of a running vLLM. Raises UserError where it is not there."""
    try:
        wire.post("/unload_lora_adapter", {"lora_name": name}, as_text=True)
    except NoAnswerError as error:
        raise gone(wire, error) from None
    except RefusedError as error:
        raise UserError(f"{wire.url} does not unload {name!r}: {error}") from None


def _observed(backend: OpenAIBackend, served: ServedModel, workspace: Workspace, say: Say) -> str:
    """A digest for weights that can't be read: of the server's address and the model's behavior.

    A server that answers a few fixed questions differently than before counts as another model,
    and answers cached earlier are not used for it. A change too small for these questions is not
    noticed; `weights:` in the description makes sure.
    """
    from harness.core.files import write_atomic

    place = digest_of([served.url, backend.model])
    path = workspace.ensure().cache / "served" / f"{place}.json"
    behavior = _behavior(backend)
    known: list[dict[str, Any]] = []
    with suppress(OSError, json.JSONDecodeError):
        known = json.loads(path.read_text(encoding="utf-8"))
    for earlier in known:
        if _alike(earlier, behavior):
            return str(earlier["digest"])
    if known:
        say(
            f"{backend.model} answers differently than before: it counts as another model, and "
            "earlier answers are not used"
        )
    digest = hashlib.sha256(json.dumps([place, behavior]).encode()).hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps([*known, {**behavior, "digest": digest}]))
    return digest


_QUESTIONS = (
    "Name three rivers.",
    "Continue: 2, 3, 5, 7,",
    "用一句话介绍你自己。",
)
_TEXT = "The committee met on Tuesday to decide whether the old bridge should be repaired."


def _behavior(backend: Backend) -> dict[str, Any]:
    asked = [
        GenerationRequest(str(n), backend.encode_chat([{"role": "user", "content": text}]), (0,))
        for n, text in enumerate(_QUESTIONS)
    ]
    answers = backend.generate(asked, GenerationSettings(max_new_tokens=16))
    said = {answer.request_id: answer.text for answer in answers}
    nll = None
    if isinstance(backend, OpenAIBackend) and backend.refuses("text") is None:
        request = LogprobRequest("", (backend.prefix_token_id,), backend.encode(_TEXT))
        nll = -sum(next(backend.logprobs([request])).logprobs)
    return {"said": [said[key] for key in sorted(said)], "nll": nll}


def _alike(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    if earlier["said"] != now["said"] or (earlier["nll"] is None) != (now["nll"] is None):
        return False
    # In nats over the whole text.
    return now["nll"] is None or abs(earlier["nll"] - now["nll"]) < 0.02
