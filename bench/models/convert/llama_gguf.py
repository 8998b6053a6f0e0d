"""Converts a quantised Llama in a GGUF file to the transformers format, with float32 weights.

Configuration and tokenizer are read by transformers (``gguf_file=``). The weights are not, because transformers marks
such a model as quantised, so that it can be neither saved nor adapted like an ordinary one. Tensor names and the row
order of queries and keys follow llama.cpp's converter from transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.models.convert.weights import save_model

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFReader
    from transformers import LlamaConfig

_OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(source: Path, folder: Path) -> None:
    """Write a `LlamaForCausalLM` and its tokenizer into ``folder``.

    Raises:
        ValueError: the file is not a GGUF file, or its tokenizer is of an unsupported kind.
    """
    from gguf import GGUFReader
    from transformers import AutoConfig, GenerationConfig, LlamaForCausalLM

    reader = GGUFReader(source)
    config = AutoConfig.from_pretrained(source.parent, gguf_file=source.name)
    save_model(LlamaForCausalLM, config, dict(_tensors(reader, config)), folder)
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    _save_tokenizer(reader, source, config.max_position_embeddings, folder)


def _tensors(reader: GGUFReader, config: LlamaConfig) -> Iterator[tuple[str, np.ndarray]]:
    from gguf import dequantize

    query_heads = config.num_attention_heads
    heads = {"attn_q": query_heads, "attn_k": config.num_key_value_heads or query_heads}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name in _OUTSIDE:
            yield _OUTSIDE[tensor.name], values
        else:
            _, layer, kind, suffix = tensor.name.split(".")
            if kind in heads:
                values = _half_by_half(values, heads[kind])
            yield f"model.layers.{layer}.{_IN_BLOCK[kind]}.{suffix}", values


def _half_by_half(rows: np.ndarray, heads: int) -> np.ndarray:
    """Return the rows of a projection (heads * size, inputs) in transformers' order instead of llama.cpp's.

    Rotary embeddings rotate pairs of features. llama.cpp stores each pair in adjacent rows (0, 1), (2, 3), ...;
    transformers stores the first features of all pairs in the first half of a head and the second ones in the other.
    """
    by_pair = rows.reshape(heads, -1, 2, rows.shape[1])
    return by_pair.swapaxes(1, 2).reshape(rows.shape)


def _save_tokenizer(reader: GGUFReader, source: Path, max_length: int, folder: Path) -> None:
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    kind = _text(reader, "tokenizer.ggml.pre")
    if kind != "smollm":
        raise ValueError(f'the tokenizer is of the kind "{kind}", but only "smollm" is supported')
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, model_max_length=max_length)
    # transformers ignores the kind and splits text as GPT-2 does. In llama.cpp, "smollm" first splits off each digit
    # and then applies GPT-2's pattern to the rest; without it, a line break before a number becomes another token.
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(folder)


def _text(reader: GGUFReader, key: str) -> str:
    return str(reader.fields[key].contents())
