"""Builds what is trained: seeds the generators, loads the base model and puts the adapter on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, set_seed

from parbench.bench.train.prepare import PreparedData, task_for_method, training_inputs
from parbench.bench.train.resolved_run import ResolvedRun
from parbench.bench.util.base_precision import BasePrecision
from parbench.methods.architecture import ModuleNames, module_names
from parbench.methods.base import ParameterGroup
from parbench.tasks.base import Collate, Task
from parbench.tasks.inference import Predictor, Rows
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.kinds.system_prompt import SystemPrompts


@dataclass(frozen=True)
class AdaptedModel:
    """A base model under an adapter, with everything that its training takes.

    Attributes:
        task: the task in the form that the method reads.
        model: the adapted model, on its device.
        names: module names of the base model.
        groups: every parameter that is ever optimised.
        callbacks: the method's own steps during training.
        inputs: the rows to train on.
        collate: makes a batch of those rows.
        predictor: applies the model.
        prompts: the task's system prompts, if the method reads them.
    """

    task: Task
    model: nn.Module
    names: ModuleNames
    groups: Sequence[ParameterGroup]
    callbacks: Sequence[TrainerCallback]
    inputs: Rows
    collate: Collate
    predictor: Predictor
    prompts: SystemPrompts | None


def load_base(run: ResolvedRun) -> PreTrainedModel:
    """Seed all random generators with the run's seed and load the base model, whose new head is the first draw."""
    set_seed(run.spec.seed)
    return _base_model(run)


def adapt(
    run: ResolvedRun, base: PreTrainedModel, data: PreparedData, device: torch.device, on_batch: Callable[[int], None]
) -> AdaptedModel:
    """Put the method's adapter on ``base``, which is changed in place and moved to ``device``.

    Args:
        run: the run.
        base: what `load_base` returned.
        data: the data of the run.
        device: where to train.
        on_batch: called after every batch of an evaluation with its number of rows.

    Raises:
        ValueError: the method cannot be applied to this architecture.
    """
    method, setting, task = run.method, run.setting, task_for_method(run)
    names = module_names(base)
    model = method.adapt(base, names, setting).to(device)
    groups = method.parameter_groups(model, names, setting)
    collate = task.collate(data.processor)
    prompts = None
    if method.reads_system_prompt:
        prompts = SystemPrompts(cast(LanguageModelTask, task), method.prompt_encoder(setting, data.processor))
    return AdaptedModel(
        task=task,
        model=model,
        names=names,
        groups=groups,
        callbacks=method.callbacks(setting),
        inputs=training_inputs(run, data, prompts),
        collate=prompts.collate(collate) if prompts else collate,
        predictor=Predictor(
            model,
            data.processor,
            collate,
            run.training.evaluation_batch_size,
            device,
            run.training.precision,
            on_batch,
            base=lambda: cast(nn.Module, _base_model(run)).to(device),
        ),
        prompts=prompts,
    )


def _base_model(run: ResolvedRun) -> PreTrainedModel:
    precision = cast(BasePrecision, run.spec.base_precision)
    return run.base_model.load(run.task.head, run.spec.model_revision, precision)
