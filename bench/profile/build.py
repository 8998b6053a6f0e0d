"""Builds what is measured: an adapted or frozen base model, its optimiser, and the method's callbacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from parbench.bench.models.catalogue import find_model
from parbench.bench.models.parameter_counts import Inventory, count_parameters
from parbench.bench.profile.workload import MeasurementJob, ModelUse, Workload, kind_of
from parbench.bench.record.run_record import ParameterCounts
from parbench.bench.util.base_precision import QUANTISED
from parbench.methods import find_method
from parbench.methods.architecture import ModuleNames, module_names
from parbench.methods.base import Method, ParameterGroup
from parbench.methods.quantisation import convert_base
from parbench.tasks.base import Head
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package import cache_folder
from parbench.tasks.kinds.system_prompt import PromptConditioned

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Length of the imagined training; the measured steps are a part of it, see `Workload.at`.
WHOLE_TRAINING = 1000


@dataclass
class BuiltCandidate:
    """A candidate ready to be measured.

    Attributes:
        model: the adapted model, on its device.
        config: configuration of the base model.
        groups: optimised parameters; empty for the frozen floor.
        ledger: parameter counts; ``None`` for the frozen floor, and where nothing was counted.
        mergeable: whether the method declares that its adapter can be merged into the base weights.
        reads_system_prompt: whether the method reads system prompts, see `parbench.methods.base.Method`.
    """

    model: nn.Module
    config: Any
    kind: ModelUse
    groups: Sequence[ParameterGroup]
    callbacks: Sequence[TrainerCallback]
    ledger: ParameterCounts | None
    mergeable: bool
    reads_system_prompt: bool = False

    @property
    def reader(self) -> PromptConditioned:
        """The model as one that reads system prompts, if it does."""
        return cast(PromptConditioned, self.model)

    @property
    def optimised(self) -> list[nn.Parameter]:
        """Every optimised parameter."""
        return [parameter for group in self.groups for parameter in group.parameters]

    def optimiser(self) -> torch.optim.Optimizer | None:
        """Return AdamW over the groups, as in runs; ``None`` if nothing is optimised."""
        groups = [
            {"params": list(group.parameters), "lr": group.learning_rate, "name": group.name}
            for group in self.groups
            if group.parameters
        ]
        return torch.optim.AdamW(groups, weight_decay=0.0) if groups else None


def build(job: MeasurementJob, device: torch.device) -> BuiltCandidate:
    """Build the candidate of a job on ``device``, with random weights if the workload asks for them.

    Raises:
        UserError: the base model is not available.
        ValueError: the method cannot be applied to it.
    """
    base, kind = build_base(job.workload, device)
    inventory = Inventory.of(base)
    names = module_names(base)
    built = adapt(job, base, kind, device)
    if job.candidate.expression is None:
        return built
    method = find_method(job.candidate.expression).method
    return replace(built, ledger=_ledger(built.model, method, names, built.groups, inventory))


def adapt(
    job: MeasurementJob, base: PreTrainedModel, kind: ModelUse, device: torch.device | None = None
) -> BuiltCandidate:
    """Adapt a base model, in place, as a job has it; nothing is counted.

    Args:
        job: what is to be measured.
        base: the base model.
        kind: what it is used for.
        device: to which the adapted model is moved; ``None`` leaves it where it is.

    Raises:
        ValueError: the method cannot be applied to it.
    """
    names = module_names(base)
    if job.candidate.expression is None:
        base.requires_grad_(False)
        _let_gradient_through(base)
        return BuiltCandidate(base, base.config, kind, [], [], None, mergeable=False)
    method: Method[Any] = find_method(job.candidate.expression).method
    setting = method.setting_type.model_validate(job.candidate.setting)
    config = base.config
    model: nn.Module = method.adapt(base, names, setting)
    if device is not None:
        model = model.to(device)
    groups = method.parameter_groups(model, names, setting)
    _optimise_in_float32(model, groups)
    if job.workload.gradient_checkpointing:
        # As transformers' trainer does it in runs.
        cast(Any, model).activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    callbacks = method.callbacks(setting)
    return BuiltCandidate(model, config, kind, groups, callbacks, None, method.mergeable, method.reads_system_prompt)


def build_base(workload: Workload, device: torch.device) -> tuple[PreTrainedModel, ModelUse]:
    """Build the base model of a workload on ``device``; on ``meta``, without data.

    Raises:
        UserError: it is not available.
    """
    base_model = find_model(workload.base_model)
    kind = kind_of(base_model)
    head = Head(kind.auto_class, () if kind.generates else ("0", "1"))
    dtype = torch.float32 if workload.dtype in QUANTISED else getattr(torch, workload.dtype)
    torch.manual_seed(workload.seed)
    if workload.random_weights:
        with _default_dtype(dtype):
            base = base_model.skeleton(head, device=str(device))
    else:
        revision = base_model.weights.revision(RevisionLock(cache_folder() / "lock.json"))
        base = base_model.load(head, revision)
    # The dtype of a configuration takes precedence over torch's default.
    cast(nn.Module, base).to(device=device, dtype=dtype)
    head_names = module_names(base).head
    # As in runs, whose heads are made in float32.
    for name, module in base.named_modules():
        if name.rpartition(".")[2] in head_names:
            module.float()
    convert_base(base, workload.dtype, head_names)
    text = base.config.get_text_config()
    if getattr(text, "pad_token_id", 0) is None:
        # By it a classifier finds a text's last token, and generation fills up.
        end = text.eos_token_id
        text.pad_token_id = end[0] if isinstance(end, list) else end
    return base, kind


def _optimise_in_float32(model: nn.Module, groups: Sequence[ParameterGroup]) -> None:
    """Cast optimised parameters to at least 32 bits, as in runs.

    peft does so for its adapters, but not for heads or for trained parameters of the base model.
    """
    optimised = {id(parameter) for group in groups for parameter in group.parameters}
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        # The kernel of a norm needs weight and bias of the same dtype, although BitFit trains the bias only.
        together = all(parameter.ndim == 1 for parameter in own) and any(id(p) in optimised for p in own)
        for parameter in own:
            if together or id(parameter) in optimised:
                parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Build in ``dtype`` from the start: a model made in float32 and cast would need twice its memory."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _let_gradient_through(base: PreTrainedModel) -> None:
    def wants_gradient(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        output.requires_grad_(True)

    base.get_input_embeddings().register_forward_hook(wants_gradient)


def _ledger(
    model: nn.Module, method: Method[Any], names: ModuleNames, groups: Sequence[ParameterGroup], inventory: Inventory
) -> ParameterCounts:
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return count_parameters(model, method, names, groups, trainable, inventory)


class CallbackDriver:
    """Calls a method's callbacks as the trainer would, at the progress `Workload.at` of a training."""

    def __init__(
        self, adapted: BuiltCandidate, optimiser: torch.optim.Optimizer | None, at: float, folder: Path
    ) -> None:
        self._callbacks = adapted.callbacks
        self._objects = {"model": adapted.model, "optimizer": optimiser}
        on_cpu = next(adapted.model.parameters()).device.type == "cpu"
        self._arguments = TrainingArguments(str(folder), report_to="none", max_steps=WHOLE_TRAINING, use_cpu=on_cpu)
        self._state, self._control = TrainerState(max_steps=WHOLE_TRAINING), TrainerControl()
        for event in ("on_init_end", "on_train_begin"):
            self._tell(event)
        self._state.global_step = round(at * WHOLE_TRAINING)

    def begin(self) -> None:
        """Call ``on_step_begin``."""
        self._tell("on_step_begin")

    def before_optimiser(self) -> None:
        """There are gradients."""
        self._tell("on_pre_optimizer_step")

    def after_optimiser(self) -> None:
        """The optimiser has moved; gradients are still there."""
        self._tell("on_optimizer_step")

    def end(self) -> None:
        """The step is done."""
        self._state.global_step += 1
        self._tell("on_step_end")

    def _tell(self, event: str) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(self._arguments, self._state, self._control, **self._objects)
