"""The contract between a fine-tuning method and the code that trains with it."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from parbench.bench.util.reference import Reference
from parbench.methods.selection import Selection, adapted_modules
from parbench.methods.setting import Names as Names
from parbench.methods.setting import Setting
from parbench.methods.targets import located

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from parbench.methods.architecture import ModuleNames

S = TypeVar("S", bound=Setting)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with the same optimiser settings.

    Attributes:
        name: ``adapter``, ``head``, or a special group such as LoCA's ``locations``.
        parameters: the trainable tensors, each in exactly one group.
        learning_rate: peak learning rate, before the schedule.
        weight_decay: of AdamW; ``None`` takes the value of the training settings.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float | None = None

    @property
    def numbers(self) -> int:
        """Number of scalars in the group."""
        return sum(parameter.numel() for parameter in self.parameters)

    @property
    def is_head(self) -> bool:
        """Whether it belongs to the task head; a head may have several groups."""
        return self.name == "head"


@dataclass(frozen=True)
class SizeKnob:
    """The one hyper-parameter that sets how many parameters a method has.

    Attributes:
        field: its name in the method's `Setting`.
        smallest: least value.
        choices: the allowed values in ascending order of the parameter count, where not every integer is allowed; a
            value that an architecture refuses is skipped.
        ceiling: largest value tried.
        per_layer: whether some layers may have the next larger size (see `Setting.larger_layers`).
        rank: whether it is the rank of a weight update, which cannot exceed the shorter side of the weight.
    """

    field: str
    smallest: int = 1
    choices: tuple[int, ...] | None = None
    ceiling: int = 1 << 20
    per_layer: bool = False
    rank: bool = False


@dataclass(frozen=True)
class Dimension:
    """One axis of a search space, sampled evenly on a logarithmic scale.

    Attributes:
        field: a field of the method's `Setting`; or ``update_step``, the learning rate times the change of the
            weight's Frobenius norm per unit of one coefficient, which makes spectral methods with different scalings
            comparable (see `Method.atom_norm`).
        low: least value.
        high: largest value.
    """

    field: str
    low: float
    high: float


class Method(ABC, Generic[S]):
    """A parameter-efficient fine-tuning method.

    A method turns a base model into an adapted one and defines how the result is trained and counted. It is independent
    of tasks, plans and stores.

    The output of the adapted model may have an ``auxiliary_loss``, a scalar that training adds to the task's loss.

    Attributes:
        name: its name on the command line, as in `bench run --methods`.
        reference: the paper.
        setting_type: its hyper-parameters.
        size_knob: the option that a budget sizes; ``None`` where the size is fixed.
        search_space: the tuned options; every method gets the same number of trials.
        starts_at_base: whether the untrained adapted model has the outputs of the base model.
        mergeable: whether the adapter can be folded into the base weights.
        allows_checkpointing: whether activations may be recomputed in the backward pass (gradient checkpointing).
        reads_system_prompt: whether the adapted model reads the instruction of a task as a system prompt apart from its
            input. It then takes the prompts of a batch as ``system_prompt_ids`` and ``system_prompt_mask``, and has
            ``specialised(tokens, name)``, a context in which one prompt applies to every input, and
            ``reader_config``, the configuration of the model that reads the prompts.
        rows_are_independent: whether the output for a row, also in training, is independent of the other rows of the
            batch. A batch of such a model may be split into several passes.
        may_rest: parts of the names of parameters that training may rightly leave where they are, such as experts that
            no input chooses.
    """

    name: str
    reference: Reference
    setting_type: type[S]
    size_knob: SizeKnob | None = None
    search_space: tuple[Dimension, ...] = ()
    starts_at_base: bool = True
    mergeable: bool = True
    allows_checkpointing: bool = True
    reads_system_prompt: bool = False
    rows_are_independent: bool = True
    may_rest: tuple[str, ...] = ()

    @abstractmethod
    def config(self, names: ModuleNames, setting: S) -> PeftConfig:
        """Return the peft configuration for a base model with the module names ``names``."""

    def adapt(self, model: PreTrainedModel, names: ModuleNames, setting: S) -> nn.Module:
        """Wrap ``model`` (changed in place) so that only adapter and head are trainable.

        Raises:
            UserError: a module, layer or pattern of ``setting`` matches nothing in the model.
            ValueError: peft cannot apply the method to this architecture.
        """
        from peft import get_peft_model

        setting = located(setting, model, names)
        selection = Selection.of_setting(setting)
        selection.check_names(model)
        config = self.config(names, setting)
        if setting.layers is not None:
            if not hasattr(config, "layers_to_transform"):
                raise ValueError(f"{self.name} cannot be put on some layers only")
            config.layers_to_transform = list(setting.layers)
        if setting.larger_layers and not (self.size_knob and self.size_knob.per_layer):
            raise ValueError(f"{self.name} has the same size on all layers; leave larger_layers out")
        # Set here and not in each config: without it a newly initialised head would stay frozen, and the run would
        # look plausible but weak.
        config.modules_to_save = list(names.head)  # type: ignore[attr-defined]
        adapted = get_peft_model(model, config)
        selection.check_adapted(adapted_modules(adapted), names.head)
        warn_of_excess(self, setting, adapted)
        return adapted

    def parameter_groups(self, model: nn.Module, names: ModuleNames, setting: S) -> list[ParameterGroup]:
        """Return all parameters that are optimised at any time, each in one group."""
        return [
            ParameterGroup("adapter", list(adapter_parameters(model, names)), setting.learning_rate),
            ParameterGroup("head", list(head_parameters(model, names)), setting.head_learning_rate),
        ]

    def reported_parameters(self, model: nn.Module, names: ModuleNames) -> int:
        """Return the adapter's size as the method's paper counts it (the task head is never counted)."""
        return sum(parameter.numel() for parameter in adapter_parameters(model, names))

    def with_size(self, setting: S, size: int) -> S:
        """Return a copy of ``setting`` with another value of the size knob.

        Raises:
            ValueError: the size is fixed, or cannot be set for this setting.
        """
        if self.size_knob is None:
            raise ValueError(f"{self.name} is of fixed size")
        return setting.model_copy(update={self.size_knob.field: size})

    def atom_norm(self, setting: S, shape: tuple[int, int]) -> float | None:
        """Return the Frobenius norm of the weight update per unit of one coefficient, for a weight of ``shape``.

        ``None`` where it is not constant: that of a low-rank product depends on the other factor.
        """
        return None

    def virtual_tokens(self, setting: S) -> int:
        """Return the number of positions in front of the input that the adapter takes: those of a trained prompt."""
        return 0

    def adapter_state(self, model: nn.Module, names: ModuleNames) -> dict[str, torch.Tensor]:
        """Return the tensors of the adapter file, without those of the task head."""
        from parbench.methods.adapter_files import adapter_tensors

        state = adapter_tensors(cast("PeftModel", model))
        return {name: tensor.contiguous() for name, tensor in state.items() if not names.in_head(name)}

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write adapter and head as safetensors, in the form that peft loads onto the base model."""
        from parbench.methods.adapter_files import save_adapter

        save_adapter(cast("PeftModel", model), folder)

    def rank_of(self, setting: S) -> int | None:
        """Return the largest rank that a weight update is given; ``None`` where no rank is a hyper-parameter."""
        knob = self.size_knob
        return cast(int, getattr(setting, knob.field)) if knob is not None and knob.rank else None

    def schedule_share(self, setting: S) -> float:
        """Return the share of all optimiser steps after which the method's own schedule has ended.

        Weights from before are not yet what the method defines, such as an adapter whose ranks are still to be cut. An
        epoch that ends earlier is never chosen as the best one.
        """
        return 0.0

    def callbacks(self, setting: S) -> list[TrainerCallback]:
        """Return the trainer callbacks that the method needs, such as a schedule of its own."""
        return []

    def prompt_encoder(self, setting: S, processor: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
        """Return a function from a system prompt to tokens of the model that reads it.

        Args:
            setting: the hyper-parameters.
            processor: the base model's tokenizer.

        Raises:
            TypeError: the method reads no system prompts (see ``reads_system_prompt``).
        """
        raise TypeError(f'"{self.name}" reads no system prompts')

    def deliver(self, model: nn.Module, folder: Path) -> None:
        """Write further results of the trained model, such as one LoRA per system prompt; default: none.

        Args:
            model: the trained model, after the evaluation.
            folder: the folder that `save` has written.
        """


def excess_rank(method: Method[Any], setting: Setting, adapted: nn.Module) -> str | None:
    """Return a sentence on a rank that exceeds the shorter side of an adapted weight: the rest adds no freedom."""
    from parbench.methods.quantisation import weight_shape

    rank = method.rank_of(setting)
    if rank is None:
        return None
    for name in adapted_modules(adapted):
        layer = adapted.get_submodule(f"base_model.model.{name}").get_base_layer()  # type: ignore[operator]
        shape = weight_shape(layer)
        if len(shape) == 2 and rank > min(shape):
            return (
                f'"{method.name}" has rank {rank}, but an update of {name}, a weight of {shape[0]} x {shape[1]}, has '
                f"rank {min(shape)} at most: the parameters beyond add nothing"
            )
    return None


def warn_of_excess(method: Method[Any], setting: Setting, adapted: nn.Module) -> None:
    """Warn of a rank that an adapted weight cannot use.

    Trial sizes on the meta device, as a budget is matched, are not warned of.
    """
    on_meta = any(parameter.is_meta for parameter in adapted.parameters())
    if not on_meta and (excess := excess_rank(method, setting, adapted)):
        warnings.warn(excess, stacklevel=3)


def adapter_parameters(model: nn.Module, names: ModuleNames) -> Iterator[nn.Parameter]:
    """Yield the trainable parameters outside the task head."""
    return (p for name, p in model.named_parameters() if p.requires_grad and not names.in_head(name))


def head_parameters(model: nn.Module, names: ModuleNames) -> Iterator[nn.Parameter]:
    """Yield the trainable parameters of the task head."""
    return (p for name, p in model.named_parameters() if p.requires_grad and names.in_head(name))
