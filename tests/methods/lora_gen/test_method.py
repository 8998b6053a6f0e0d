"""LoRA-Gen as a registered method."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from transformers import PreTrainedModel

from parbench.bench.util.errors import UserError
from parbench.methods import METHODS, find_method
from parbench.methods.architecture import module_names
from parbench.methods.lora_gen import LoraGen
from parbench.methods.lora_gen.adapted import AdaptedEdge
from parbench.methods.lora_gen.method import LORA_GEN, LoraGenSetting
from parbench.methods.testing import TINY_MODELS, check_method
from parbench.methods.testing.before_training import check_size
from parbench.methods.testing.subject import Subject

SMALL: dict[str, Any] = {"experts": 4, "r": 2, "alpha": 4.0, "router_hidden": 8, "cloud_r": 2}


def adapt(model: PreTrainedModel, **options: Any) -> AdaptedEdge:
    torch.manual_seed(5)
    return LORA_GEN.adapt(model, module_names(model), LoraGenSetting(**SMALL, **options)).eval()


def test_it_is_registered_as_the_paper_has_it() -> None:
    method = find_method("lora_gen(routing=gumbel)").method
    assert method is METHODS["lora_gen"] is LORA_GEN
    setting = LoraGenSetting()
    assert (setting.experts, setting.top_k, setting.r, setting.alpha, setting.dropout) == (8, 2, 16, 16, 0.05)
    assert (setting.learning_rate, setting.balance_coefficient) == (2e-5, 0.01)


@pytest.mark.parametrize("routing", ["keep_top_k", "gumbel", "direct"])
def test_the_contract(routing: str) -> None:
    """All of it but one: what is reported is a mixture of experts, and so no group of parameters."""
    report = check_method(LORA_GEN, LoraGenSetting(**SMALL, routing=routing))
    assert report.model == "llama"
    assert {check.name for check in report.failures} == {"count"}, f"\n{report}"
    assert {
        name: str(report[name].outcome) for name in ("resume", "merge", "save", "skeleton", "bfloat16")
    } == dict.fromkeys(("resume", "merge", "save", "skeleton", "bfloat16"), "passed")


def test_the_reported_size_grows_with_the_rank(tmp_path: Path) -> None:
    check_size(Subject(LORA_GEN, LoraGenSetting(**SMALL), TINY_MODELS["llama"], tmp_path))
    assert LORA_GEN.with_size(LoraGenSetting(), 3) == LoraGenSetting(r=3, alpha=3.0)


def test_what_is_reported_is_a_lora_of_the_same_rank() -> None:
    model = TINY_MODELS["llama"].build()
    names = module_names(model)
    lora = find_method("lora(r=2,target_modules=[gate_proj,up_proj,down_proj])")
    plain = lora.method.adapt(TINY_MODELS["llama"].build(), names, lora.method.setting_type(**lora.values))
    expected = lora.method.reported_parameters(plain, names)
    assert LORA_GEN.reported_parameters(adapt(model), names) == expected
    stacked = adapt(TINY_MODELS["llama"].build(), mixing="products")
    assert LORA_GEN.reported_parameters(stacked, names) == 2 * expected


def test_a_cloud_of_the_edges_own_weights_needs_no_memory() -> None:
    model = TINY_MODELS["llama"].build()
    base = {id(parameter) for parameter in model.parameters()}
    adapted = adapt(model)
    added = [p for p in adapted.parameters() if id(p) not in base]
    assert all(parameter.requires_grad for parameter in added)
    assert sum(p.numel() for p in added) == sum(
        group.numbers for group in LORA_GEN.parameter_groups(adapted, module_names(model), LoraGenSetting(**SMALL))
    )


def test_another_cloud_is_read_from_a_folder(tmp_path: Path) -> None:
    cloud = TINY_MODELS["llama"].build()
    with torch.no_grad():
        cloud.model.embed_tokens.weight.mul_(2)
    cloud.save_pretrained(tmp_path)
    adapted = adapt(TINY_MODELS["llama"].build(), cloud=str(tmp_path), cloud_precision="bfloat16")
    embeddings = adapted.lora_gen.encoder.cloud.get_input_embeddings().weight
    assert torch.equal(embeddings, cloud.model.embed_tokens.weight.bfloat16())
    # Budgets are matched without weights.
    with torch.device("meta"):
        counted = adapt(TINY_MODELS["llama"].build(device="meta"), cloud=str(tmp_path))
    assert counted.lora_gen.parameter_counts() == adapted.lora_gen.parameter_counts()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cloud": "nobody/nothing"}, "is not a folder; if it is on the hub, give its commit"),
        ({"cloud": "nobody/nothing", "cloud_revision": "0" * 40}, "cannot be loaded; connect to the network"),
        ({"larger_layers": (1,)}, "the same rank to all layers"),
        (
            {"target_modules": ("mlp.uproj",)},
            'name its feed-forward modules in projections; did you mean "mlp.up_proj"',
        ),
    ],
)
def test_what_cannot_be_had_is_one_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapt(TINY_MODELS["llama"].build(), **options)


def test_a_classifier_is_refused() -> None:
    with pytest.raises(UserError, match="needs a causal language model, and this is a GPT2ForSequenceClassification"):
        adapt(TINY_MODELS["gpt2"].build())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 9}, "top_k=9 of experts=8; choose at most all of them"),
        ({"routing": "direct", "mixing": "products"}, "has no experts to mix"),
        ({"cloud_revision": "0" * 40}, "cloud_revision needs a cloud"),
        ({"cloud": "a/b", "cloud_revision": "main"}, "should match pattern"),
        ({"layers": (1,)}, "Input should be None"),
        ({"routing": "random"}, "Input should be 'keep_top_k', 'gumbel' or 'direct'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoraGenSetting(**options)


class Words:
    """A tokenizer of numbers, which puts 1 before a text and 2 behind it."""

    bos_token_id, eos_token_id = 1, 2

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [1, *map(int, text.split()), 2]}


def test_a_long_system_prompt_loses_its_beginning_but_not_its_mark() -> None:
    tokenizer: Any = Words()
    encode = LORA_GEN.prompt_encoder(LoraGenSetting(prompt_length=4), tokenizer)
    assert encode("5 6 7") == [1, 5, 6, 7]
    assert encode("5 6 7 8 9") == [1, 7, 8, 9]


def test_delivered_adapters_load_with_plain_peft(make_model: Callable[[str], PreTrainedModel], tmp_path: Path) -> None:
    adapted = adapt(make_model("llama").float())
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))
    tokens, logits = torch.tensor([[3, 7, 9]]), {}
    for name, prompt in (("poet", [5, 6]), ("judge", [8])):
        with adapted.specialised(prompt, name):
            logits[name] = adapted(input_ids=tokens).logits
    LORA_GEN.save(adapted, tmp_path)
    LORA_GEN.deliver(adapted, tmp_path)
    assert not torch.allclose(logits["poet"], logits["judge"])
    for name, expected in logits.items():
        loaded = PeftModel.from_pretrained(make_model("llama").float(), str(tmp_path / "delivered" / name))
        torch.testing.assert_close(loaded(input_ids=tokens).logits, expected, rtol=1e-5, atol=1e-5)
    gates = json.loads((tmp_path / "gates.json").read_text())
    assert gates.keys() == logits.keys()
    for layers in gates.values():
        assert len(layers) == 2
        for gate in layers:
            assert sum(gate) == pytest.approx(1)
            assert sum(value > 0 for value in gate) == 2
    # The generator too is where it belongs, and makes the same of the same prompt.
    again = LoraGen.from_pretrained(tmp_path, make_model("llama").float(), make_model("llama").float())
    for name, tensor in again.generate([5, 6]).tensors.items():
        torch.testing.assert_close(tensor, adapted.lora_gen.generate([5, 6]).tensors[name], rtol=0, atol=0)


def test_direct_generation_has_no_gates(make_model: Callable[[str], PreTrainedModel], tmp_path: Path) -> None:
    adapted = adapt(make_model("llama").float(), routing="direct")
    with adapted.specialised([1], "all"):
        pass
    LORA_GEN.deliver(adapted, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["delivered"]
