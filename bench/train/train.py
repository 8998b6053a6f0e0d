"""Trains an adapted model.

The loop is transformers' `Trainer`; only the loss is our own (see `TaskTrainer`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from parbench.bench.train.best_epoch import BestEpoch
from parbench.bench.train.callbacks import (
    Augmented,
    CountTrainable,
    EpochEnds,
    EpochStarts,
    KeepUnlogged,
    MarkComplete,
    OnStep,
    ReportProgress,
    StepClock,
    StopOnRequest,
)
from parbench.bench.train.checkpoints import COMPLETE, last_checkpoint
from parbench.bench.train.counted_logits import computes_some_logits
from parbench.bench.train.length_groups import most_groups
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.train.trainer import TaskTrainer
from parbench.methods.base import ParameterGroup
from parbench.tasks.base import Collate, Task
from parbench.tasks.inference import Rows
from parbench.tasks.kinds.language_model import LanguageModelTask


class StoppedError(RuntimeError):
    """Training was asked to stop, and has saved a checkpoint from which it resumes."""


@dataclass(frozen=True)
class Trained:
    """The result of a training besides the model.

    Attributes:
        steps: optimiser steps, including those before an interruption.
        seconds: wall clock of those steps.
        trainable: numbers that the last step could change, including the head's.
        history: the logged losses and learning rates, and the scores of every epoch if epochs are scored.
    """

    steps: int
    seconds: float
    trainable: int
    history: list[dict[str, float]]


@dataclass
class Job:
    """One training: what is trained, on what, and how.

    Attributes:
        data: prepared rows of the training split; other splits are visible here as scores only.
        workspace: folder for checkpoints; training resumes from the last complete one.
        stop: asked after every step whether to save and stop.
        rows_are_independent: whether a batch may go through the model in parts.
        best_epoch: scores the model after every epoch, where an epoch is chosen.
    """

    model: nn.Module
    groups: Sequence[ParameterGroup]
    callbacks: Sequence[TrainerCallback]
    task: Task
    data: Rows
    collate: Collate
    settings: TrainingSettings
    seed: int
    device: torch.device
    workspace: Path
    on_step: OnStep = field(default=lambda done, total, loss: None)
    stop: Callable[[], bool] = field(default=lambda: False)
    best_epoch: BestEpoch | None = None
    rows_are_independent: bool = True


def train(job: Job) -> Trained:
    """Train ``job.model`` in place; in 0 steps it stays as it is.

    Raises:
        DivergedError: the loss became infinite or NaN.
        StoppedError: ``job.stop`` returned true before the last step.
    """
    if job.settings.max_steps == 0:
        return Trained(0, 0.0, sum(p.numel() for p in job.model.parameters() if p.requires_grad), [])
    clock = StepClock()
    count = CountTrainable()
    epochs = [EpochEnds(job.best_epoch, _steps_per_epoch(job), clock)] if job.best_epoch else []
    starts = [EpochStarts(job.data, _steps_per_epoch(job))] if isinstance(job.data, Augmented) else []
    stopping = StopOnRequest(job.stop)
    trainer = TaskTrainer(
        model=job.model,
        args=_arguments(job),
        train_dataset=job.data,
        data_collator=job.collate,
        optimizers=(_optimiser(job), None),
        callbacks=[
            clock,
            count,
            ReportProgress(job.on_step),
            *starts,
            *epochs,
            stopping,
            *job.callbacks,
        ],
    )
    trainer.task_loss = partial(job.task.loss, label_smoothing=job.settings.label_smoothing)
    trainer.packing = job.settings.packing
    trainer.some_logits = _has_token_loss(job.task) and computes_some_logits(job.model)
    if job.rows_are_independent:
        trainer.most_groups = most_groups(job.settings.length_groups, job.device)
    # Printing is left to the command line.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    checkpoint = last_checkpoint(job.workspace)
    trainer.add_callback(KeepUnlogged(trainer, checkpoint))
    trainer.add_callback(MarkComplete(clock))
    if checkpoint is not None:
        clock.seconds_before = json.loads((checkpoint / COMPLETE).read_text())["seconds"]
    if job.best_epoch:
        job.best_epoch.begin(checkpoint, trainer.args.max_steps)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.raise_if_diverged()
    if stopping.stopped:
        raise StoppedError(f"stopped at step {trainer.state.global_step}")
    return Trained(trainer.state.global_step, clock.seconds, count.numbers, _history(trainer, job.best_epoch))


def _history(trainer: TaskTrainer, best_epoch: BestEpoch | None) -> list[dict[str, float]]:
    """Return the logged losses and the scores of epochs, in the order of the steps."""
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    # A checkpoint has its entries sorted by name.
    entries = [dict(sorted(entry.items())) for entry in (*logged, *(best_epoch.history if best_epoch else ()))]
    return sorted(entries, key=lambda entry: entry["step"])


def _has_token_loss(task: Task) -> bool:
    """Return whether the loss is that of each labelled token by itself."""
    return isinstance(task, LanguageModelTask) and type(task).loss is LanguageModelTask.loss


# transformers' names: its "constant" has no warm-up.
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def _warmup_steps(settings: TrainingSettings, steps: int) -> int:
    return round(settings.warmup_ratio * steps) if settings.warmup_steps is None else settings.warmup_steps


def _arguments(job: Job) -> TrainingArguments:
    settings = job.settings
    steps = settings.steps(_steps_per_epoch(job))
    arguments = TrainingArguments(
        output_dir=str(job.workspace),
        max_steps=steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        max_grad_norm=settings.max_gradient_norm,
        warmup_steps=_warmup_steps(settings, steps),
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        bf16=settings.precision == "bfloat16",
        seed=job.seed,
        data_seed=job.seed,
        use_cpu=job.device.type == "cpu",
        logging_steps=max(1, steps // 50),
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        label_names=["labels"],
    )
    if job.device.type == "cuda":
        keep_to(job.device, arguments)
    return arguments


def _steps_per_epoch(job: Job) -> int:
    return -(-len(job.data) // (job.settings.batch_size * job.settings.gradient_accumulation))


def _optimiser(job: Job) -> torch.optim.Optimizer:
    groups = [
        {
            "params": list(group.parameters),
            "lr": group.learning_rate,
            "weight_decay": job.settings.weight_decay if group.weight_decay is None else group.weight_decay,
            "name": group.name,
        }
        for group in job.groups
        if group.parameters
    ]
    return torch.optim.AdamW(groups)


def keep_to(device: torch.device, arguments: TrainingArguments) -> None:
    """Make the trainer use ``device`` only; by default it starts on the first and replicates the model on all."""
    torch.cuda.set_device(device.index or 0)
    # A cached property of the arguments, which would otherwise choose the device.
    vars(arguments)["_setup_devices"] = torch.device("cuda", device.index or 0)
    arguments._n_gpu = 1
