"""How transformers' architectures call the modules that methods adapt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ModuleNames:
    """Leaf names of the modules of one architecture.

    Attributes:
        query: projection of the queries; the fused projection where there is one for all three.
        key: projection of the keys.
        value: projection of the values.
        output: projection of the attention's output.
        head: the task head: newly initialised, always trained, never counted in a budget. Layers that a checkpoint
            lacks, such as a pooler, are part of it (see `add_to_head`).
    """

    query: str
    key: str
    value: str
    output: str
    head: tuple[str, ...]

    @property
    def query_value(self) -> tuple[str, ...]:
        """What the papers of LoRA, FourierFT, VeRA and LoCA adapt on GLUE."""
        return tuple(dict.fromkeys((self.query, self.value)))

    def in_head(self, parameter_name: str) -> bool:
        """Return whether a parameter belongs to the task head, inside or outside a peft wrapper."""
        return not set(self.head).isdisjoint(parameter_name.split("."))


def module_names(model: PreTrainedModel) -> ModuleNames:
    """Return the module names of ``model``; ``head`` names only what it has (a causal language model has none).

    Raises:
        ValueError: the architecture is not described here.
    """
    kind = model.config.model_type
    if kind not in MODULE_NAMES:
        raise ValueError(
            f'the architecture "{kind}" is not described in methods/architecture.py; add its module names there'
        )
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    names = MODULE_NAMES[kind]
    own = (name for name in names.head if name in present)
    return replace(names, head=tuple(dict.fromkeys((*own, *getattr(model, _ADDED, ())))))


def add_to_head(model: PreTrainedModel, layers: Iterable[str]) -> None:
    """Make newly initialised layers part of the task head of ``model``, by their leaf names.

    A random layer between the backbone and the head must be trained with the head, or every method works on noise.
    """
    setattr(model, _ADDED, tuple(layers))


# Where a model keeps the names given to `add_to_head`.
_ADDED = "_layers_added_to_head"


_BERT_LIKE = ModuleNames("query", "key", "value", "attention.output.dense", ("classifier",))
_VIT_LIKE = ModuleNames("q_proj", "k_proj", "v_proj", "o_proj", ("classifier",))
_LLAMA_LIKE = ModuleNames("q_proj", "k_proj", "v_proj", "o_proj", ("score",))
_OPT_LIKE = ModuleNames("q_proj", "k_proj", "v_proj", "out_proj", ("score",))
_GPT2_LIKE = ModuleNames("c_attn", "c_attn", "c_attn", "attn.c_proj", ("score",))
_FUSED = ModuleNames("query_key_value", "query_key_value", "query_key_value", "dense", ("score",))

# Keyed by `config.model_type`; the names are those of transformers 5.
MODULE_NAMES: dict[str, ModuleNames] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), _BERT_LIKE),
    "deberta-v2": ModuleNames("query_proj", "key_proj", "value_proj", "attention.output.dense", ("classifier",)),
    "distilbert": ModuleNames("q_lin", "k_lin", "v_lin", "out_lin", ("pre_classifier", "classifier")),
    "mpnet": ModuleNames("q", "k", "v", "attn.o", ("classifier",)),
    **dict.fromkeys(("vit", "dinov2"), _VIT_LIKE),
    # timm's, inside transformers' wrapper: one projection for queries, keys and values.
    "timm_wrapper": ModuleNames("attn.qkv", "attn.qkv", "attn.qkv", "attn.proj", ("head",)),
    **dict.fromkeys(("gpt2", "gpt_bigcode", "openai-gpt"), _GPT2_LIKE),
    "ctrl": ModuleNames("Wq", "Wk", "Wv", "multi_head_attention.dense", ("classifier",)),
    "modernbert-decoder": ModuleNames("q_proj", "k_proj", "v_proj", "attn.Wo", ("head", "classifier")),
    **dict.fromkeys(("opt", "biogpt", "gpt_neo", "gptj"), _OPT_LIKE),
    **dict.fromkeys(("bloom", "falcon", "gpt_neox", "persimmon"), _FUSED),
    "mpt": ModuleNames("Wqkv", "Wqkv", "Wqkv", "out_proj", ("score",)),
    "phi": ModuleNames("q_proj", "k_proj", "v_proj", "self_attn.dense", ("score",)),
    "phi3": ModuleNames("qkv_proj", "qkv_proj", "qkv_proj", "o_proj", ("score",)),
    **dict.fromkeys(
        (
            *("llama", "mistral", "mixtral", "ministral", "ministral3", "qwen2", "qwen3", "gemma", "gemma2"),
            *("gemma3_text", "olmo", "olmo2", "olmo3", "glm", "glm4", "smollm3", "stablelm", "starcoder2", "nemotron"),
            *("helium", "exaone4", "seed_oss", "arcee", "diffllama", "doge", "gpt_oss", "hunyuan_v1_dense"),
            *("hunyuan_v1_moe", "phimoe", "qwen2_moe", "qwen3_moe"),
        ),
        _LLAMA_LIKE,
    ),
}
