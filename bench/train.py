"""Trains an adapted model and applies it: everything here changes results, so its source is part of a run's identity.

The loop is transformers' `Trainer`; only the loss is our own (see `TaskTrainer`).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from bench.epochs import BestEpoch
from bench.errors import DivergedError
from bench.training import TrainingSettings
from methods.base import ParameterGroup
from tasks.base import Collate, Task
from tasks.inference import IGNORED, Rows

# Called after every optimiser step with the steps done, all steps, and the newest logged loss.
OnStep = Callable[[int, int, float | None], None]

# Written into a checkpoint after everything else: one without it was cut off while being saved.
COMPLETE = "complete.json"


class StoppedError(RuntimeError):
    """Training was asked to stop, and has saved a checkpoint to go on from."""


@dataclass(frozen=True)
class Trained:
    """What training leaves besides the model.

    Attributes:
        steps: optimiser steps, those before an interruption included.
        seconds: wall clock of those steps.
        trainable: numbers that the last step could change, the head's included.
        history: the logged losses and learning rates, and the scores of every epoch where there are some.
    """

    steps: int
    seconds: float
    trainable: int
    history: list[dict[str, float]]


@dataclass
class Job:
    """One training: what is trained, on what, and how.

    Attributes:
        data: prepared rows of the training split; of other splits, nothing but scores ever gets here.
        workspace: folder for checkpoints; a complete one found there is resumed from.
        stop: asked after every step whether to save and stop.
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


def train(job: Job) -> Trained:
    """Train ``job.model`` in place.

    Raises:
        DivergedError: the loss became infinite or no number.
        StoppedError: ``job.stop`` said so before the last step.
    """
    clock = _Clock()
    count = _CountTrainable()
    epochs = [_EpochEnds(job.best_epoch, _steps_per_epoch(job), clock)] if job.best_epoch else []
    starts = [_EpochStarts(job.data, _steps_per_epoch(job))] if isinstance(job.data, Augmented) else []
    stopping = _Stopping(job.stop)
    trainer = TaskTrainer(
        model=job.model,
        args=_arguments(job),
        train_dataset=job.data,
        data_collator=job.collate,
        optimizers=(_optimiser(job), None),
        callbacks=[clock, count, _Progress(job.on_step), *starts, *epochs, stopping, *job.callbacks, _Complete(clock)],
    )
    trainer.task_loss = partial(job.task.loss, label_smoothing=job.settings.label_smoothing)
    # What is printed is the command line's business.
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    checkpoint = last_checkpoint(job.workspace)
    if checkpoint is not None:
        clock.seconds_before = json.loads((checkpoint / COMPLETE).read_text())["seconds"]
    if job.best_epoch:
        job.best_epoch.begin(checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.raise_if_diverged()
    if stopping.stopped:
        raise StoppedError(f"stopped at step {trainer.state.global_step}")
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    if job.best_epoch:
        history = sorted([*history, *job.best_epoch.history], key=lambda entry: entry["step"])
    return Trained(trainer.state.global_step, clock.seconds, count.numbers, history)


def last_checkpoint(workspace: Path) -> Path | None:
    """Return the newest checkpoint that was saved to the end; delete those that were not."""
    complete: list[Path] = []
    for folder in workspace.glob("checkpoint-*"):
        if (folder / COMPLETE).is_file():
            complete.append(folder)
        else:
            shutil.rmtree(folder)
    return max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)


