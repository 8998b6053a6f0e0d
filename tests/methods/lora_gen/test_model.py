"""Cloud, generator and edge together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from parbench.methods.lora_gen import LoraGen
from parbench.methods.lora_gen.edge import EdgeLinear

EDGES = ["llama", "gpt2", "opt"]
OPTIONS: list[dict[str, object]] = [
    {},
    {"mixing": "products"},
    {"routing": "gumbel"},
    {"routing": "direct"},
    {"meta_embedding": "distinct", "router_norm": "none"},
]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_starts_at_the_edge_model(
    build: Callable[..., LoraGen],
    make_model: Callable[[str], PreTrainedModel],
    prompts: tuple[Tensor, Tensor],
    tokens: Tensor,
    edge: str,
    options: dict[str, object],
) -> None:
    plain = make_model(edge)(input_ids=tokens, labels=tokens)
    model = build(edge, **options).train()
    output = model(*prompts, input_ids=tokens, labels=tokens)
    torch.testing.assert_close(output.logits, plain.logits, rtol=0, atol=0)
    torch.testing.assert_close(output.lm_loss, plain.loss)
    torch.testing.assert_close(output.loss, output.lm_loss + output.cv_loss)
    assert (output.cv_loss > 0) == (options.get("routing") != "direct")


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_batch_is_a_loop(
    build: Callable[..., LoraGen],
    prompts: tuple[Tensor, Tensor],
    tokens: Tensor,
    edge: str,
    options: dict[str, object],
) -> None:
    model = build(edge, started=True, **options)
    ids, mask = prompts
    together = model(ids, mask, input_ids=tokens)
    assert together.loss is None
    for s in range(3):
        alone = model(ids[s : s + 1], mask[s : s + 1], input_ids=tokens[s : s + 1]).logits[0]
        torch.testing.assert_close(together.logits[s], alone)
        # By the definition: a dense update of each weight.
        dense = model.release_edge() if s == 2 else None
        if dense is not None:
            torch.testing.assert_close(_with_dense_updates(model, dense, ids[s][mask[s].bool()], tokens[s]), alone)


def _with_dense_updates(model: LoraGen, edge: PreTrainedModel, prompt: Tensor, tokens: Tensor) -> Tensor:
    layers = model.assemble(prompt[None]).layers
    path = "model.decoder.layers" if edge.config.model_type == "opt" else "model.layers"
    path = "transformer.h" if edge.config.model_type == "gpt2" else path
    with torch.no_grad():
        for layer, factors in zip(edge.get_submodule(path), layers, strict=True):
            for name, each in factors.items():
                update = 2.0 * each.b[0] @ each.a[0]
                weight = layer.get_submodule(name).weight
                weight += update.T if edge.config.model_type == "gpt2" else update
    return edge(input_ids=tokens[None]).logits[0]


def test_prompts_matter_and_each_sample_has_its_own(
    build: Callable[..., LoraGen], prompts: tuple[Tensor, Tensor], tokens: Tensor
) -> None:
    model = build(started=True)
    same = tokens[:1].expand(3, -1)
    logits = model(*prompts, input_ids=same).logits
    assert not torch.allclose(logits[0], logits[1], atol=1e-3)
    one = model(prompts[0][2:], input_ids=same).logits
    torch.testing.assert_close(one, logits[2:].expand_as(one))


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_reach_all_that_is_trained_and_nothing_else(
    build: Callable[..., LoraGen],
    prompts: tuple[Tensor, Tensor],
    tokens: Tensor,
    edge: str,
    options: dict[str, object],
) -> None:
    model = build(edge, started=True, **options).train()
    model(*prompts, input_ids=tokens, labels=tokens).lm_loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    kinds = ("meta_embedding", "lora_", "generator.")
    assert all(any(kind in name for kind in kinds) for name in trained)
    assert not any(name.startswith("edge.") for name in trained)
    for name, parameter in model.named_parameters():
        if name not in trained:
            assert parameter.grad is None, name
        elif "f2.bias" in name and "router_norm" not in options:
            # BatchNorm takes the mean away, and with it this bias.
            assert parameter.grad.abs().max() < 1e-12, name
        else:
            assert parameter.grad.abs().sum() > 0, name


def test_no_language_gradient_reaches_the_router_at_the_start(
    build: Callable[..., LoraGen], prompts: tuple[Tensor, Tensor], tokens: Tensor
) -> None:
    model = build().train()
    model(*prompts, input_ids=tokens, labels=tokens).lm_loss.backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all("pools" in name and "lora_B" in name for name in moved)


@pytest.mark.parametrize("edge", EDGES)
def test_checkpointing_changes_no_gradient(
    build: Callable[..., LoraGen], prompts: tuple[Tensor, Tensor], tokens: Tensor, edge: str
) -> None:
    gradients = []
    for enabled in (False, True):
        torch.manual_seed(0)
        model = build(edge, started=True, lora_dropout=0.3, cloud_dropout=0.3).train()
        if enabled:
            model.gradient_checkpointing_enable()
        torch.manual_seed(1)
        # Two forward passes before the backward pass: each is recomputed with its own LoRAs.
        first = model(*prompts, input_ids=tokens, labels=tokens).loss
        second = model(prompts[0].flip(0), input_ids=tokens, labels=tokens).loss
        (first + 2 * second).backward(retain_graph=True)
        (first + second).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_checkpointing_of_the_edge_alone_is_refused(
    build: Callable[..., LoraGen], prompts: tuple[Tensor, Tensor], tokens: Tensor
) -> None:
    model = build()
    model.edge.activation_checkpointing_enable()
    with pytest.raises(ValueError, match=r"call gradient_checkpointing_enable\(\) of the LoraGen"):
        model(*prompts, input_ids=tokens)
    model.gradient_checkpointing_enable()
    model(*prompts, input_ids=tokens)


def test_edge_is_untouched_outside_a_forward_pass_and_after_release(
    build: Callable[..., LoraGen], make_model: Callable[[str], PreTrainedModel], prompts: tuple[Tensor, Tensor],
    tokens: Tensor,
) -> None:  # fmt: skip
    plain = make_model("gpt2")
    model = build("gpt2", started=True)
    expected = plain(input_ids=tokens).logits
    generated = model.assemble(*prompts)
    with model.using(generated):
        inside = model.edge(input_ids=tokens).logits
    torch.testing.assert_close(inside, model(*prompts, input_ids=tokens).logits)
    assert not torch.allclose(inside, expected, atol=1e-3)
    torch.testing.assert_close(model.edge(input_ids=tokens).logits, expected, rtol=0, atol=0)
    released = model.release_edge()
    assert not any(isinstance(module, EdgeLinear) for module in released.modules())
    torch.testing.assert_close(released.state_dict(), plain.state_dict(), rtol=0, atol=0)
    with pytest.raises(ValueError, match="was released"):
        model(*prompts, input_ids=tokens)


def test_generating_text_with_the_lora_of_one_prompt(build: Callable[..., LoraGen], tokens: Tensor) -> None:
    model = build(started=True)
    prompt = torch.tensor([[3, 4, 5]])
    with model.using(model.assemble(prompt)):
        text = model.edge.generate(tokens, max_new_tokens=4, do_sample=False)
    greedy = tokens
    for _ in range(4):
        following = model(prompt, input_ids=greedy).logits[:, -1].argmax(dim=1)
        greedy = torch.cat([greedy, following[:, None]], dim=1)
    assert text[:, 7:].tolist() == greedy[:, 7 : text.shape[1]].tolist()


@pytest.mark.parametrize("edge", EDGES)
def test_beams_have_the_lora_of_their_sample(
    build: Callable[..., LoraGen], prompts: tuple[Tensor, Tensor], tokens: Tensor, edge: str
) -> None:
    model = build(edge, started=True)
    search = {"max_new_tokens": 3, "min_new_tokens": 3, "num_beams": 2, "do_sample": False}
    with model.using(model.assemble(*prompts)):
        together = model.edge.generate(tokens, **search)
    for s in range(3):
        with model.using(model.assemble(prompts[0][s : s + 1], prompts[1][s : s + 1])):
            assert model.edge.generate(tokens[s : s + 1], **search).tolist() == together[s : s + 1].tolist()


def test_what_cannot_serve_is_refused(
    build: Callable[..., LoraGen], make_model: Callable[[str], PreTrainedModel], tokens: Tensor
) -> None:
    both = make_model("llama")
    with pytest.raises(ValueError, match="load the model twice"):
        LoraGen(both, both)
    model = build()
    with pytest.raises(ValueError, match="2 system prompts for 3 samples"):
        model(tokens[:2], input_ids=tokens)
    with pytest.raises(ValueError, match="part of a LoraGen already"):
        LoraGen(make_model("cloud"), model.edge)
    with pytest.raises(ValueError, match=r"no decoder layers that all hold mlp.fc9; name"):
        build(projections=("mlp.fc9",))
    with pytest.raises(ValueError, match="is a SiLU"):
        build(projections=("mlp.act_fn",))
    with pytest.raises(ValueError, match="AutoModelForCausalLM"):
        LoraGen(AutoModel.from_config(both.config), both)
    assert not any(isinstance(module, EdgeLinear) for module in both.modules())


def test_named_projections_only(build: Callable[..., LoraGen]) -> None:
    model = build(projections=("self_attn.o_proj", "mlp.up_proj"))
    wrapped = [name for name, module in model.edge.named_modules() if isinstance(module, EdgeLinear)]
    assert wrapped == [f"model.layers.{i}.{name}" for i in range(2) for name in ("self_attn.o_proj", "mlp.up_proj")]
