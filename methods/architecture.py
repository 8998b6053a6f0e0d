"""How transformers' architectures call the modules that methods adapt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.methods.parts import PARTS, Parts, modules_in

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class ModuleNames:
    """Leaf names of the modules of one architecture.

    Attributes:
        query: projection of the queries; the fused projection where there is one for all three. Of a model that
            compresses queries, keys and values (multi-head latent attention), what makes them of the compressed ones.
        key: projection of the keys.
        value: projection of the values.
        output: projection of the attention's output.
        head: the task head: newly initialised, always trained, never counted in a budget. Layers that a checkpoint
            lacks, such as a pooler, are part of it (see `add_to_head`). Of a model that sees images, the connector.
        parts: the parts of a model that sees images and writes text; the projections are its language model's.
        placed: the language model's query and value projections by names that no other part has.
    """

    query: str
    key: str
    value: str
    output: str
    head: tuple[str, ...]
    parts: Parts | None = None
    placed: tuple[str, ...] = ()

    @property
    def query_value(self) -> tuple[str, ...]:
        """What the papers of LoRA, FourierFT, VeRA and LoCA adapt on GLUE."""
        return self.placed or tuple(dict.fromkeys((self.query, self.value)))

    @property
    def latent(self) -> bool:
        """Whether keys and values come of one compressed input and queries of another: multi-head latent attention."""
        return self.key == self.value != self.query

    def in_head(self, parameter_name: str) -> bool:
        """Return whether a parameter belongs to the task head, inside or outside a peft wrapper."""
        return not set(self.head).isdisjoint(parameter_name.split("."))


def module_names(model: PreTrainedModel) -> ModuleNames:
    """Return the module names of ``model``; ``head`` names only what it has (a causal language model has none).

    Raises:
        UserError: the architecture is not described here.
    """
    kind = adapted_kind(model.config)
    if kind not in MODULE_NAMES:
        raise UserError(f'the architecture "{kind}" cannot be adapted: {why_not_described(kind)}')
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    names = MODULE_NAMES[kind]
    if parts := PARTS.get(model.config.model_type):
        placed = modules_in(model, parts.language_model, (names.query, names.value))
        head = (parts.connector, *getattr(model, _ADDED, ()))
        return replace(names, head=head, parts=parts, placed=placed)
    if names.query in _UNCOMPRESSED and names.query not in present:
        names = replace(names, query=_UNCOMPRESSED[names.query])
    own = (name for name in names.head if name in present)
    return replace(names, head=tuple(dict.fromkeys((*own, *getattr(model, _ADDED, ())))))


def adapted_kind(config: PreTrainedConfig) -> str:
    """Return the architecture of what is adapted: of a model with parts, that of its language model."""
    kind = str(config.model_type)
    return kind if kind in MODULE_NAMES or kind not in PARTS else str(config.get_text_config().model_type)


def why_not_described(kind: str) -> str:
    """Return why an architecture that is not among `MODULE_NAMES` cannot be adapted, and what to do."""
    known = f"or use one of {', '.join(sorted(MODULE_NAMES))}"
    return _UNSUITED.get(
        kind, f"its modules are not described in methods/architecture.py; describe them there, {known}"
    )


def shared_weights(model: nn.Module) -> list[tuple[str, ...]]:
    """Return the names of the modules that have one weight in common, by weight.

    An adapter per module is trained and saved well there, but a change of the weight changes all of them.
    """
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None:
            owners.setdefault(id(weight), []).append(name)
    return [tuple(names) for names in owners.values() if len(names) > 1]


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
# Multi-head latent attention: keys and values come of one projection.
_LATENT = ModuleNames("q_b_proj", "kv_b_proj", "kv_b_proj", "o_proj", ("score",))
# The projection of the queries where a model of `_LATENT` does not compress them.
_UNCOMPRESSED = {"q_b_proj": "q_proj"}

# Keyed by `config.model_type`; the names are those of transformers 5.
MODULE_NAMES: dict[str, ModuleNames] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta", "electra"), _BERT_LIKE),
    "deberta-v2": ModuleNames("query_proj", "key_proj", "value_proj", "attention.output.dense", ("classifier",)),
    "distilbert": ModuleNames("q_lin", "k_lin", "v_lin", "out_lin", ("pre_classifier", "classifier")),
    "mpnet": ModuleNames("q", "k", "v", "attn.o", ("classifier",)),
    **dict.fromkeys(("vit", "dinov2", "vivit"), _VIT_LIKE),
    "videomae": _BERT_LIKE,
    # Its attention over time has such projections as well, of which the output's has a longer name.
    "timesformer": ModuleNames("qkv", "qkv", "qkv", "attention.output.dense", ("classifier",)),
    "video_swin": ModuleNames("attn.qkv", "attn.qkv", "attn.qkv", "attn.proj", ("head",)),
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
            *("qwen2_vl_text", "qwen2_5_vl_text"),
            *("gemma3_text", "olmo", "olmo2", "olmo3", "glm", "glm4", "smollm3", "stablelm", "starcoder2", "nemotron"),
            *("helium", "exaone4", "seed_oss", "arcee", "diffllama", "doge", "gpt_oss", "hunyuan_v1_dense"),
            *("hunyuan_v1_moe", "phimoe", "qwen2_moe", "qwen3_moe", "cohere_compass_text"),
            # Hybrids: these are the names of their attention layers; those with a recurrent state have others.
            *("jamba", "minimax", "qwen3_5_text", "qwen3_next", "zamba", "zamba2"),
        ),
        _LLAMA_LIKE,
    ),
    **dict.fromkeys(("axk1", "deepseek_v2", "deepseek_v3", "minicpm3", "mistral4"), _LATENT),
    # Queries and the gate of the output come of one projection.
    "axk2": replace(_LATENT, query="q_gate_proj"),
    # Of BART, its language model.
    **dict.fromkeys(
        ("vl_bart", "vl_bart_video"), ModuleNames("q_proj", "k_proj", "v_proj", "out_proj", ("visual_embedding",))
    ),
    # Its queries and outputs are projected by experts, which are no linear layers.
    "jetmoe": ModuleNames("kv_proj", "kv_proj", "kv_proj", "experts.output_linear", ("score",)),
}

# Architectures of which the names of modules would not be enough: why, and what to do.
_UNSUITED: dict[str, str] = {
    "xlnet": "its attention has no linear layers that an adapter could be put on; use another model",
    **{
        kind: "it reads images as well as text, and an adapter would be put on both parts; give its language model "
        f'alone (architecture "{alone}")'
        for kind, alone in (("gemma3", "gemma3_text"), ("qwen3_5", "qwen3_5_text"))
    },
}
