"""Base models in bfloat16, 8 and 4 bits."""

from __future__ import annotations

import copy
import sys
import weakref
from collections import Counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BitsAndBytesConfig, PreTrainedModel

from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.methods.architecture import module_names
from parbench.methods.fourierft_fast.basis import FourierBasis
from parbench.methods.fourierft_fast.layer import FourierUpdate
from parbench.methods.loca.basis import CosineBasis
from parbench.methods.loca.update import CosineUpdate
from parbench.methods.quantisation import convert_base, dequantise_base, quantised_layers, stored_bytes
from parbench.methods.spectral.fused import update_linear
from parbench.methods.spectral.spectrum import SparseSpectrum
from parbench.methods.testing.models import TINY_MODELS, loss

bitsandbytes = pytest.importorskip("bitsandbytes")


def quantised(name: str, precision: Any, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    model = TINY_MODELS[name].build()
    convert_base(model, precision, module_names(model).head, compute_dtype=dtype)
    return model.eval()


@pytest.mark.parametrize(
    ("precision", "config"),
    [
        ("int8", {"load_in_8bit": True}),
        (
            "nf4",
            {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": True,
                "bnb_4bit_compute_dtype": torch.bfloat16,
            },
        ),
    ],
)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_weights_are_those_that_transformers_loads(tmp_path: Any, name: str, precision: Any, config: Any) -> None:
    plain, own = TINY_MODELS[name].build(), quantised(name, precision)
    plain.save_pretrained(tmp_path)
    head = module_names(plain).head
    loader = AutoModelForCausalLM if name == "llama" else AutoModelForSequenceClassification
    config = BitsAndBytesConfig(**config, llm_int8_skip_modules=[*head, "lm_head"])
    theirs = loader.from_pretrained(tmp_path, quantization_config=config, dtype=torch.float32, device_map="cpu")
    layers = dict(quantised_layers(own))
    other = {
        module_name: layer
        for module_name, layer in theirs.named_modules()
        if isinstance(layer, bitsandbytes.nn.Linear4bit | bitsandbytes.nn.Linear8bitLt)
    }
    assert layers.keys() == other.keys()
    assert len(layers) == (14 if name == "llama" else 8)
    for module_name, layer in layers.items():
        assert torch.equal(layer.weight.data, other[module_name].weight.data)


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.6 / 127), ("nf4", 0.2)])
def test_dequantised_weights_are_near_the_original(precision: Any, most: float) -> None:
    plain, model = TINY_MODELS["llama"].build(), quantised("llama", precision)
    for name, layer in quantised_layers(model):
        weight = plain.get_submodule(name).weight
        assert (layer.dequantised() - weight).abs().max() <= most * weight.abs().max()
    rows = TINY_MODELS["llama"].rows(2)
    ids = torch.stack([row["input_ids"] for row in rows])
    expected = model(input_ids=ids).logits
    dequantise_base(model)
    assert not list(quantised_layers(model))
    torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)


def test_bytes_are_those_of_the_format() -> None:
    """A weight of 4 bits has a scale of 8 bits for 64 numbers, and a float32 for 256 scales, and one for their mean."""
    plain = TINY_MODELS["llama"].build()
    whole = 4 * sum(tensor.numel() for tensor in (*plain.parameters(), *plain.buffers()))
    assert stored_bytes(plain) == whole
    linear = [module for name, module in plain.named_modules() if type(module) is nn.Linear and name != "lm_head"]
    numbers = [module.weight.numel() for module in linear]
    rows = sum(module.out_features for module in linear)
    four = sum(number // 2 + number // 64 + 4 * -(-number // 64 // 256) + 4 for number in numbers)
    assert stored_bytes(quantised("llama", "nf4")) == whole - 4 * sum(numbers) + four
    assert stored_bytes(quantised("llama", "int8")) == whole - 4 * sum(numbers) + sum(numbers) + 4 * rows


@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_each_weight_is_freed_as_soon_as_it_is_quantised(monkeypatch: pytest.MonkeyPatch, precision: Any) -> None:
    """The whole base in float32 beside the whole base in fewer bits would be the most that is taken."""
    model = TINY_MODELS["llama"].build()
    weights = [weakref.ref(layer.weight) for name, layer in model.named_modules() if type(layer) is nn.Linear]
    alive: list[int] = []
    of = type(model).set_submodule

    def count(self: Any, *given: Any) -> None:
        of(self, *given)
        alive.append(sum(weight() is not None for weight in weights))

    monkeypatch.setattr(type(model), "set_submodule", count)
    convert_base(model, precision, module_names(model).head)
    # The layer that was exchanged last is still in hand, and the vocabulary's matrix stays.
    assert alive == list(range(len(weights), 1, -1))


def test_heads_and_biases_stay_in_float32() -> None:
    model = quantised("bert", "nf4", torch.bfloat16)
    row = {name: tensor[None] for name, tensor in TINY_MODELS["bert"].rows(1)[0].items() if name != "labels"}
    assert model(**row).logits.dtype == torch.float32
    assert {p.dtype for name, p in model.named_parameters() if name.endswith("bias")} == {torch.float32}
    assert type(model.classifier) is nn.Linear


def test_bfloat16_rounds_all_but_the_head() -> None:
    plain, model = TINY_MODELS["bert"].build().eval(), TINY_MODELS["bert"].build().eval()
    convert_base(model, "bfloat16", module_names(model).head)
    assert {p.dtype for name, p in model.named_parameters() if "classifier" not in name} == {torch.bfloat16}
    assert torch.equal(model.classifier.weight, plain.classifier.weight)
    row = {name: tensor[None] for name, tensor in TINY_MODELS["bert"].rows(1)[0].items() if name != "labels"}
    logits = model(**row).logits
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, plain(**row).logits, rtol=0.1, atol=0.05)


