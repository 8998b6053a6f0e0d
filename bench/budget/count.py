"""Counting a method's parameters on the real architecture, without weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from parbench.bench.models.base_model import BaseModel
from parbench.methods.base import Method, Setting

if TYPE_CHECKING:
    from parbench.tasks.base import Head

# A base model up to this size is built with real, random weights for the few methods that cannot be counted without.
MOST_REAL_PARAMETERS = 500_000_000


@dataclass(frozen=True)
class Counts:
    """Parameters of an adapted model.

    Attributes:
        reported: as the method's paper counts; what a budget limits.
        trainable: numbers of the adapter that are trainable at the start.
        optimised: numbers of the adapter that are optimised at any time.
        stored_bytes: of the adapter file without the head.
        head: numbers of the task head; never part of a budget.
    """

    reported: int
    trainable: int
    optimised: int
    stored_bytes: int
    head: int


class Architecture:
    """Counts what methods add to one base model under one head; each answer is kept."""

    def __init__(self, base_model: BaseModel, head: Head | None = None) -> None:
        self.base_model = base_model
        self._head = head
        self._kept: dict[tuple[str, str], Counts] = {}

    def count(self, method: Method[Any], setting: Setting) -> Counts:
        """Return the counts of ``method`` with ``setting``.

        Raises:
            ValueError: the method cannot be applied to this architecture with this setting.
        """
        key = (method.name, setting.model_dump_json())
        if key not in self._kept:
            self._kept[key] = self._count(method, setting)
        return self._kept[key]

    @cached_property
    def base_parameters(self) -> int:
        """Size of the base model without its task head."""
        from parbench.methods.architecture import module_names

        model = self.base_model.skeleton(self._head)
        names = module_names(model)
        return sum(p.numel() for name, p in model.named_parameters() if not names.in_head(name))

    @cached_property
    def layers(self) -> int:
        """Number of transformer blocks."""
        return int(self.base_model.skeleton(self._head).config.num_hidden_layers)

    def _count(self, method: Method[Any], setting: Setting) -> Counts:
        # Most methods can be made on the meta device. Some compute with their own new tensors while they are made
        # (BOFT's permutations): those are small and may be real. A few copy from the base model (prompt tuning from its
        # embeddings): then that must be real too, which only small ones can afford.
        for base_device, adapter_device in (("meta", "meta"), ("meta", "cpu"), ("cpu", "cpu")):
            if base_device == "cpu" and self.base_parameters > MOST_REAL_PARAMETERS:
                break
            try:
                return self._count_on(base_device, adapter_device, method, setting)
            except (RuntimeError, ValueError) as error:
                if "meta" not in str(error).lower():
                    raise ValueError(str(error)) from error
        raise ValueError(
            f"{method.name} needs the base model's weights to be made, and {self.base_model.name} is too large"
        )

    def _count_on(self, base: str, adapter: str, method: Method[Any], setting: Setting) -> Counts:
        import torch

        from parbench.methods.architecture import module_names

        with torch.random.fork_rng(devices=[]):
            model = self.base_model.skeleton(self._head, base)
        names = module_names(model)
        with torch.random.fork_rng(devices=[]), torch.device(adapter), warnings.catch_warnings():
            # What peft warns of (a corrected fan_in_fan_out, say) it warns of again in the run itself.
            warnings.simplefilter("ignore")
            adapted = method.adapt(model, names, setting)
            groups = method.parameter_groups(adapted, names, setting)
        head = sum(group.numbers for group in groups if group.is_head)
        return Counts(
            reported=method.reported_parameters(adapted, names),
            trainable=sum(p.numel() for p in adapted.parameters() if p.requires_grad) - head,
            optimised=sum(group.numbers for group in groups if not group.is_head),
            stored_bytes=sum(t.numel() * t.element_size() for t in method.adapter_state(adapted, names).values()),
            head=head,
        )
