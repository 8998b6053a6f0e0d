"""Counts operations, and the tensors that a training step keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from parbench.bench.profile.measurement import Breakdown
from parbench.methods.quantisation import statistics_bytes

if TYPE_CHECKING:
    from parbench.bench.profile.build import BuiltCandidate


def count_flops(work: Callable[[], object]) -> int:
    """Return the number of operations of ``work`` in matrix products, convolutions and attention.

    A multiplication and an addition count as two. Elementwise operations are not counted, as is usual, nor are Fourier
    transforms.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False, custom_mapping=_attention_on_cpus()) as counter:
        work()
    return int(counter.get_total_flops())


def _attention_on_cpus() -> dict[object, Callable[..., int]]:
    """Return what torch's counter lacks: the fused attention of CPUs, which models use where there is no dropout.

    It is counted as the kernels of GPUs are, whose backward pass computes the scores again.
    """
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    def forward(*shapes: object, **_: object) -> int:
        return int(sdpa_flop_count(*shapes[:3]))

    def backward(*shapes: object, **_: object) -> int:
        return int(sdpa_backward_flop_count(*shapes[:4]))

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


@dataclass
class Kept:
    """Memory of the tensors that autograd saves for a backward pass."""

    _storages: dict[int, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Bytes, with storage shared by several tensors counted once."""
        return sum(self._storages.values())

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor."""
        for part in _dense(tensor):
            storage = part.untyped_storage()
            self._storages[storage.data_ptr()] = storage.nbytes()


@contextmanager
def saved_tensors(model: nn.Module) -> Iterator[Kept]:
    """Count the tensors that forward passes in the block save for the backward pass, without the model's own."""
    own = {part.untyped_storage().data_ptr() for tensor in _own(model) for part in _dense(tensor)}
    kept = Kept()

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if any(part.untyped_storage().data_ptr() not in own for part in _dense(tensor)):
            kept.add(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def breakdown(adapted: BuiltCandidate, optimiser: torch.optim.Optimizer | None, activations: int | None) -> Breakdown:
    """Count the tensors of a model in training; to be called after a backward pass, while there are gradients."""
    adapter = [p for group in adapted.groups if not group.is_head for p in group.parameters]
    head = [p for group in adapted.groups if group.is_head for p in group.parameters]
    optimised = {id(parameter) for parameter in (*adapter, *head)}
    state = optimiser.state.values() if optimiser else ()
    return Breakdown(
        weights=_bytes(tensor for tensor in _own(adapted.model) if id(tensor) not in optimised)
        + statistics_bytes(adapted.model),
        adapter=_bytes(adapter),
        head=_bytes(head),
        gradients=_bytes(p.grad for p in adapted.model.parameters() if p.grad is not None),
        optimiser=_bytes(value for values in state for value in values.values() if isinstance(value, torch.Tensor)),
        activations=activations,
    )


def _own(model: nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(part.numel() * part.element_size() for tensor in tensors for part in _dense(tensor))


def _dense(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the dense tensors of a tensor: itself, or the indices and values of a sparse one."""
    if tensor.layout is torch.strided:
        return (tensor,)
    if tensor.layout is torch.sparse_coo:
        return tensor._indices(), tensor._values()
    return tensor.crow_indices(), tensor.col_indices(), tensor.values()
