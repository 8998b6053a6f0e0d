"""Callbacks of a training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from parbench.bench.train.best_epoch import BestEpoch
from parbench.bench.train.checkpoints import COMPLETE, UNLOGGED
from parbench.bench.train.trainer import TaskTrainer, Unlogged

# Called after every optimiser step with the steps done, all steps, and the last logged loss.
OnStep = Callable[[int, int, float | None], None]


class StepClock(TrainerCallback):
    """Measures the wall clock of the optimiser steps.

    Attributes:
        seconds_before: seconds of the earlier parts of an interrupted training, less those left out by `stopped`.
    """

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self._started = 0.0
        self._stopped: float | None = None

    @property
    def seconds(self) -> float:
        """The seconds so far."""
        end = time.perf_counter() if self._stopped is None else self._stopped
        return self.seconds_before + end - self._started

    @contextmanager
    def stopped(self, device: torch.device) -> Iterator[None]:
        """Leave out the time of the block."""
        _wait_for(device)
        start = time.perf_counter()
        yield
        self.seconds_before -= time.perf_counter() - start

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop the clock."""
        _wait_for(args.device)
        self._stopped = time.perf_counter()


class KeepUnlogged(TrainerCallback):
    """Keeps in checkpoints the losses that were not logged yet, so that the history does not show an interruption.

    Args:
        checkpoint: what the training resumes from, if it does.
    """

    def __init__(self, trainer: TaskTrainer, checkpoint: Path | None) -> None:
        self._trainer = trainer
        self._checkpoint = checkpoint

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take up what the checkpoint has kept."""
        if self._checkpoint is not None:
            kept = json.loads((self._checkpoint / UNLOGGED).read_text(encoding="utf-8"))
            self._trainer.go_on_from(Unlogged(**kept))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep them."""
        unlogged = json.dumps(self._trainer.unlogged()._asdict())
        (_checkpoint(args, state) / UNLOGGED).write_text(unlogged, encoding="utf-8")


class MarkComplete(TrainerCallback):
    """Marks checkpoints as complete, with the time so far. It comes last, because methods add files of their own."""

    def __init__(self, clock: StepClock) -> None:
        self._clock = clock

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the mark."""
        (_checkpoint(args, state) / COMPLETE).write_text(json.dumps({"seconds": self._clock.seconds}))


@runtime_checkable
class Augmented(Protocol):
    """Rows that differ between epochs; see `Task.augmented`."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0."""


class EpochStarts(TrainerCallback):
    """Sets the epoch of augmented data; accelerate does not for the epoch in which a training is resumed."""

    def __init__(self, data: Augmented, steps: int) -> None:
        self._data = data
        self._steps = steps

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set it."""
        self._data.set_epoch(state.global_step // self._steps)


class EpochEnds(TrainerCallback):
    """Scores the model when an epoch ends: before a checkpoint of that step, unlike the trainer's own event."""

    def __init__(self, best_epoch: BestEpoch, steps: int, clock: StepClock) -> None:
        self._best_epoch = best_epoch
        self._steps = steps
        self._clock = clock

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Score the model at the last step of an epoch, and stop where patience ends."""
        step = state.global_step
        if step % self._steps == 0 or step == state.max_steps:
            with self._clock.stopped(args.device):
                self._best_epoch.after_epoch(step, step / self._steps)
            if self._best_epoch.is_over:
                control.should_training_stop = True
                # A training resumed from this step would do one more before it stops.
                control.should_save = False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the best epoch so far to the checkpoint."""
        self._best_epoch.into_checkpoint(_checkpoint(args, state))


class StopOnRequest(TrainerCallback):
    """Saves and ends the training when ``stop`` returns true, unless the training is over at this step."""

    stopped = False

    def __init__(self, stop: Callable[[], bool]) -> None:
        self._stop = stop

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Ask."""
        if not control.should_training_stop and self._stop():
            self.stopped = control.should_save = control.should_training_stop = True


class CountTrainable(TrainerCallback):
    """Counts the trainable numbers after the last step, before a method's own callbacks change what is trainable."""

    numbers = 0

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count them."""
        self.numbers = sum(p.numel() for p in kwargs["model"].parameters() if p.requires_grad)


class ReportProgress(TrainerCallback):
    """Passes on the number of each step and the last logged loss."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Pass them on."""
        losses = [entry["loss"] for entry in state.log_history[-1:] if "loss" in entry]
        self._on_step(state.global_step, state.max_steps, losses[-1] if losses else None)


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