class TaskTrainer(Trainer):
    """A `Trainer` with the task's own loss.

    transformers' classification heads ignore the number of items of an accumulated batch, while `Trainer` relies on
    them to divide by it: loss and gradients come out multiplied by the accumulation steps for some architectures and
    not for others. With the loss computed here, as a mean over the labels of all forward passes of an optimiser step,
    all agree, whether a batch is accumulated or not, and however its labels are spread over the forward passes.
    """

    loss_is_scaled_for_ga = True
    task_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        # Kept on the device, so that watching the loss costs no synchronisation.
        self._first_bad_step = torch.full((), -1, device=self.args.device)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the task's loss over the forward pass's labels, as a share of that over all ``num_items_in_batch``.

        To it comes the method's own loss, if the outputs have one (see `methods.base.Method`).
        """
        labels = inputs["labels"]
        outputs = model(**{name: tensor for name, tensor in inputs.items() if name != "labels"})
        loss = self.task_loss(outputs.logits, labels)
        if (auxiliary := getattr(outputs, "auxiliary_loss", None)) is not None:
            loss = loss + auxiliary.to(loss.device)
        if num_items_in_batch is not None:
            loss = loss * (_count_labels(labels) / num_items_in_batch)
        bad = ~torch.isfinite(loss.detach()) & (self._first_bad_step < 0)
        self._first_bad_step = torch.where(bad, self.state.global_step + 1, self._first_bad_step)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        """Return the batches of one optimiser step: none where a training is resumed from its very last one.

        `Trainer` would do one step too many before it finds out that nothing is left to do.
        """
        if self.state.global_step >= self.state.max_steps:
            return [], None
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> torch.Tensor:
        # transformers counts only for models that take the count, and otherwise divides by the number of passes.
        return torch.stack([_count_labels(batch["labels"]) for batch in batch_samples]).sum().to(device)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Save a checkpoint under the names that it is read back by.

        ``save_pretrained`` writes some architectures (ViT, DINOv2) under the names of older versions, for the hub's
        sake; `Trainer` resumes by today's, and leaves what it does not find as it is, with no more than a warning.
        """
        if isinstance(self.model, PreTrainedModel):
            save = self.model.save_pretrained
            self.model.save_pretrained = partial(save, save_original_format=False)  # type: ignore[method-assign]
            try:
                super()._save(output_dir, state_dict)
            finally:
                del self.model.save_pretrained
        else:
            super()._save(output_dir, state_dict)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, and stop a run whose loss is no longer a number."""
        self.raise_if_diverged()
        super().log(logs, start_time)

    def raise_if_diverged(self) -> None:
        """Raise where a loss was not finite.

        Raises:
            DivergedError: names the optimiser step.
        """
        step = int(self._first_bad_step)
        if step >= 0:
            raise DivergedError(f"the loss was not finite at step {step}")


class _Clock(TrainerCallback):
    """Measures the optimiser steps."""

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self._started = 0.0
        self._stopped: float | None = None

    @property
    def seconds(self) -> float:
        end = time.perf_counter() if self._stopped is None else self._stopped
        return self.seconds_before + end - self._started

    @contextmanager
    def stopped(self, device: torch.device) -> Iterator[None]:
        """Leave the time of the block out."""
        _wait_for(device)
        start = time.perf_counter()
        yield
        self.seconds_before -= time.perf_counter() - start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._started = time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        _wait_for(args.device)
        self._stopped = time.perf_counter()


class _Complete(TrainerCallback):
    """Marks checkpoints as complete, with the time so far. The last callback: methods add to checkpoints too."""

    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        (_checkpoint(args, state) / COMPLETE).write_text(json.dumps({"seconds": self._clock.seconds}))


@runtime_checkable
class Augmented(Protocol):
    """Rows that are different in every epoch; see `Task.augmented`."""

    def set_epoch(self, epoch: int) -> None:
        """Tell which epoch begins."""


class _EpochStarts(TrainerCallback):
    """Tells the data its epoch. accelerate does as well, but not in the epoch in whose middle a training is resumed."""

    def __init__(self, data: Augmented, steps: int) -> None:
        self._data = data
        self._steps = steps

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._data.set_epoch(state.global_step // self._steps)


class _EpochEnds(TrainerCallback):
    """Tells when an epoch ends: before a checkpoint of the same step, which the trainer's own event comes after."""

    def __init__(self, best_epoch: BestEpoch, steps: int, clock: _Clock) -> None:
        self._best_epoch = best_epoch
        self._steps = steps
        self._clock = clock

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step = state.global_step
        if step % self._steps == 0 or step == state.max_steps:
            with self._clock.stopped(args.device):
                self._best_epoch.after_epoch(step, step / self._steps)
            if self._best_epoch.is_over:
                control.should_training_stop = True
                # A training resumed from here would do one more step before it found out that it is over.
                control.should_save = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._best_epoch.into_checkpoint(_checkpoint(args, state))


class _Stopping(TrainerCallback):
    """Saves and ends the training when asked to. What is over anyway is not stopped."""

    stopped = False

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not control.should_training_stop and self._stop():
            self.stopped = control.should_save = control.should_training_stop = True


class _CountTrainable(TrainerCallback):
    """Counts what is trainable before a method's own callbacks tidy up after the last step."""

    numbers = 0

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.numbers = sum(p.numel() for p in kwargs["model"].parameters() if p.requires_grad)


class _Progress(TrainerCallback):
    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        losses = [entry["loss"] for entry in state.log_history[-1:] if "loss" in entry]
        self._on_step(state.global_step, state.max_steps, losses[-1] if losses else None)


# transformers' names: its "constant" has no warm-up.
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def _warmup_steps(settings: TrainingSettings, steps: int) -> int:
    return round(settings.warmup_ratio * steps) if settings.warmup_steps is None else settings.warmup_steps


def _arguments(job: Job) -> TrainingArguments:
    settings = job.settings
    steps = settings.max_steps or max(1, round((settings.epochs or 0.0) * _steps_per_epoch(job)))
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
        _keep_to(job.device, arguments)
    return arguments


def _keep_to(device: torch.device, arguments: TrainingArguments) -> None:
    """Have the trainer use one accelerator; by itself it takes the first, and spreads the model over all it sees."""
    torch.cuda.set_device(device.index or 0)
    # What the arguments work out of the machine when they are first asked, and keep under this name.
    vars(arguments)["_setup_devices"] = torch.device("cuda", device.index or 0)
    arguments._n_gpu = 1


def _count_labels(labels: torch.Tensor) -> torch.Tensor:
    """Return the labels that the loss counts; of a sequence, nothing predicts the first."""
    return ((labels if labels.dim() == 1 else labels[:, 1:]) != IGNORED).sum()


def _steps_per_epoch(job: Job) -> int:
    return -(-len(job.data) // (job.settings.batch_size * job.settings.gradient_accumulation))


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


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
