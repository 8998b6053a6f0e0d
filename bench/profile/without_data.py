"""Base models whose tensors have a shape, a dtype and a device, and no data, so that their memory can be counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from parbench.bench.util.base_precision import BasePrecision
from parbench.methods.quantisation import library, quantised_layers

# What the layers of bitsandbytes, and peft, find out about a weight from its type.
_TYPES = {"nf4": "Params4bit", "int8": "Int8Params"}
# How models of transformers that see images find the places of their features among the tokens, and check them.
_PLACES = "get_placeholder_mask"


def on_cpu(model: nn.Module, mode: FakeTensorMode) -> None:
    """Put a model on the meta device on a CPU without data: kernels differ by device, and with them what they keep."""
    moved: dict[int, torch.Tensor] = {}

    def moved_once(tensor: torch.Tensor) -> torch.Tensor:
        fake = FakeTensor(mode, tensor.detach().as_subclass(torch.Tensor), torch.device("cpu"))
        return nn.Parameter(fake, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else fake

    for module in model.modules():
        held: tuple[dict[str, Any], ...] = (module._parameters, module._buffers)
        for tensors in held:
            for name, tensor in tensors.items():
                if tensor is not None:
                    # Tied weights stay one tensor.
                    if id(tensor) not in moved:
                        moved[id(tensor)] = moved_once(tensor)
                    tensors[name] = moved[id(tensor)]


def pack(model: nn.Module, precision: BasePrecision) -> None:
    """Quantise the weights of layers that were made on the meta device, where bitsandbytes leaves them as they are.

    Called in the mode that their tensors are of; each gets what bitsandbytes makes of a weight with data.
    """
    for _, layer in quantised_layers(model):
        made = _packed_4_bits(layer.weight) if precision == "nf4" else _packed_8_bits(layer.weight)
        layer.weight = made


def prepare_packing(precision: BasePrecision) -> None:
    """Let bitsandbytes make its table of values once, from a weight with data; it looks at them."""
    if precision == "nf4":
        library().Nf4Linear(torch.zeros(64, 64), torch.bfloat16)


def _packed_4_bits(weight: torch.Tensor) -> nn.Parameter:
    import bitsandbytes.functional as functional

    block = library().BLOCK
    packed, state = functional.quantize_4bit(weight, blocksize=block, compress_statistics=True, quant_type="nf4")
    of_weight = {
        "blocksize": block,
        "compress_statistics": True,
        "quant_type": "nf4",
        "quant_state": state,
        "quant_storage": torch.uint8,
        "bnb_quantized": True,
    }
    return _as_type(packed, "nf4", of_weight)


def _packed_8_bits(weight: torch.Tensor) -> nn.Parameter:
    import bitsandbytes.functional as functional

    packed, scales, _ = functional.int8_vectorwise_quant(weight.to(torch.float16))
    made = _as_type(packed, "int8", {"SCB": scales, "has_fp16_weights": False})
    made.CB = made.data  # type: ignore[attr-defined]
    return made


def _as_type(packed: torch.Tensor, precision: BasePrecision, values: dict[str, Any]) -> nn.Parameter:
    made: Any = nn.Parameter(packed, requires_grad=False)
    made.__class__ = type(_TYPES[precision], (_Packed,), {})
    for name, value in values.items():
        setattr(made, name, value)
    return made


class _Packed(FakeTensor):
    """Stays of its type where a module is moved or cast, as the parameters of bitsandbytes do."""

    def detach(self) -> Any:
        """Return the same without its gradient."""
        found: Any = super().detach()
        found.__class__ = type(self)
        found.__dict__.update({name: value for name, value in vars(self).items() if name not in vars(found)})
        return found


@contextmanager
def convertible() -> Iterator[None]:
    """Let modules without data be moved and cast: torch exchanges their parameters, which it refuses while it has
    weak references to them, and it has for each without data.
    """
    before = torch.utils.swap_tensors

    def take_over(parameter: torch.Tensor, converted: torch.Tensor) -> None:
        parameter.data = converted.data

    torch.utils.swap_tensors = take_over
    try:
        yield
    finally:
        torch.utils.swap_tensors = before


class _Agreeing(TorchDispatchMode):
    """Answers a question about numbers that are not there with yes, or 0."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return True if args[0].dtype is torch.bool else 0
        return func(*args, **(kwargs or {}))


class GroupedProducts(TorchDispatchMode):
    """Gives the products of experts, as models with a mixture of them compute it, a result without data.

    torch knows its shape in bfloat16 alone, and computes it in other precisions as well. Entered within the mode that
    the tensors are of.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._grouped_mm.default and args[0].dtype is not torch.bfloat16:
            return args[0].new_empty(_grouped_shape(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def _grouped_shape(a: torch.Tensor, b: torch.Tensor, offsets: torch.Tensor, *_: Any, **__: Any) -> list[int]:
    """Return the shape of the products of groups: of rows with a matrix each, or of columns with rows."""
    if a.dim() == b.dim() == 2:
        return [offsets.shape[0], a.shape[0], b.shape[1]]
    return [a.shape[-2], b.shape[-1]] if a.dim() != b.dim() else [a.shape[0], a.shape[1], b.shape[2]]


def trust_places_of_images(model: nn.Module) -> None:
    """Let a model that sees images not check that a text has as many places for them as they take.

    By convention of transformers that is done where the places are found, and by nothing else there; a batch of
    `parbench.bench.profile.inputs` has as many.
    """

    def trusting(find: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(find)
        def found(*args: Any, **kwargs: Any) -> Any:
            with _Agreeing():
                return find(*args, **kwargs)

        return found

    for module in model.modules():
        if callable(find := getattr(module, _PLACES, None)):
            setattr(module, _PLACES, trusting(find))
