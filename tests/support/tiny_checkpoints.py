"""Model folders whose checkpoints do, or do not, fit their configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, DebertaV2Config, GPT2Config, LlamaConfig, PreTrainedModel, ViTConfig

SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 30}
BERT = BertConfig(**SMALL, intermediate_size=16)
DEBERTA = DebertaV2Config(**SMALL, intermediate_size=16, pooler_hidden_size=16)
GPT2 = GPT2Config(**SMALL, bos_token_id=29, eos_token_id=29)
LLAMA = LlamaConfig(**SMALL, intermediate_size=16)
VIT = ViTConfig(**{**SMALL, "vocab_size": None}, intermediate_size=16, image_size=8, patch_size=4)


def saved(folder: Path, model: PreTrainedModel, renamed: Callable[[str], str | None] = lambda name: name) -> str:
    """Save a model with its tensors renamed, those of no name left out; return the folder."""
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    kept = {new: tensor for old, tensor in load_file(file).items() if (new := renamed(old)) is not None}
    save_file(kept, file, metadata={"format": "pt"})
    return str(folder)


def saved_as_bin(
    folder: Path, model: PreTrainedModel, renamed: Callable[[str], str | None] = lambda name: name, shards: int = 1
) -> str:
    """The same in PyTorch's own format, in one file or several."""
    saved(folder, model, renamed)
    tensors = list(load_file(folder / "model.safetensors").items())
    (folder / "model.safetensors").unlink()
    if shards == 1:
        torch.save(dict(tensors), folder / "pytorch_model.bin")
        return str(folder)
    names = [f"pytorch_model-{number + 1:05}-of-{shards:05}.bin" for number in range(shards)]
    for number, name in enumerate(names):
        torch.save(dict(tensors[number::shards]), folder / name)
    places = {name: names[number % shards] for number, (name, _) in enumerate(tensors)}
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return str(folder)


def seeded(make: Callable[[], PreTrainedModel], seed: int = 0) -> PreTrainedModel:
    """Return a model drawn from a seed."""
    torch.manual_seed(seed)
    return make()
