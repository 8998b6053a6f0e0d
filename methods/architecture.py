"""How transformers' architectures call the modules that methods adapt."""

from __future__ import annotations

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
        head: the task head: newly initialised, always trained, never counted in a budget.
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
        """Tell whether a parameter belongs to the task head, inside or outside a peft wrapper."""
        return not set(self.head).isdisjoint(parameter_name.split("."))


def module_names(model: PreTrainedModel) -> ModuleNames:
    """Return how ``model`` calls its modules; ``head`` names only what it has (a causal language model has none).

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
    return replace(names, head=tuple(name for name in names.head if name in present))


_BERT_LIKE = ModuleNames("query", "key", "value", "attention.output.dense", ("classifier",))
_VIT_LIKE = ModuleNames("q_proj", "k_proj", "v_proj", "o_proj", ("classifier",))
_LLAMA_LIKE = ModuleNames("q_proj", "k_proj", "v_proj", "o_proj", ("score",))

# Keyed by `config.model_type`; the names are those of transformers 5.
MODULE_NAMES: dict[str, ModuleNames] = {
    "bert": _BERT_LIKE,
    "roberta": _BERT_LIKE,
    "xlm-roberta": _BERT_LIKE,
    "electra": _BERT_LIKE,
    "deberta-v2": ModuleNames("query_proj", "key_proj", "value_proj", "attention.output.dense", ("classifier",)),
    "distilbert": ModuleNames("q_lin", "k_lin", "v_lin", "out_lin", ("pre_classifier", "classifier")),
    "mpnet": ModuleNames("q", "k", "v", "attn.o", ("classifier",)),
    "vit": _VIT_LIKE,
    "dinov2": _VIT_LIKE,
    # timm's, inside transformers' wrapper: one projection for queries, keys and values.
    "timm_wrapper": ModuleNames("attn.qkv", "attn.qkv", "attn.qkv", "attn.proj", ("head",)),
    "gpt2": ModuleNames("c_attn", "c_attn", "c_attn", "attn.c_proj", ("score",)),
    "llama": _LLAMA_LIKE,
    "opt": ModuleNames("q_proj", "k_proj", "v_proj", "out_proj", ("score",)),
    "mistral": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
}
