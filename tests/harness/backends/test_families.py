"""Every family of the installed transformers: what it answers is what the model itself says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from harness.backends.base import GenerationRequest, GenerationSettings, LogprobRequest
from harness.backends.transformers.backend import TransformersBackend
from harness.core.errors import UserError
from harness.core.workspace import Workspace
from harness.models.resolve import load, resolve
from tests.tiny_families import VOCABULARY, families, tiny_family

# One of each kind: slots, sliding, sinks, linear, state space, a cache of its own, no cache,
# compressed attention, and image-text models.
QUICK = frozenset(
    {
        "llama", "gemma2", "gemma3_text", "gpt_oss", "qwen3_5_text", "mamba2", "jamba", "minimax",
        "rwkv", "gpt_neo", "deepseek_v4", "phi3", "mistral3", "llava", "bert", "blip-2",
    }
)  # fmt: skip

REFUSED = frozenset(
    {
        # They look at both sides of a token.
        "bert", "bert-generation", "big_bird", "camembert", "cpmant", "data2vec-text", "electra",
        "ernie", "megatron-bert", "paligemma", "prophetnet", "rembert", "roberta",
        "roberta-prelayernorm", "roc_bert", "roformer", "xlm", "xlm-roberta", "xlm-roberta-xl",
        "xlnet", "xmod",
        # They write about an image, and about nothing else.
        "blip", "blip-2", "hunyuan_vl", "idefics", "instructblip", "instructblipvideo", "pi0",
        "pix2struct", "pp_formulanet", "t5gemma2", "udop", "vision-encoder-decoder",
        # A classifier.
        "shieldgemma2",
    }
)  # fmt: skip
"""Families that are refused in one message before anything is scored."""
_SAID = (
    "not a causal language model|read as text alone|has an encoder|can't be loaded|lack [0-9]+ of"
    "|no causal language model"
)

_PARTS = "the sizes of its parts hang together otherwise than the common ones"
UNBUILT: dict[str, str] = {
    **dict.fromkeys(
        (
            "apertus1p5", "blt", "chameleon", "cohere_compass", "cohere_compass_text",
            "cosmos3_edge", "deepseek_ocr2", "dots3_note", "dots3_note_text", "ernie4_5_vl_moe",
            "florence2", "gemma3n_text", "glm4v_moe", "glm5_next", "granite4_vision",
            "granite_docling", "hy_v4_vl", "inkling2", "inkling2_loop", "inkling2_text",
            "inkling2_loop_text", "kosmos-2", "kosmos-2.5", "molmo2", "muse_spark",
            "nemotron_h_omni", "qwen4_exp", "qwen4_exp_text", "zamba", "zamba2", "zaya",
        ),
        _PARTS,
    ),
    **dict.fromkeys(("fast_vlm", "gemma3n", "perception_lm"), "its vision part needs timm"),
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"), "it drafts for another model only"
    ),
    **dict.fromkeys(("musicgen", "musicgen_melody"), "its listed config is not its decoder's"),
    "dbrx": "transformers can't build it from its own config",
    "diffusion_gemma": "it writes no token after another",
    "evolla": "transformers can't build it from its own config",
    "reformer": "it can't be a decoder by its own default config",
}  # fmt: skip
"""Families that can't be built tiny by the common sizes, and why."""


def tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(VOCABULARY - 4)}
    special = {name: VOCABULARY - 4 + i for i, name in enumerate(("<unk>", "</s>", "<s>", "<pad>"))}
    kind = Tokenizer(models.WordLevel({**words, **special}, unk_token="<unk>"))
    kind.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=kind, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    )


@torch.inference_mode()
def logits_of(model: Any, ids: list[int]) -> torch.Tensor:
    try:
        output = model(torch.tensor([ids]), use_cache=False)
    except TypeError:
        output = model(torch.tensor([ids]))
    logits: torch.Tensor = output.logits[0].float()
    return logits


def greedy(model: Any, prompt: list[int], count: int, ends: tuple[int, ...]) -> list[int]:
    said: list[int] = []
    while len(said) < count:
        token = int(logits_of(model, prompt + said)[-1].argmax())
        if token in ends:
            break
        said.append(token)
    return said


def prompts() -> list[list[int]]:
    """Two of one length of which one ends early, and texts far longer than any tiny window."""
    chance = torch.Generator().manual_seed(1)
    sizes = (5, 9, 9, 23, 40, 60)
    drawn = [torch.randint(0, VOCABULARY - 4, (n,), generator=chance).tolist() for n in sizes]
    return [[3, 5, 7, 9, 11], *drawn]


