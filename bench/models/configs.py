"""The shapes of well-known base models: enough to count parameters and to measure cost without a download.

Each is the configuration that the model's authors publish; what is left out is transformers' default.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from parbench.bench.models.kind import CAUSAL, CLASSIFIER, IMAGES, VIDEOS


@dataclass(frozen=True)
class Shape:
    """An architecture and its sizes.

    Attributes:
        model_type: transformers' name of the architecture.
        auto_class: auto class of the head that the model was saved with.
        sizes: values that differ from the architecture's defaults.
    """

    model_type: str
    auto_class: str
    sizes: dict[str, Any] = field(hash=False)

    def config(self, **changes: Any) -> PreTrainedConfig:
        """Return the configuration, with ``changes`` such as ``num_labels``."""
        return AutoConfig.for_model(self.model_type, **{**self.sizes, **changes})


MINILM_L6 = Shape(
    "bert",
    CLASSIFIER,
    {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
)

_ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-5}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}

ROBERTA_BASE = Shape("roberta", CLASSIFIER, _ROBERTA)
ROBERTA_LARGE = Shape("roberta", CLASSIFIER, {**_ROBERTA, **_LARGE})
GPT2_MEDIUM = Shape("gpt2", CAUSAL, {"n_embd": 1024, "n_layer": 24, "n_head": 16})
GPT2_LARGE = Shape("gpt2", CAUSAL, {"n_embd": 1280, "n_layer": 36, "n_head": 20})
VIT_BASE = Shape("vit", IMAGES, {})
VIT_LARGE = Shape("vit", IMAGES, _LARGE)
SWIN3D_T = Shape("video_swin", VIDEOS, {})
SWIN3D_S = Shape("video_swin", VIDEOS, {"depths": (2, 2, 18, 2)})
SWIN3D_B = Shape("video_swin", VIDEOS, {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)})
LLAMA_7B = Shape(
    "llama",
    CAUSAL,
    {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
)
LLAMA_3_2_3B = Shape(
    "llama",
    CAUSAL,
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
