"""Counting a method's parameters on the real architecture, without weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from parbench.bench.models.base_model import BaseModel
from parbench.bench.util.errors import UserError
from parbench.methods.architecture import module_names
from parbench.methods.base import Method, Setting, excess_rank
from parbench.methods.from_peft.shapes_only import shapes_only
from parbench.methods.selection import adapted_modules, layer_index
from parbench.tasks.base import Head

# A base model up to this size is built with real, random weights for the few methods that cannot be counted without.
MOST_REAL_PARAMETERS = 500_000_000


@dataclass(frozen=True)
class PredictedCounts:
    """Parameters of an adapted model.

    Attributes:
        reported: as the method's paper counts; what a budget limits.
        trainable: numbers of the adapter that are trainable at the start.
        optimised: numbers of the adapter that are optimised at any time.
        stored_bytes: of the adapter file without the head.
        head: numbers of the task head; never part of a budget.
        adapted: numbers of the weights that are adapted; 0 where the method adapts no weights of modules.
        excess: a sentence where the rank is larger than an adapted weight can use; else empty.
        layers: indices of the layers with adapted modules; not every layer of a hybrid model has attention.
        modules: names of the adapted modules; none where a method adapts no modules.
    """

    reported: int
    trainable: int
    optimised: int
    stored_bytes: int
    head: int
    adapted: int
    excess: str = ""
    layers: tuple[int, ...] = ()
    modules: tuple[str, ...] = ()


class NeedsWeightsError(ValueError):
    """A method can only be counted with real weights, and the base model is too large to create random ones."""


class Architecture:
    """Counts what methods add to one base model under one head; each answer is kept."""

    def __init__(self, base_model: BaseModel, head: Head | None = None) -> None:
        self.base_model = base_model
        self._head = head
        self._kept: dict[tuple[str, str], PredictedCounts] = {}

    def count(self, method: Method[Any], setting: Setting) -> PredictedCounts:
        """Return the counts of ``method`` with ``setting``.

        Raises:
            NeedsWeightsError: counting needs real weights.
            UserError: the setting names what the architecture does not have.
            ValueError: the method cannot be applied to this architecture with this setting, or not be saved.
        """
        key = (method.name, setting.model_dump_json())
        if key not in self._kept:
            self._kept[key] = self._count(method, setting)
        return self._kept[key]

    @cached_property
    def base_parameters(self) -> int:
        """Size of the base model without its task head."""
        names = module_names(self._skeleton)
        return sum(p.numel() for name, p in self._skeleton.named_parameters() if not names.in_head(name))

    @cached_property
    def layers(self) -> int:
        """Number of transformer blocks."""
        return int(self._skeleton.config.num_hidden_layers)

    @cached_property
    def _skeleton(self) -> PreTrainedModel:
        return self.base_model.skeleton(self._head)

    def _count(self, method: Method[Any], setting: Setting) -> PredictedCounts:
        # Most methods can be made on the meta device. Some compute with their own new tensors while they are made
        # (BOFT's permutations): those are small and may be real. What else needs the base model's weights must have
        # real ones, which only small models can afford.
        unclear: Exception | None = None
        for base_device, adapter_device in (("meta", "meta"), ("meta", "cpu"), ("cpu", "cpu")):
            if base_device == "cpu" and self.base_parameters > MOST_REAL_PARAMETERS:
                break
            try:
                return self._count_on(base_device, adapter_device, method, setting)
            except (MemoryError, torch.OutOfMemoryError):
                break
            except (RuntimeError, ValueError, TypeError) as error:
                if "meta" not in str(error).lower():
                    if isinstance(error, UserError):
                        raise
                    raise ValueError(str(error)) from error
            except (LookupError, AttributeError, AssertionError, ArithmeticError) as error:
                # Either an error of the method, or its reaction to missing weights.
                unclear = error if base_device == "cpu" else None
        if unclear is not None:
            raise ValueError(f"{type(unclear).__name__}: {unclear}") from unclear
        raise NeedsWeightsError(
            f"{method.name} needs the base model's weights to be made, and {self.base_model.name} is too large here"
        )

    def _count_on(self, base: str, adapter: str, method: Method[Any], setting: Setting) -> PredictedCounts:
        without_data = shapes_only() if base == "meta" else nullcontext()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # peft's warnings (a corrected fan_in_fan_out, for example) are repeated in the run itself.
            warnings.simplefilter("ignore")
            model = copy.deepcopy(self._skeleton) if base == "meta" else self.base_model.skeleton(self._head, base)
            names = module_names(model)
            with torch.device(adapter), without_data:
                adapted = method.adapt(model, names, setting)
                groups = method.parameter_groups(adapted, names, setting)
                reported = method.reported_parameters(adapted, names)
                state = method.adapter_state(adapted, names)
        refuse_shared(state)
        modules = adapted_modules(adapted)
        head = sum(group.numbers for group in groups if group.is_head)
        return PredictedCounts(
            reported=reported,
            trainable=sum(p.numel() for p in adapted.parameters() if p.requires_grad) - head,
            optimised=sum(group.numbers for group in groups if not group.is_head),
            stored_bytes=sum(tensor.numel() * tensor.element_size() for tensor in state.values()),
            head=head,
            adapted=sum(weight.numel() for weight in _adapted_weights(adapted)),
            excess=excess_rank(method, setting, adapted) or "",
            layers=tuple(sorted({at for at in map(layer_index, modules) if at is not None})),
            modules=tuple(modules),
        )


def _adapted_weights(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            weight = getattr(module.get_base_layer(), "weight", None)
            if isinstance(weight, Tensor):
                yield weight


def refuse_shared(state: Mapping[str, Tensor]) -> None:
    """Check that no tensors of an adapter's file share memory, which safetensors cannot write.

    Raises:
        ValueError: some do.
    """
    owners: dict[int, str] = {}
    for name, tensor in state.items():
        storage = tensor.untyped_storage()._cdata
        if storage in owners:
            raise ValueError(
                f"its adapter cannot be saved: {owners[storage]} and {name} share memory; adapt one of the two only"
            )
        owners[storage] = name
