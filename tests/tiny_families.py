"""Tiny random models of any family that the installed transformers has, text and image-text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

VOCABULARY = 320

# What configs call their sizes; each is given what it knows. Windows and chunks are far narrower
# than the texts that are read, so that every kind of layer does what it is for.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 256, "eos_token_id": VOCABULARY - 3, "bos_token_id": VOCABULARY - 2,
    "pad_token_id": VOCABULARY - 1, "sliding_window": 16, "attention_chunk_size": 16,
    "moe_intermediate_size": 32, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "shared_expert_intermediate_size": 32, "kv_lora_rank": 16,
    "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16,
    "n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 256, "d_model": 64, "n_layers": 4,
    "n_heads": 4, "ffn_dim": 96, "word_embed_proj_dim": 64, "linear_num_value_heads": 4,
    "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_num_heads": 4, "linear_head_dim": 16,
    "mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8,
    "mamba_n_groups": 1, "mamba_chunk_size": 8, "mamba_expand": 1, "state_size": 8, "num_heads": 8,
    "chunk_size": 8, "n_groups": 1, "query_pre_attn_scalar": 16, "image_size": 32, "patch_size": 8,
    "depth": 2, "num_layers": 2, "decoder_layers": 2, "encoder_layers": 2,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96, "index_topk": 8, "index_n_heads": 2, "index_head_dim": 16,
}  # fmt: skip
_LATENT = {"head_dim": 8, "num_key_value_heads": 4}
_MIXED = ["linear_attention", "full_attention"] * 2
_TURNED = {
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
}
_ROPE = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32}

_PADS_EARLY = (
    "camembert", "data2vec-text", "prophetnet", "roberta", "roberta-prelayernorm", "xglm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
_TURNS_APART = (
    "qwen2_5_vl_text", "qwen2_vl_text", "qwen2_5_omni_text", "paddleocr_vl_text", "glm4v_text",
    "glm_ocr_text", "glmga_text",
)  # fmt: skip

OWN: dict[str, dict[str, Any]] = {
    "axk1": _LATENT, "axk2": _LATENT, "deepseek_v3": _LATENT, "deepseek_v32": _LATENT,
    "glm4_moe_lite": _LATENT, "glm_moe_dsa": _LATENT, "longcat_flash": _LATENT,
    "bamba": {"attn_layer_indices": [1, 3]},
    **{name: {"pad_token_id": 1} for name in _PADS_EARLY},
    **dict.fromkeys(_TURNS_APART, _TURNED),
    "mistral_large4_text": _LATENT, "youtu": _LATENT,
    "codegen": {"rotary_dim": 8}, "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 16},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False,
        "mamba_expand": 2,
    },
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"expand": 1, "head_dim": 8},
    "phi3": {
        "rope_parameters": {
            **_ROPE, "short_factor": [1.0] * 8, "long_factor": [1.0 + n for n in range(8)],
        },
    },
    "qwen3_next": {"layer_types": _MIXED}, "qwen3_5_text": {"layer_types": _MIXED},
}  # fmt: skip
"""What a family is given beyond the common sizes."""


def families() -> list[str]:
    """Every kind of model that transformers lists as a causal or an image-text language model."""
    from transformers.models.auto import modeling_auto as auto

    causal = list(auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    return list(dict.fromkeys([*causal, *auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES]))


def tiny_family(name: str, *, whole: bool = False, **said: Any) -> Any:
    """A random fp32 model of that kind, in eval mode, with `said` over the common sizes; with
    `whole` all of one of images and text, where transformers has a class for its language model
    too. Weights are drawn wide, so that its answers vary; raises whatever transformers raises where
    the common sizes don't suit the family.
    """
    import torch
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
    )
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[name]
    sizes = {**_sizes(kind), **OWN.get(name, {})}
    text = sizes.get("text_config", sizes)
    text.update(said)
    if "layer_types" in text:
        layers = text.get("num_hidden_layers", 4)
        text["layer_types"] = (text["layer_types"] * layers)[:layers]
    config = kind(**sizes)
    automatic: Any = AutoModelForCausalLM
    if whole or kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        automatic = AutoModelForImageTextToText
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = automatic.from_config(config, dtype=torch.float32)
        for weight in model.parameters():
            if weight.dim() >= 2:
                weight.normal_(0, 0.08)
        for part in model.modules():
            # As it is in trained models: loading one may set it to zero again.
            if isinstance(part, torch.nn.Embedding) and part.padding_idx is not None:
                part.weight[part.padding_idx] = 0
    return model.eval()


def save_family(name: str, folder: Path, **said: Any) -> Path:
    """As a user's folder: the model, and a tokenizer whose tokens it has embeddings for."""
    from tests.tiny import tiny_tokenizer

    tiny_family(name, **said).save_pretrained(folder)
    tiny_tokenizer(VOCABULARY).save_pretrained(folder)
    return folder


def _sizes(kind: Any) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    plain = kind()
    known = {*vars(plain), *getattr(plain, "attribute_map", {}), *dir(kind)}
    fixed = {key for key in known if isinstance(getattr(kind, key, None), property)}
    settings = {key: value for key, value in _SIZES.items() if key in known - fixed}
    for key in getattr(kind, "sub_configs", None) or {}:
        part = getattr(plain, key, None)
        if isinstance(part, PreTrainedConfig):
            settings[key] = {**_sizes(type(part)), **OWN.get(part.model_type, {})}
            settings[key]["model_type"] = part.model_type
    layers = vars(plain).get("layer_types")
    if layers:
        each = list(dict.fromkeys(layers))
        settings["layer_types"] = (each * 4)[: settings.get("num_hidden_layers", 4)]
    return settings
