"""Saving, loading, resuming and counting."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, PreTrainedModel

from parbench.methods.lora_gen import LoraGen, LoraGenConfig, LoraGenParameterCounts

LLAMA3_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
)


def step(model: LoraGen, prompts: tuple[Tensor, Tensor], tokens: Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = model.train()(*prompts, input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    return loss.item()


def adam(model: LoraGen) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.03)


@pytest.mark.parametrize("edge", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("options", [{}, {"mixing": "products"}, {"routing": "direct"}], ids=str)
def test_saved_and_loaded_is_the_same(
    build: Callable[..., LoraGen],
    make_model: Callable[[str], PreTrainedModel],
    prompts: tuple[Tensor, Tensor],
    tokens: Tensor,
    tmp_path: Path,
    edge: str,
    options: dict[str, object],
) -> None:
    model = build(edge, **options).float()
    step(model, prompts, tokens, adam(model))
    model.save_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"lora_gen_config.json", "lora_gen.safetensors"}
    saved = load_file(tmp_path / "lora_gen.safetensors")
    statistics = sum(tensor.numel() for name, tensor in saved.items() if "running_" in name or "num_batches" in name)
    assert sum(tensor.numel() for tensor in saved.values()) - statistics == model.parameter_counts().trainable

    loaded = LoraGen.from_pretrained(tmp_path, make_model("cloud").float(), make_model(edge).float())
    assert loaded.config == model.config
    assert not any(module.training for module in loaded.modules())
    torch.testing.assert_close(loaded.trainable_state(), model.trainable_state(), rtol=0, atol=0)
    torch.testing.assert_close(
        loaded(*prompts, input_ids=tokens).logits, model.eval()(*prompts, input_ids=tokens).logits, rtol=0, atol=0
    )


def test_resumed_training_is_the_same(
    build: Callable[..., LoraGen], prompts: tuple[Tensor, Tensor], tokens: Tensor
) -> None:
    model = build(routing="gumbel", lora_dropout=0.2)
    optimizer = adam(model)
    for _ in range(2):
        step(model, prompts, tokens, optimizer)
    state = {name: tensor.clone() for name, tensor in model.trainable_state().items()}
    moments, random = copy.deepcopy(optimizer.state_dict()), torch.get_rng_state()
    resumed = build(routing="gumbel", lora_dropout=0.2)
    resumed.load_trainable_state(state)
    second = adam(resumed)
    second.load_state_dict(moments)
    torch.set_rng_state(random)
    losses = [step(resumed, prompts, tokens, second) for _ in range(2)]
    torch.set_rng_state(random)
    assert losses == [step(model, prompts, tokens, optimizer) for _ in range(2)]


def test_weights_of_other_models_are_refused(
    build: Callable[..., LoraGen], make_model: Callable[[str], PreTrainedModel], tmp_path: Path
) -> None:
    model = build(started=True)
    before = {name: tensor.clone() for name, tensor in model.trainable_state().items()}
    for other in (build("gpt2"), build(cloud="gpt2"), build(r=4), build(router_norm="none")):
        with pytest.raises(ValueError, match=r"other models or options: .* is .* there and .* here"):
            model.load_trainable_state(other.trainable_state())
    torch.testing.assert_close(model.trainable_state(), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"has no lora_gen_config.json"):
        LoraGen.from_pretrained(tmp_path, make_model("cloud"), make_model("llama"))
    model.config.save(tmp_path)
    with pytest.raises(ValueError, match=r"has no lora_gen.safetensors"):
        LoraGen.from_pretrained(tmp_path, make_model("cloud"), make_model("llama"))


@pytest.mark.parametrize(
    ("layers", "width", "ffn", "heads", "pool", "delivered"),
    [
        (22, 2048, 5632, 32, 64.9, 8.1),  # TinyLLaMA-1.1B
        (28, 1536, 8960, 12, 112.9, 14.1),  # Qwen2.5-1.5B
        (26, 2304, 9216, 8, 115.0, 14.4),  # Gemma-2-2B
        (18, 2048, 16384, 8, 127.4, 15.9),  # Gemma-1-2B
    ],
)
def test_published_sizes(layers: int, width: int, ffn: int, heads: int, pool: float, delivered: float) -> None:
    edge_config = LlamaConfig(
        hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads
    )
    with torch.device("meta"):
        model = LoraGen(LlamaForCausalLM(LLAMA3_8B), LlamaForCausalLM(edge_config))
    h, n, d = model.config.router_hidden, 8, 4096
    counts = model.parameter_counts()
    assert counts == LoraGenParameterCounts(
        cloud_lora=32 * 16 * ((4096 + 4096) + (4096 + 1024)),
        meta_embedding=4096,
        routers=layers * (d * h + h + h * n + n + 2 * n),
        experts=n * layers * 3 * 16 * (width + ffn),
        delivered=layers * 3 * 16 * (width + ffn),
    )
    assert counts.cloud_lora / 1e6 == pytest.approx(6.8, abs=0.05)
    assert counts.experts / 1e6 == pytest.approx(pool, abs=0.05)
    assert counts.delivered / 1e6 == pytest.approx(delivered, abs=0.05)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert counts.trainable == trained


def test_sizes_of_the_options() -> None:
    opt = OPTConfig(hidden_size=2560, ffn_dim=10240, num_hidden_layers=32, num_attention_heads=32)

    def counts(**options: object) -> LoraGenParameterCounts:
        with torch.device("meta"):
            return LoraGen(
                LlamaForCausalLM(LLAMA3_8B), OPTForCausalLM(opt), LoraGenConfig(**options)
            ).parameter_counts()

    plain = counts()
    assert plain.experts == 8 * 32 * 2 * 16 * (2560 + 10240)
    assert counts(meta_embedding="distinct").meta_embedding == 32 * 4096
    assert counts(mixing="products").delivered == 2 * plain.delivered
    direct = counts(routing="direct")
    # The output layers' weights are as many as the pool's; biases and the first layer come on top.
    assert direct.experts == plain.experts + plain.delivered + 32 * (4096 * 8 + 8)
    assert (direct.routers, direct.delivered) == (0, plain.delivered)
