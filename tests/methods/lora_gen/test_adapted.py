"""The form in which a harness trains and asks a `LoraGen`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from parbench.methods.lora_gen import LoraGen
from parbench.methods.lora_gen.adapted import AdaptedEdge


@pytest.fixture
def adapted(build: Callable[..., LoraGen]) -> AdaptedEdge:
    return AdaptedEdge(build(started=True)).eval()


def test_a_batch_brings_its_system_prompts(
    adapted: AdaptedEdge, prompts: tuple[Tensor, Tensor], tokens: Tensor
) -> None:
    ids, mask = prompts
    found = adapted(input_ids=tokens, system_prompt_ids=ids, system_prompt_mask=mask)
    expected = adapted.lora_gen(ids, mask, input_ids=tokens)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=0)
    torch.testing.assert_close(found.auxiliary_loss, expected.cv_loss, rtol=0, atol=0)
    assert found.auxiliary_loss > 0


def test_one_prompt_for_all_is_read_once(
    adapted: AdaptedEdge, prompts: tuple[Tensor, Tensor], tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = prompts[0][2]
    expected = adapted(input_ids=tokens, system_prompt_ids=prompt.expand(3, -1)).logits
    calls: list[int] = []
    inner = adapted.lora_gen.encoder.forward
    monkeypatch.setattr(adapted.lora_gen.encoder, "forward", lambda *args: calls.append(1) or inner(*args))
    with adapted.specialised(prompt.tolist(), "poet"):
        first, second = adapted(input_ids=tokens), adapted(input_ids=tokens[:2])
    assert len(calls) == 1
    torch.testing.assert_close(first.logits, expected)
    torch.testing.assert_close(second.logits, expected[:2])
    assert adapted.prompts == {"poet": prompt.tolist()}
    assert max(prompt.tolist()) < adapted.reader_config.get_text_config().vocab_size
    # Afterwards the system prompt is gone.
    assert not torch.allclose(adapted(input_ids=tokens).logits, expected)


def test_no_system_prompt_is_an_empty_one(adapted: AdaptedEdge, tokens: Tensor) -> None:
    with adapted.specialised([]):
        expected = adapted(input_ids=tokens).logits
    torch.testing.assert_close(adapted(input_ids=tokens).logits, expected)
    assert not adapted.prompts


def test_two_prompts_at_once_are_refused(adapted: AdaptedEdge, prompts: tuple[Tensor, Tensor], tokens: Tensor) -> None:
    with adapted.specialised([1]):
        with pytest.raises(ValueError, match="leave the system prompts of the batch out"):
            adapted(input_ids=tokens, system_prompt_ids=prompts[0])
        with pytest.raises(ValueError, match="has the LoRA of a system prompt already"), adapted.specialised([2]):
            pass
    # Neither has left anything behind.
    assert adapted(input_ids=tokens, system_prompt_ids=prompts[0]).auxiliary_loss is not None


def test_texts_are_generated_under_the_prompt(
    adapted: AdaptedEdge, make_model: Callable[[str], PreTrainedModel], tokens: Tensor
) -> None:
    decoding: dict[str, Any] = {"do_sample": False, "max_new_tokens": 5, "min_new_tokens": 5}
    adapter = adapted.lora_gen.generate([3, 4, 5])
    expected = adapter.merge(make_model("llama")).generate(input_ids=tokens, num_beams=2, **decoding)
    with adapted.specialised([3, 4, 5]):
        assert torch.equal(adapted.generate(input_ids=tokens, num_beams=2, **decoding), expected)
    plain = adapted.lora_gen.generate([]).merge(make_model("llama")).generate(input_ids=tokens, **decoding)
    assert torch.equal(adapted.generate(input_ids=tokens, **decoding), plain)


@pytest.mark.parametrize("edge", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("mixing", ["parameters", "products"])
def test_merging_keeps_the_outputs_and_the_weights(
    build: Callable[..., LoraGen], tokens: Tensor, edge: str, mixing: str
) -> None:
    adapted = AdaptedEdge(build(edge, started=True, mixing=mixing)).eval()
    untouched = {name: tensor.clone() for name, tensor in adapted.lora_gen.edge.named_parameters()}
    with adapted.specialised([3, 4]):
        expected = adapted(input_ids=tokens).logits
    adapted.merge_adapter([3, 4])
    torch.testing.assert_close(adapted(input_ids=tokens).logits, expected)
    with pytest.raises(ValueError, match="merged already; unmerge it first"):
        adapted.merge_adapter([3, 4])
    adapted.unmerge_adapter()
    for name, tensor in adapted.lora_gen.edge.named_parameters():
        assert torch.equal(tensor, untouched[name])
    plain = adapted.merge_and_unload([3, 4])
    torch.testing.assert_close(plain(input_ids=tokens).logits, expected)
    assert "EdgeLinear" not in {type(module).__name__ for module in plain.modules()}


def test_merging_leaves_a_cloud_of_the_same_weights_alone(
    make_model: Callable[[str], PreTrainedModel], tokens: Tensor
) -> None:
    edge = make_model("llama")
    cloud = copy.deepcopy(edge, {id(parameter): parameter for parameter in edge.parameters()})
    adapted = AdaptedEdge(LoraGen(cloud, edge).double()).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    before = adapted.lora_gen.read([1, 2])
    adapted.merge_adapter([1, 2])
    after = adapted.lora_gen.read([1, 2])
    for mine, theirs in zip(before.layers, after.layers, strict=True):
        for name, factors in mine.items():
            assert torch.equal(factors.a, theirs[name].a)


def test_several_prompts_cannot_be_merged(build: Callable[..., LoraGen], prompts: tuple[Tensor, Tensor]) -> None:
    model = build(started=True)
    with pytest.raises(ValueError, match="one system prompt can be merged, not of 3"):
        model.merge(model.assemble(*prompts))


def test_the_state_holds_what_is_trained_and_no_more(build: Callable[..., LoraGen], tokens: Tensor) -> None:
    adapted, other = AdaptedEdge(build(started=True)).eval(), AdaptedEdge(build()).eval()
    state = adapted.state_dict(prefix="module.")
    names = {name.removeprefix("module.") for name in state}
    assert names == adapted.lora_gen.trainable_state().keys()
    # No weight of either model: those of the cloud are thousands.
    assert sum(tensor.numel() for tensor in state.values()) < adapted.lora_gen.parameter_counts().trainable + 100
    found = other.load_state_dict(adapted.state_dict(), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == ([], [])
    torch.testing.assert_close(other(input_ids=tokens).logits, adapted(input_ids=tokens).logits, rtol=0, atol=0)
    with pytest.raises(ValueError, match="from other models or options"):
        other.load_state_dict({})


def test_checkpointing_is_passed_on(adapted: AdaptedEdge, prompts: tuple[Tensor, Tensor], tokens: Tensor) -> None:
    inputs: dict[str, Tensor] = {"input_ids": tokens, "system_prompt_ids": prompts[0]}

    def gradients() -> dict[str, Tensor]:
        adapted.zero_grad()
        adapted.train()
        torch.manual_seed(3)
        adapted(**inputs).logits.square().mean().backward()
        return {name: p.grad.clone() for name, p in adapted.named_parameters() if p.grad is not None}

    expected = gradients()
    for asked in ({"activation_checkpointing_kwargs": {"use_reentrant": True}}, {"every_n_layers": 2}):
        with pytest.raises(ValueError, match="of all layers; give use_reentrant=False and nothing else"):
            adapted.activation_checkpointing_enable(**asked)
    adapted.activation_checkpointing_enable({"use_reentrant": False})
    torch.testing.assert_close(gradients(), expected)