class _Dense(TorchDispatchMode):
    """Counts the operations that make a matrix of a weight's shape, by name."""

    def __init__(self, shapes: set[tuple[int, ...]]) -> None:
        super().__init__()
        self.shapes, self.found = shapes, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tuple(tensor.shape) in self.shapes and tensor.is_floating_point():
                self.found.append(str(func))
        return result


@pytest.mark.parametrize("expression", ["loca(n_frequency=3)", "loca(n_frequency=300)", "fourierft_fast", "replora"])
@pytest.mark.parametrize("precision", ["int8", "nf4"])
def test_no_step_makes_a_matrix_of_the_weights_shape_that_the_base_does_not(expression: str, precision: Any) -> None:
    choice = find_method(expression)
    setting = choice.method.setting_type.model_validate({"target_modules": ("k_proj",), **choice.values})
    base = quantised("llama", precision)
    names = module_names(base)
    # Grouped queries: the keys' projection is the one that is not square.
    shapes = {(32, 64), (64, 32)}
    row = {name: tensor[None] for name, tensor in TINY_MODELS["llama"].rows(1)[0].items()}
    labels = row.pop("labels")

    def made(model: nn.Module) -> Counter[str]:
        with _Dense(shapes) as dense:
            loss(model(**row).logits, labels).backward()
        return Counter(dense.found)

    frozen = copy.deepcopy(base).requires_grad_(False)
    frozen.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output.requires_grad_(True))
    by_base = made(frozen)
    assert by_base  # dequantising is seen
    # The gradient of the first layer's input is needed below the frozen model only.
    assert not made(choice.method.adapt(base, names, setting).train()) - by_base


@pytest.mark.parametrize("update_type", [CosineUpdate, FourierUpdate])
def test_gradients_beside_a_quantised_weight_are_those_of_a_dense_update(update_type: Any) -> None:
    torch.manual_seed(0)
    size, p, q = 40, 24, 36
    cosine = update_type is CosineUpdate
    places = (
        torch.rand(2, size, dtype=torch.float64) if cosine else torch.stack([torch.randint(n, (size,)) for n in (p, q)])
    )
    values, x = torch.randn(size, dtype=torch.float64), torch.randn(5, q, dtype=torch.float64)
    target = torch.randn(5, p, dtype=torch.float64)
    found = []
    for dense in (True, False):
        spectrum = SparseSpectrum(p, q, CosineBasis if cosine else FourierBasis, dense=dense)
        update = CosineUpdate(spectrum, 2.0, 1.0) if cosine else FourierUpdate(spectrum, 2.0)
        leaves = [values.clone().requires_grad_(), places.clone(), x.clone().requires_grad_()]
        if cosine:
            leaves[1].requires_grad_()
        product = update_linear(leaves[2], [update], leaves[:2], None)
        (product * target).sum().backward()
        found.append([product.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)])
    assert len(found[0]) == len(found[1]) == (4 if cosine else 3)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_without_bitsandbytes_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.delitem(sys.modules, "parbench.methods.quantised_layers", raising=False)
    with pytest.raises(UserError, match=r'pip install "parbench\[quantised\]"'):
        quantised("llama", "nf4")
