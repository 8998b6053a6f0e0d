"""The shapes of well-known base models: enough to count parameters and to measure cost without a download.

Each is the configuration that the model's own authors publish; what is not given is transformers' default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Shape:
    """An architecture and its sizes.

    Attributes:
        model_type: transformers' name of the architecture.
        auto_class: the head that the model has by itself: what it is used for where no task says otherwise.
        sizes: what differs from the architecture's defaults.
    """

    model_type: str
    auto_class: str
    sizes: dict[str, Any] = field(hash=False)

    def config(self, **changes: Any) -> PreTrainedConfig:
        """Return the configuration, with ``changes`` such as ``num_labels``."""
        from transformers import AutoConfig

        return AutoConfig.for_model(self.model_type, **{**self.sizes, **changes})


_CLASSIFIER, _CAUSAL = "AutoModelForSequenceClassification", "AutoModelForCausalLM"
_IMAGES = "AutoModelForImageClassification"

_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

ROBERTA_BASE = Shape("roberta", _CLASSIFIER, _ROBERTA)
ROBERTA_LARGE = Shape("roberta", _CLASSIFIER, {**_ROBERTA, **_LARGE})
GPT2_MEDIUM = Shape("gpt2", _CAUSAL, {"n_embd": 1024, "n_layer": 24, "n_head": 16})
GPT2_LARGE = Shape("gpt2", _CAUSAL, {"n_embd": 1280, "n_layer": 36, "n_head": 20})
VIT_BASE = Shape("vit", _IMAGES, {})
VIT_LARGE = Shape("vit", _IMAGES, _LARGE)
LLAMA_7B = Shape(
    "llama",
    _CAUSAL,
    {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
)
LLAMA_3_2_3B = Shape(
    "llama",
    _CAUSAL,
    {
        "vocab_size": 128256,
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "tie_word_embeddings": True,
    },
)
