"""Tiny models with random weights, and what most tests do with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from parbench.methods.replora import RepLoraConfig

VOCABULARY = 40


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def make_bert() -> PreTrainedModel:
    """`nn.Linear`, query and value of 64 x 64, a classification head."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def make_gpt2() -> PreTrainedModel:
    """`Conv1D`, and query, key and value fused into one projection of 32 x 96."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=16,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def make_llama() -> PreTrainedModel:
    """Grouped-query attention: the query projection is 32 x 32, the value projection 32 x 16."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


MAKERS: dict[str, Callable[[], PreTrainedModel]] = {"bert": make_bert, "gpt2": make_gpt2, "llama": make_llama}


@pytest.fixture
def make_base() -> Callable[[str], PreTrainedModel]:
    """Return ``make_base(name)``: the same weights every time."""

    def make(name: str) -> PreTrainedModel:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return MAKERS[name]().eval()

    return make


@pytest.fixture
def adapt(make_base: Callable[[str], PreTrainedModel]) -> Callable[..., PeftModel]:
    """Return ``adapt(name, **options)``: a tiny model with RepLoRA."""

    def make(name: str, **options: object) -> PeftModel:
        task = "SEQ_CLS" if name == "bert" else "CAUSAL_LM"
        return get_peft_model(make_base(name), RepLoraConfig(task_type=task, **options))

    return make


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(0, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def logits(tokens: Tensor) -> Callable[[nn.Module], Tensor]:
    """Return ``logits(model)``: the model's outputs on fixed tokens, without dropout."""

    def compute(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return model.eval()(input_ids=tokens).logits

    return compute


@pytest.fixture
def backward(tokens: Tensor) -> Callable[[nn.Module], Tensor]:
    """Return ``backward(model)``: one backward pass; gives the loss."""

    def compute(model: nn.Module) -> Tensor:
        labels = tokens[:, 0] % 3 if "SequenceClassification" in type(model).__name__ else tokens
        loss = model(input_ids=tokens, labels=labels).loss
        loss.backward()
        return loss.detach()

    return compute


@pytest.fixture
def train(backward: Callable[[nn.Module], Tensor]) -> Callable[..., list[float]]:
    """Return ``train(model, steps=4)``: the losses of a few steps of Adam; the last gradients stay."""

    def run(model: nn.Module, steps: int = 4) -> list[float]:
        model.train()
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            losses.append(float(backward(model)))
            optimizer.step()
        return losses

    return run
