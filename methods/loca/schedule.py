"""When LoCA's coefficients and locations are trained: in turns (arXiv 2502.06820, section 4.4), or together."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from parbench.methods.loca.layer import COEFFICIENTS, LOCATIONS, LocaLayer


class Phase(Enum):
    """The parameters that an optimiser step trains."""

    COEFFICIENTS = "coefficients"
    LOCATIONS = "locations"
    BOTH = "both"
    FROZEN_LOCATIONS = "frozen locations"
    """The coefficients, after the locations have become final."""

    @property
    def frozen_groups(self) -> tuple[str, ...]:
        """Names of the parameter groups that are frozen in this phase."""
        if self is Phase.BOTH:
            return ()
        return (COEFFICIENTS,) if self is Phase.LOCATIONS else (LOCATIONS,)


@dataclass(frozen=True)
class LocaSchedule:
    """Cycles of coefficient steps, then location steps; from `location_until` on, coefficients alone.

    A step is an optimiser step, counted from 0.

    Args:
        location_until: first step at which locations stay frozen for good, the paper's `B_s`.
        coefficient_steps: coefficient steps at the start of each cycle, the paper's `B_a`; at least 1.
        location_steps: location steps at the end of each cycle, the paper's `B_l`; 0 never trains locations.
        alternating: whether there are cycles; without them every step before `location_until` trains both.

    Raises:
        ValueError: a number is out of range.
    """

    location_until: int
    coefficient_steps: int = 10
    location_steps: int = 20
    alternating: bool = True

    def __post_init__(self) -> None:
        for name, minimum in (("location_until", 0), ("coefficient_steps", 1), ("location_steps", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"LocaSchedule: {name} is {value!r}; give an integer of at least {minimum}.")

    def phase_at(self, step: int) -> Phase:
        """The phase of the optimiser step number `step`, counted from 0."""
        if step >= self.location_until:
            return Phase.FROZEN_LOCATIONS
        if not self.alternating:
            return Phase.BOTH
        in_cycle = step % (self.coefficient_steps + self.location_steps)
        return Phase.COEFFICIENTS if in_cycle < self.coefficient_steps else Phase.LOCATIONS

    def apply(self, model: nn.Module, step: int) -> Phase:
        """Set the phase of `step` in `model`, wrapped or not; call it before each optimiser step.

        A group that the phase does not train is frozen in every adapter and loses its gradient, so that an optimiser
        neither moves nor decays it. Build the optimiser before the first call, while both groups are trainable.

        Raises:
            ValueError: no LoCA adapter of the model is in training.
        """
        phase = self.phase_at(step)
        adapters = _adapters_in_training(model)
        if not adapters:
            raise ValueError(
                "No LoCA adapter of this model is in training; make one with get_peft_model, load it with "
                "is_trainable=True, or enable it if adapters are disabled."
            )
        for layer, adapter in adapters:
            layer.freeze(adapter, phase.frozen_groups)
        return phase

    @staticmethod
    def release(model: nn.Module) -> None:
        """Make both groups of every adapter in training trainable again, as `get_peft_model` leaves them."""
        for layer, adapter in _adapters_in_training(model):
            layer.freeze(adapter, [])


class LocaCallback(TrainerCallback):
    """Drives a `LocaSchedule` by the optimiser steps of transformers' `Trainer`.

    Gradient accumulation and evaluation do not advance it; a run resumed from a checkpoint continues the schedule.
    After training both groups are trainable again. Under DistributedDataParallel leave `ddp_find_unused_parameters` at
    its default for peft models, true, since the frozen group has no gradient, and do not use reentrant gradient
    checkpointing, which does not allow unused parameters.

    Args:
        location_until: an integer is the first step at which locations stay frozen for good, a float is that
            step as a fraction of all optimiser steps; the default, a tenth, follows the paper's appendix E.
        coefficient_steps: see `LocaSchedule`.
        location_steps: see `LocaSchedule`.
        alternating: see `LocaSchedule`.

    Raises:
        ValueError: a number is out of its range; or, when training starts, no LoCA adapter of the model is in
            training, or the optimiser was built while one group was frozen and does not hold it.
    """

    def __init__(
        self,
        location_until: int | float = 0.1,
        coefficient_steps: int = 10,
        location_steps: int = 20,
        alternating: bool = True,
    ) -> None:
        self.fraction: float | None = None
        steps = 0
        if not isinstance(location_until, float):
            steps = location_until
        elif 0.0 <= location_until <= 1.0:
            self.fraction = location_until
        else:
            raise ValueError(
                f"LocaCallback: location_until is {location_until!r}; give a fraction from 0.0 to 1.0, or an "
                "integer number of steps."
            )
        self.schedule = LocaSchedule(steps, coefficient_steps, location_steps, alternating)

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Release both groups before the optimiser is built: an earlier training may have ended in a phase."""
        self.schedule.release(kwargs["model"])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Turn a fraction into steps, and check that the optimiser holds both groups."""
        if self.fraction is not None:
            self.schedule = replace(self.schedule, location_until=round(self.fraction * state.max_steps))
        until, alternating = self.schedule.location_until, self.schedule.alternating
        if alternating and self.schedule.location_steps and 0 < until <= self.schedule.coefficient_steps:
            warnings.warn(
                f"LocaCallback: all {until} steps before location_until are coefficient steps, so the "
                "locations never move; raise location_until or lower coefficient_steps.",
                stacklevel=2,
            )
        _check_optimiser(kwargs["model"], kwargs["optimizer"])

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the phase of the next optimiser step."""
        self.schedule.apply(kwargs["model"], state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Release both groups."""
        self.schedule.release(kwargs["model"])


def _adapters_in_training(model: nn.Module) -> list[tuple[LocaLayer, str]]:
    return [
        (layer, adapter)
        for layer in model.modules()
        if isinstance(layer, LocaLayer)
        for adapter in layer.active_adapters
        if layer.in_training(adapter)
    ]


def _check_optimiser(model: nn.Module, optimiser: Optimizer) -> None:
    held = {id(parameter) for group in optimiser.param_groups for parameter in group["params"]}
    present = [
        id(getattr(layer, group)[adapter]) in held
        for layer, adapter in _adapters_in_training(model)
        for group in layer.adapter_layer_names
    ]
    # An optimiser with none of them has flat copies of its own (DeepSpeed), which cannot be checked here.
    if any(present) and not all(present):
        raise ValueError(
            "The optimiser holds only some of LoCA's parameters, so a phase would train nothing; build it "
            "while coefficients and locations are both trainable, as get_peft_model leaves them."
        )
