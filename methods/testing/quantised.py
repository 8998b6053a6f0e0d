"""Checks of a method on base models with quantised weights.

A method that cannot be put on them, or that raises an error in training, is found not to work, which is no violation
of its contract. What works must compute what it computes on the same weights in float32.
"""

from __future__ import annotations

import copy
from functools import cached_property, partial
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from parbench.bench.util.base_precision import BasePrecision
from parbench.bench.util.errors import UserError
from parbench.methods.architecture import module_names
from parbench.methods.quantisation import convert_base, dequantise_base, library, quantised_layers
from parbench.methods.testing.before_training import GRADIENT_STEPS
from parbench.methods.testing.findings import (
    EQUAL,
    FaultError,
    NotApplicableError,
    difference,
    loaded,
    raise_unless_finite,
    several,
)
from parbench.methods.testing.subject import AdaptedTinyModel, Subject, first_line

# Relative to the largest logit. Products of both are in float32, in another order.
EQUAL_DEQUANTISED = 1e-4
# Largest error of a weight that is quantised again, as a share of the largest of its row (8 bits) or block (4 bits):
# half the widest gap between two values of the format, and some for the rounding of the scales.
_STEP = {"int8": 0.6 / 127, "nf4": 0.2}


def check_on(precision: BasePrecision, subject: Subject, merging: bool = True) -> None:
    """On quantised weights the method trains, is saved, and computes as on the same weights in float32.

    Args:
        precision: of the weights.
        subject: the method.
        merging: whether to check as well that merging is refused, or loses no more than quantising does.
    """
    try:
        library()
    except UserError as error:
        raise NotApplicableError(str(error)) from error
    try:
        trial = _Trial(subject, precision)
        expected = subject.outputs(trial.base())
        adapted = subject.adapt(base=trial.base())
        start = subject.outputs(adapted.model)
        reached = _step(subject, adapted)
        found = subject.outputs(adapted.model)
        subject.method.save(adapted.model, trial.folder)
        again = subject.outputs(loaded(subject, trial.folder, trial.base()))
    except FaultError:
        raise
    except Exception as error:  # of any type: it would end a run
        raise NotApplicableError(f"does not work on {precision} weights ({first_line(error)})") from error
    _check_start(subject, start, expected)
    _check_moved(adapted, reached)
    raise_unless_finite(found, f"after {GRADIENT_STEPS} steps on {precision} weights")
    change = difference(again, found)
    if not change <= EQUAL:
        raise FaultError(
            f"the adapter that is saved and loaded onto {precision} weights changes the outputs by {change:.2g}"
        )
    reference = trial.reference(adapted)
    change = difference(found, subject.outputs(reference.model))
    if not change <= EQUAL_DEQUANTISED:
        raise FaultError(
            f"on {precision} weights the outputs differ by {change:.2g} from those of the same adapter on the same "
            f"weights in float32 (allowed {EQUAL_DEQUANTISED:.0e} relative)"
        )
    if merging:
        _check_merge(adapted, reference, precision)


check_int8 = partial(check_on, "int8")
check_nf4 = partial(check_on, "nf4")


class _Trial:
    """A method on one tiny model with quantised weights."""

    def __init__(self, subject: Subject, precision: BasePrecision) -> None:
        self.subject = subject
        self.folder = subject.workspace / f"saved on {precision}"
        self._precision = precision

    @cached_property
    def _template(self) -> PreTrainedModel:
        base = self.subject.tiny.build()
        # Products in float32, so that nothing but the weights is rounded.
        convert_base(base, self._precision, module_names(base).head, compute_dtype=torch.float32)
        return base

    def base(self) -> PreTrainedModel:
        """Return a new copy of the quantised model."""
        return copy.deepcopy(self._template)

    def reference(self, adapted: AdaptedTinyModel) -> AdaptedTinyModel:
        """Return the same adapter, values included, on the same weights in float32."""
        base = self.base()
        dequantise_base(base)
        found = self.subject.adapt(base=base)
        # Of the reference: a tuner may replace the object of a quantised weight.
        values = {name: tensor for name, tensor in adapted.tensors() if name not in found.of_base}
        values |= {name: p for name, p in adapted.model.named_parameters() if id(p) in adapted.optimised}
        own = dict(found.tensors())
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(value)
        return found


def _step(subject: Subject, adapted: AdaptedTinyModel) -> set[int]:
    """Take a few steps; return the identities of the parameters that got a gradient."""
    reached: set[int] = set()
    optimiser = adapted.optimiser()
    for batch in subject.batches(GRADIENT_STEPS):
        subject.step(adapted, batch, optimiser)
        reached |= {key for key, p in adapted.optimised.items() if p.grad is not None and bool(p.grad.any())}
    return reached


def _check_start(subject: Subject, start: Tensor, expected: Tensor) -> None:
    change = difference(start, expected)
    if subject.method.starts_at_base and not change <= EQUAL:
        raise FaultError(f"the untrained adapter changes the outputs of the quantised model by {change:.2g}")


def _check_moved(adapted: AdaptedTinyModel, reached: set[int]) -> None:
    dead = [name for name, p in adapted.model.named_parameters() if id(p) in adapted.optimised.keys() - reached]
    if dead:
        raise FaultError(f"{several(dead, 'parameter')} without a gradient in the first {GRADIENT_STEPS} steps")
    drifted = [
        name
        for name, p in adapted.model.named_parameters()
        if name in adapted.of_base and id(p) not in adapted.optimised and not torch.equal(p, adapted.start[name])
    ]
    if drifted:
        raise FaultError(f"{several(drifted, 'tensor')} of the frozen quantised model, but changed in training")


def _check_merge(adapted: AdaptedTinyModel, reference: AdaptedTinyModel, precision: BasePrecision) -> None:
    """Merging is refused, or loses no more than quantising the merged weights again does."""
    if not isinstance(adapted.model, PeftModel):
        return
    try:
        merged = _merged(adapted.model)
        exact = _merged(reference.model)
    except Exception:  # refused, by an error of any type
        return
    for name, layer in quantised_layers(merged):
        plain: Any = exact.get_submodule(name)
        weight = plain.weight.detach().float()
        error = (_dequantised(name, layer) - weight).abs()
        blocks = (error, weight.abs()) if precision == "int8" else (_blocks(error), _blocks(weight.abs()))
        allowed = _STEP[precision] * blocks[1].amax(-1, keepdim=True)
        if bool((blocks[0] > allowed).any()):
            worst = float((blocks[0] / allowed).max())
            raise FaultError(
                f"merging into {precision} weights changes {name} by {worst:.2g} times what quantising it again may; "
                "refuse to merge, or merge into the dequantised weight"
            )


def _merged(model: Any) -> nn.Module:
    copied: Any = copy.deepcopy(model)
    merged: nn.Module = copied.merge_and_unload()
    return merged


def _dequantised(name: str, layer: Any) -> Tensor:
    try:
        found: Tensor = layer.dequantised()
    except (RuntimeError, ValueError) as error:
        raise FaultError(
            f"merging into quantised weights leaves {name} with what cannot be dequantised ({first_line(error)}); "
            "refuse to merge, or quantise what is merged"
        ) from error
    return found


def _blocks(values: Tensor) -> Tensor:
    size = library().BLOCK
    flat = values.flatten()
    return nn.functional.pad(flat, (0, -len(flat) % size)).view(-1, size)
