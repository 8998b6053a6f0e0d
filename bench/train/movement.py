"""Whether training has moved what it was to train: a run that trains nothing must not look like a result."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import nn

from parbench.methods.base import ParameterGroup

# In fewer optimiser steps a parameter may rightly stay where it is: the learning rate warms up, and one factor of a
# product has no gradient while the other is zero.
FEW_STEPS = 10
_SHOWN = 3


class UntrainedError(RuntimeError):
    """Parameters of the adapter are what they were before training."""


class Movement:
    """The adapter's parameters before training, as two sums each: enough to see whether one has moved.

    Args:
        model: the adapted model, before its first step and before a checkpoint is read.
        groups: what is optimised; the head's groups are left out.
    """

    def __init__(self, model: nn.Module, groups: Sequence[ParameterGroup]) -> None:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        self._groups = [
            {names.get(id(parameter), group.name): parameter for parameter in group.parameters if parameter.numel()}
            for group in groups
            if not group.is_head
        ]
        self._before = [{name: _sums(parameter) for name, parameter in group.items()} for group in self._groups]
        # Of the base model's own parameters an architecture may leave some unused; an adapter has none to spare.
        self._is_adapter = hasattr(model, "peft_config")

    def check(self, steps: int, may_rest: Collection[str] = ()) -> None:
        """Check that the adapter has moved, if there was a step; after `FEW_STEPS` every parameter of a group that has.

        A group that rests as a whole may do so by the method's own schedule.

        Args:
            steps: optimiser steps done.
            may_rest: see `parbench.methods.base.Method`.

        Raises:
            UntrainedError: it has not.
        """
        if not steps:
            return
        still = [
            [name for name, parameter in group.items() if _sums(parameter) == before[name]]
            for group, before in zip(self._groups, self._before, strict=True)
        ]
        total = sum(map(len, self._groups))
        if total and sum(map(len, still)) == total:
            raise UntrainedError(f"training has moved none of the adapter's {total} parameters; {_HINT}")
        if steps < FEW_STEPS or not self._is_adapter:
            return
        resting = [
            name
            for group, names in zip(self._groups, still, strict=True)
            if len(names) < len(group)
            for name in names
            if not any(part in name for part in may_rest)
        ]
        if resting:
            more = f" and {len(resting) - _SHOWN} more" if len(resting) > _SHOWN else ""
            raise UntrainedError(
                f"training has not moved {len(resting)} of the adapter's {total} parameters: "
                f"{', '.join(resting[:_SHOWN])}{more}; {_HINT}"
            )


_HINT = "they get no gradient, or too small a learning rate"


def _sums(parameter: torch.Tensor) -> tuple[float, float]:
    values = parameter.detach().double()
    return values.sum().item(), values.square().sum().item()
