"""Tiny models without a download, adapted with LoCA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel

from parbench.methods.loca import LocaConfig


def bert() -> nn.Module:
    """A BERT classifier with dropout off, the same weights at every call."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        max_position_embeddings=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def gpt2() -> nn.Module:
    """A GPT-2 whose fused `c_attn` is a non-square `Conv1D` (64 in, 192 out)."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=100,
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_positions=32,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return GPT2LMHeadModel(config)


@pytest.fixture
def base_bert() -> Callable[[], nn.Module]:
    return bert


@pytest.fixture(params=["linear", "conv1d"])
def adapted(request: pytest.FixtureRequest) -> Callable[..., PeftModel]:
    """A builder of a model with LoCA on `Linear` or on `Conv1D`; keyword arguments go to `LocaConfig`."""

    def build(dtype: torch.dtype = torch.float32, **options: Any) -> PeftModel:
        options = {"n_frequency": 40, "init_weights": False, "location_seed": 1, **options}
        if request.param == "linear":
            options = {"target_modules": ["query", "value"], **options}
            return get_peft_model(bert().to(dtype), LocaConfig(**options)).eval()
        options = {"target_modules": ["c_attn"], "fan_in_fan_out": True, **options}
        return get_peft_model(gpt2().to(dtype), LocaConfig(**options)).eval()

    return build


@pytest.fixture
def adapted_bert() -> Callable[..., PeftModel]:
    """A builder of a BERT with LoCA on query and value; keyword arguments go to `LocaConfig`."""

    def build(**options: Any) -> PeftModel:
        options = {"n_frequency": 40, "location_seed": 1, "task_type": "SEQ_CLS", **options}
        return get_peft_model(bert(), LocaConfig(**options))

    return build


@pytest.fixture
def input_ids() -> torch.Tensor:
    return torch.randint(0, 100, (2, 8), generator=torch.Generator().manual_seed(7))
