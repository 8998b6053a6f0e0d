"""The parameter counts of a run, taken on its model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import ref

from safetensors.torch import save
from torch import nn

from parbench.bench.record.run_record import ParameterCounts
from parbench.methods.architecture import ModuleNames
from parbench.methods.base import Method, ParameterGroup
from parbench.methods.quantisation import stored_bytes


@dataclass(frozen=True)
class Inventory:
    """What a base model consists of, before a method changes it in place.

    Attributes:
        numbers: in its parameters and buffers; quantised weights have fewer than the architecture.
        parameters: its parameters by identity, as far as they still exist: an adapter may have replaced some, and an
            identity that is free is soon another tensor's.
        bytes: of all of them, and of the scales of quantised weights.
    """

    numbers: int
    parameters: Mapping[int, ref[nn.Parameter]]
    bytes: int

    @classmethod
    def of(cls, model: nn.Module) -> Inventory:
        """Count the parameters and buffers of ``model``."""
        parameters = {id(parameter): ref(parameter) for parameter in model.parameters()}
        return cls(_numbers(model), parameters, stored_bytes(model))

    def has(self, parameter: nn.Parameter) -> bool:
        """Return whether a parameter is one of the base model's."""
        known = self.parameters.get(id(parameter))
        return known is not None and known() is parameter


def count_parameters(
    model: nn.Module,
    method: Method[Any],
    names: ModuleNames,
    groups: Sequence[ParameterGroup],
    trainable: int,
    base: Inventory,
) -> ParameterCounts:
    """Count a trained model's parameters.

    Args:
        groups: every parameter that was ever optimised, as the optimiser got them.
        trainable: numbers that the last optimiser step could change, the head's included.
        base: what the model was before ``method`` adapted it.
    """
    head = sum(group.numbers for group in groups if group.is_head)
    optimised = sum(group.numbers for group in groups if not group.is_head)
    added = sum(p.numel() for group in groups for p in group.parameters if not base.has(p))
    state = method.adapter_state(model, names)
    return ParameterCounts(
        reported=method.reported_parameters(model, names),
        trainable=trainable - head,
        optimised=optimised,
        stored_bytes=len(save(state)),
        head=head,
        frozen=_numbers(model) - base.numbers - added,
        # Fewer than were optimised are stored where the file holds what was computed from them (p-tuning's encoder).
        frozen_stored=max(0, sum(tensor.numel() for tensor in state.values()) - optimised),
        base_bytes=base.bytes,
    )


def _numbers(model: nn.Module) -> int:
    return sum(tensor.numel() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