def saved(name: str, folder: Path) -> tuple[Any, Path]:
    """The model and its folder. A token of the first prompt's answer ends answers as well."""
    model = tiny_family(name)
    if name not in REFUSED:
        answer = greedy(model, prompts()[0], 4, ())
        model.generation_config.eos_token_id = [VOCABULARY - 3, answer[-1]]
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return model, folder


def opened(folder: Path, tmp_path: Path) -> TransformersBackend:
    files = resolve(str(folder), Workspace.at(tmp_path / "home"))
    return TransformersBackend(*load(files), rows=4)


def score_one(folder: Path, tmp_path: Path) -> None:
    list(opened(folder, tmp_path).logprobs([LogprobRequest("a", (1, 2), (3,))]))


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in families()],
)
def test_a_family_answers_as_the_model_itself_or_is_refused(name: str, tmp_path: Path) -> None:
    if name in UNBUILT:
        pytest.skip(UNBUILT[name])
    model, folder = saved(name, tmp_path / "model")
    if name in REFUSED:
        with pytest.raises(UserError, match=_SAID):
            score_one(folder, tmp_path)
        return
    backend = opened(folder, tmp_path)
    reads_as_the_model(backend, model)
    writes_as_the_model(backend, model)
    chance_is_the_seeds_alone(backend)


def reads_as_the_model(backend: TransformersBackend, model: Any) -> None:
    texts = {str(i): p for i, p in enumerate(prompts())}
    asked = [LogprobRequest(i, tuple(p[:-4]), tuple(p[-4:])) for i, p in texts.items()]
    for result in backend.logprobs(asked):
        text = texts[result.request_id]
        table = logits_of(model, text).log_softmax(-1)
        wanted = [table[len(text) - 5 + k, text[k - 4]].item() for k in range(4)]
        assert result.error is None
        assert result.logprobs == pytest.approx(wanted, abs=2e-3)


def writes_as_the_model(backend: TransformersBackend, model: Any) -> None:
    asked = [GenerationRequest(str(i), tuple(p), (i,)) for i, p in enumerate(prompts())]
    ends = tuple(model.generation_config.eos_token_id)
    for answer in backend.generate(asked, GenerationSettings(max_new_tokens=10)):
        prompt = prompts()[int(answer.request_id)]
        assert answer.error is None
        assert list(answer.token_ids) == greedy(model, prompt, 10, ends)


def chance_is_the_seeds_alone(backend: TransformersBackend) -> None:
    settings = GenerationSettings(max_new_tokens=6, temperature=1.0)
    asked = [
        GenerationRequest(str(i), tuple(p), (2 * i, 2 * i + 1)) for i, p in enumerate(prompts())
    ]
    together = {(a.request_id, a.position): a.token_ids for a in backend.generate(asked, settings)}
    for i in (0, 3):
        alone = GenerationRequest("q", asked[i].prompt_ids, (2 * i,))
        (answer,) = backend.generate([alone], settings)
        assert answer.token_ids == together[str(i), 0]


def test_weights_that_are_missing_are_never_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    _, folder = saved("llama", tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 of the model's tensors: .*up_proj"):
        load(resolve(str(folder), Workspace.at(tmp_path / "home")))


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match="has an encoder"):
        load(resolve(str(tmp_path / "model"), Workspace.at(tmp_path / "home")))


def test_a_memory_that_fails_its_trial_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    """A model that forgets what is given back to it is read again for each token, as is said."""
    model = tiny_family("llama")
    model.generation_config.eos_token_id = None
    decoder = model.get_decoder()
    inner = decoder.forward

    def forgetful(input_ids: torch.Tensor, **arguments: Any) -> Any:
        return inner(input_ids, use_cache=False)

    decoder.forward = forgetful
    backend = TransformersBackend(model, tokenizer(), rows=4)
    asked = [GenerationRequest(str(i), tuple(p), (i,)) for i, p in enumerate(prompts())]
    for _ in range(2):
        for answer in backend.generate(asked, GenerationSettings(max_new_tokens=5)):
            prompt = prompts()[int(answer.request_id)]
            assert list(answer.token_ids) == greedy(model, prompt, 5, (VOCABULARY - 3,))
    assert [record.message for record in caplog.records].count(caplog.records[-1].message) == 1
    assert "LlamaForCausalLM keeps no state" in caplog.text
