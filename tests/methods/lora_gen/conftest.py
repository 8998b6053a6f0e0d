"""Tiny models with random weights in double precision, and batches for them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from parbench.methods.lora_gen import LoraGen, LoraGenConfig

VOCABULARY = 40
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def make_llama(width: int = 16, layers: int = 2) -> PreTrainedModel:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=width,
            intermediate_size=width + 8,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            **SPECIAL,
        )
    )


def make_gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_inner=24,
            n_layer=2,
            n_head=4,
            n_positions=32,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **SPECIAL,
        )
    )


def make_opt() -> PreTrainedModel:
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            word_embed_proj_dim=12,
            ffn_dim=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=32,
            dropout=0.0,
            **SPECIAL,
        )
    )


MAKERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": make_llama,
    "gpt2": make_gpt2,
    "opt": make_opt,
    # Wider and deeper than the edges.
    "cloud": lambda: make_llama(24, 3),
}


@cache
def _template(name: str) -> PreTrainedModel:
    # The numbers that follow must not depend on whether a test is the first to ask for this model.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = MAKERS[name]().double().eval()
        for parameter in model.parameters():
            # At the usual scale the logits of so small a model are nearly equal.
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_model() -> Callable[[str], PreTrainedModel]:
    """Return ``make_model(name)``: a new copy with the same weights every time, in evaluation mode."""
    return lambda name: copy.deepcopy(_template(name))


@pytest.fixture
def build(make_model: Callable[[str], PreTrainedModel]) -> Callable[..., LoraGen]:
    """Return ``build(edge, cloud, started, **options)``: a LoraGen in double precision and evaluation mode."""

    def make(edge: str = "llama", cloud: str = "cloud", started: bool = False, **options: object) -> LoraGen:
        config = LoraGenConfig(**{"experts": 4, "r": 3, "lora_alpha": 6, "router_hidden": 8, "cloud_r": 2} | options)
        model = LoraGen(make_model(cloud), make_model(edge), config).double()
        return (start(model) if started else model).eval()

    return make


def start(model: LoraGen) -> LoraGen:
    """Move everything that is trained away from its start, as training does."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def prompts() -> tuple[Tensor, Tensor]:
    """Three system prompts of different lengths; ids and mask, padded in front and behind."""
    ids = torch.randint(1, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    mask[1, -2:] = 0
    return ids, mask


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(1, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(3))
