"""A tiny classifier of every decoder family that the installed transformers has one for."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCABULARY = 40
# By every name that an architecture may have for a size.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 32,
    "ffn_dim": 32,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 32,
}
_EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
_LATENT = {
    "head_dim": None,
    "num_key_value_heads": 4,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
}
# A layer with a recurrent state before one with attention; in Zamba two of each, whose attention is the same.
_STATE_THEN_ATTENTION = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_ZAMBA = {
    "num_hidden_layers": 4,
    "num_key_value_heads": 4,
    "layers_block_type": ["linear_attention", "hybrid"] * 2,
    "mamba_d_state": 4,
    "n_mamba_heads": 2,
}


def decoder_families() -> list[str]:
    """Return the model types with a sequence classifier whose text is read from left to right.

    Encoders are left out: models that fill in masks, and those that have no causal language model. So are models of an
    encoder and a decoder.
    """
    classifiers = transformers.AutoModelForSequenceClassification._model_mapping
    causal = transformers.AutoModelForCausalLM._model_mapping
    masked = transformers.AutoModelForMaskedLM._model_mapping
    return [
        kind
        for kind, config in CONFIG_MAPPING.items()
        if config in classifiers
        and config not in masked
        # Not every decoder is among the causal language models of the auto class.
        and (config in causal or issubclass(classifiers[config], GenericForSequenceClassification))
        and not config().is_encoder_decoder
    ]


# Other sizes of single families.
_OWN: dict[str, dict[str, Any]] = {
    "falcon": {"head_dim": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "minicpm3": _LATENT,
    "mistral4": _LATENT,
    "axk1": _LATENT,
    "axk2": {**_LATENT, "head_dim": 4, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 64},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 4,
        "mamba_dt_rank": 4,
    },
    "jetmoe": {"num_attention_heads": None, "kv_channels": 8, "num_local_experts": 4},
    "qwen3_next": {**_EXPERTS, **_STATE_THEN_ATTENTION},
    "qwen3_5_text": _STATE_THEN_ATTENTION,
    "zamba": _ZAMBA,
    "zamba2": {**_ZAMBA, "head_dim": None, "n_mamba_heads": 4, "use_shared_attention_adapter": True, "adapter_rank": 4},
}


def tiny_config(kind: str, **changes: Any) -> PreTrainedConfig:
    """Return a small configuration of a family."""
    full = AutoConfig.for_model(kind)
    known = {name: value for name, value in _SIZES.items() if hasattr(full, name)}
    sizes = {**known, **_OWN.get(kind, {}), **changes}
    return AutoConfig.for_model(kind, **{name: value for name, value in sizes.items() if value is not None})
