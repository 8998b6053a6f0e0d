"""Base models with weights in fewer bits, to train adapters on: bfloat16, 8 bits, and QLoRA's 4 bits.

    model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-3B")
    convert_base(model, "nf4")
    model = get_peft_model(model, LoraConfig(...))

Linear layers are replaced by those of bitsandbytes (LLM.int8(): Dettmers et al., NeurIPS 2022, arXiv 2208.07339; NF4:
Dettmers et al., NeurIPS 2023, arXiv 2305.14314). `parbench.bench.util.base_precision` describes each precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from parbench.bench.util.base_precision import FLOAT32, BasePrecision
from parbench.bench.util.errors import UserError

_LINEAR = (nn.Linear, Conv1D)
# By these marks peft and transformers choose the layers that fit.
_MARKS = {"int8": "is_loaded_in_8bit", "nf4": "is_loaded_in_4bit"}


def convert_base(
    model: PreTrainedModel,
    precision: BasePrecision,
    head: Collection[str] = (),
    compute_dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Convert the weights of a base model in place; it is in float32, and not adapted yet.

    Args:
        model: the model. Its quantised weights are frozen.
        precision: of its weights.
        head: leaf names of the modules of the task head, which stays in float32; see `parbench.methods.architecture`.
        compute_dtype: of the products with weights of 4 bits.

    Raises:
        UserError: bitsandbytes is not installed, or the model has no linear layers.
    """
    if precision == "bfloat16":
        _to_bfloat16(model, head)
    elif precision != FLOAT32:
        _quantise(model, precision, head, compute_dtype)


def library() -> Any:
    """Return `parbench.methods.quantised_layers`.

    Raises:
        UserError: bitsandbytes is not installed, or cannot be loaded.
    """
    try:
        import parbench.methods.quantised_layers as found
    except (ImportError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            "base weights in int8 and nf4 need bitsandbytes, which cannot be imported; install it with: "
            f'pip install "parbench[quantised]" ({reason})'
        ) from error
    return found


def is_quantised(layer: nn.Module) -> bool:
    """Return whether a layer has weights of 4 or 8 bits."""
    return type(layer).__name__ in ("Nf4Linear", "Int8Linear")


def quantised_layers(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the layers with weights of 4 or 8 bits by name."""
    return ((name, layer) for name, layer in model.named_modules() if is_quantised(layer))


def weight_shape(layer: Any) -> tuple[int, ...]:
    """Return the shape of a layer's weight; (out, in) where the weight itself is packed."""
    return (layer.out_features, layer.in_features) if is_quantised(layer) else tuple(layer.weight.shape)


def unquantised_layers(model: PreTrainedModel, head: Collection[str] = ()) -> list[str]:
    """Return the names of the linear layers that `convert_base` does not quantise."""
    quantised = {name for name, _ in _linear_layers(model, head)}
    return [name for name, layer in model.named_modules() if type(layer) in _LINEAR and name not in quantised]


def dequantise_base(model: nn.Module) -> None:
    """Give the quantised layers of a model that is not adapted the same weights in float32, in place."""
    for name, layer in list(quantised_layers(model)):
        with torch.device("meta"):
            plain = nn.Linear(layer.in_features, layer.out_features, bias=False)
        plain.weight = nn.Parameter(layer.dequantised(), requires_grad=False)
        plain.bias = layer.bias
        model.set_submodule(name, plain.train(layer.training))
    for mark in _MARKS.values():
        if getattr(model, mark, False):
            setattr(model, mark, False)


def stored_bytes(model: nn.Module) -> int:
    """Return the bytes of all parameters and buffers, and of the scales of quantised weights."""
    tensors: dict[int, Tensor] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + statistics_bytes(model)


def statistics_bytes(model: nn.Module) -> int:
    """Return the bytes of the scales of quantised weights, which are neither parameters nor buffers."""
    kept = (tensor for _, layer in quantised_layers(model) for tensor in layer.statistics())
    return sum(tensor.numel() * tensor.element_size() for tensor in kept)


def _quantise(
    model: PreTrainedModel, precision: BasePrecision, head: Collection[str], compute_dtype: torch.dtype
) -> None:
    layers = library()
    # Their names alone: each weight in float32 is freed as soon as it is quantised.
    found = [name for name, _ in _linear_layers(model, head)]
    if not found:
        raise UserError(
            f"a {model.config.model_type} has no linear layers that could be quantised; give another --base-precision"
        )
    for name in found:
        layer: Any = model.get_submodule(name)
        weight = (layer.weight.data.T if isinstance(layer, Conv1D) else layer.weight.data).contiguous()
        made = layers.Nf4Linear(weight, compute_dtype) if precision == "nf4" else layers.Int8Linear(weight)
        made.bias = layer.bias
        model.set_submodule(name, made.train(layer.training))
    setattr(model, _MARKS[precision], True)


def _linear_layers(model: PreTrainedModel, head: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield the layers to quantise: all linear ones but the task head and the matrix of the vocabulary."""
    vocabulary = model.get_output_embeddings()
    for name, module in model.named_modules():
        if type(module) in _LINEAR and module is not vocabulary and set(head).isdisjoint(name.split(".")):
            yield name, module


def _to_bfloat16(model: PreTrainedModel, head: Collection[str]) -> None:
    """Round all weights but those of the task head, whose inputs are converted to float32."""
    for name, parameter in model.named_parameters():
        if set(head).isdisjoint(name.split(".")):
            parameter.data = parameter.data.to(torch.bfloat16)
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in head:
            module.register_forward_pre_hook(_in_float32, with_kwargs=True)


def _in_float32(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return tuple(map(_float32, inputs)), {name: _float32(value) for name, value in named.items()}


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
