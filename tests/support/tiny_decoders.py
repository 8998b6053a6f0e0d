"""A tiny classifier of every decoder family that the installed transformers has one for."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig
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


def decoder_families() -> list[str]:
    """Return the model types with a causal language model and a sequence classifier, encoders left out."""
    causal = transformers.AutoModelForCausalLM._model_mapping
    classifier = transformers.AutoModelForSequenceClassification._model_mapping
    masked = transformers.AutoModelForMaskedLM._model_mapping
    return [
        kind
        for kind, config in CONFIG_MAPPING.items()
        if config in causal and config in classifier and config not in masked
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
    "axk1": _LATENT,
    "axk2": {**_LATENT, "head_dim": 4, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 64},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}},
}

# Families whose classifier is not of the kind that pads one text beside another: why.
LEFT_OUT: dict[str, str] = {
    "bigbird_pegasus": "an encoder and a decoder",
    "plbart": "an encoder and a decoder",
    "gemma3": "reads images as well",
    "qwen3_5": "reads images as well",
    "xlnet": "pads on the left and takes the last token, whatever it is",
    **dict.fromkeys(("jamba", "zamba", "zamba2", "qwen3_next", "qwen3_5_text"), "keeps a recurrent state"),
}


def tiny_config(kind: str, **changes: Any) -> PreTrainedConfig:
    """Return a small configuration of a family."""
    full = AutoConfig.for_model(kind)
    known = {name: value for name, value in _SIZES.items() if hasattr(full, name)}
    sizes = {**known, **_OWN.get(kind, {}), **changes}
    return AutoConfig.for_model(kind, **{name: value for name, value in sizes.items() if value is not None})
