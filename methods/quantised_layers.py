"""Linear layers of bitsandbytes that compute the same in training and evaluation, and leave their bias as it is.

bitsandbytes' own layers convert the bias to the dtype of their products. On CPUs they also evaluate otherwise than they
train: in 8 bits with quantised inputs, in 4 bits with scales rounded to bfloat16 where the processor multiplies that.
In training in 8 bits they keep their inputs, which no gradient needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitsandbytes
import torch
from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 64
"""Numbers per scale of NF4, as in QLoRA."""

OUTLIERS = 6.0
"""From this magnitude on LLM.int8() multiplies inputs in 16 bits: the paper's value, and transformers' default."""


class Nf4Linear(Linear4bit):
    """A linear layer with frozen weights in NF4 with double quantisation."""

    weight: Any

    def __init__(self, weight: Tensor, compute_dtype: torch.dtype) -> None:
        """Quantise a weight (out, in), on its device."""
        height, width = weight.shape
        with torch.device("meta"):
            super().__init__(width, height, False, compute_dtype, compress_statistics=True, quant_type="nf4")
        packed: Any = Params4bit(
            weight, requires_grad=False, blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )
        self.weight = packed.to(weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in the dtype of ``x``."""
        product = bitsandbytes.matmul_4bit(x.to(self.compute_dtype), self.weight, self.weight.quant_state).to(x.dtype)
        return product if self.bias is None else product + self.bias.to(x.dtype)

    def dequantised(self) -> Tensor:
        """Return the weight as the products use it, (out, in), in float32."""
        state = self.weight.quant_state
        return bitsandbytes.functional.dequantize_4bit(self.weight.data, state).to(torch.float32)

    def statistics(self) -> list[Tensor]:
        """Return what is stored beside the weight: scales, and the scales of scales."""
        state = self.weight.quant_state
        return [state.absmax, state.state2.absmax, state.offset] if state.nested else [state.absmax]


class Int8Linear(Linear8bitLt):
    """A linear layer with frozen weights in 8 bits; on CPUs the inputs of its products are not quantised."""

    weight: Any
    state: Any

    def __init__(self, weight: Tensor) -> None:
        """Quantise a weight (out, in), on its device."""
        height, width = weight.shape
        with torch.device("meta"):
            super().__init__(width, height, False, has_fp16_weights=False, threshold=OUTLIERS)
        packed: Any = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
        self.weight = packed.to(weight.device)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out), in the dtype of ``x``."""
        if x.device.type == "cpu":
            product = _Int8Product.apply(x, self.weight.data, self.statistics()[0])
        else:
            self.state.is_training = self.training
            if self.weight.CB is not None:
                self.init_8bit_state()
            product = bitsandbytes.matmul(x, self.weight, state=self.state)
        product = product.to(x.dtype)
        return product if self.bias is None else product + self.bias.to(x.dtype)

    def dequantised(self) -> Tensor:
        """Return the weight as the products use it, (out, in), in float32."""
        return _in_full(self.weight.data, self.statistics()[0], torch.float32)

    def statistics(self) -> list[Tensor]:
        """Return what is stored beside the weight: one scale per row."""
        # The library moves them from the weight to the state in the first product.
        return [self.weight.SCB if self.state.SCB is None else self.state.SCB]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Move scales with the weight, also where a whole model is moved."""
        result = super()._apply(fn, recurse)
        for holder in (self.weight, self.state):
            if holder.SCB is not None:
                holder.SCB = holder.SCB.to(self.weight.device)
            if holder.CB is not None:
                holder.CB = self.weight.data
        return result


class _Int8Product(torch.autograd.Function):
    """A product with a frozen weight of 8 bits that keeps neither its input nor the dequantised weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        ctx.save_for_backward(weight, scales)
        return x @ _in_full(weight, scales, x.dtype).T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None, None]:
        """Gradient of the input."""
        weight, scales = ctx.saved_tensors
        return grad_y @ _in_full(weight, scales, grad_y.dtype), None, None


def _in_full(weight: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype) * (scales.to(torch.float32) / 127).to(dtype)[:, None]
