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
from parbench.bench.train.checkpoints import COMPLETE

# Called after every optimiser step with the steps done, all steps, and the newest logged loss.
OnStep = Callable[[int, int, float | None], None]


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


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
