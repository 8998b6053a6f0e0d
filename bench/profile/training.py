"""Measures a training step and its three phases."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from parbench.bench.profile.build import BuiltCandidate, CallbackDriver
from parbench.bench.profile.energy import Meter, obstacle
from parbench.bench.profile.flops import breakdown, count_flops, saved_tensors
from parbench.bench.profile.inputs import Batch, on_device
from parbench.bench.profile.measurement import (
    BACKWARD,
    DEQUANTISE,
    FORWARD,
    OPTIMISER,
    STEP,
    STEP_PROCESSOR,
    Breakdown,
    Span,
)
from parbench.bench.train.settings import TrainingSettings
from parbench.methods.quantisation import quantised_layers
from parbench.tasks.inference import autocast
from parbench.tasks.kinds.language_model import next_token_loss

if TYPE_CHECKING:
    from pathlib import Path

    from parbench.bench.profile.clock import Recorder
    from parbench.bench.profile.workload import MeasurementJob, Workload

# Minimum duration of an energy measurement: how often the driver updates its counter is not documented.
ENERGY_SECONDS = 2.0
# The default norm that runs clip gradients to.
CLIPPED_TO = TrainingSettings.model_fields["max_gradient_norm"].default


@dataclass
class Stepper:
    """Carries out training steps."""

    adapted: BuiltCandidate
    optimiser: torch.optim.Optimizer | None
    steps: CallbackDriver
    precision: str

    @classmethod
    def of(cls, adapted: BuiltCandidate, workload: Workload, folder: Path) -> Self:
        """Return what trains a candidate as a workload says; callbacks may write into the folder."""
        optimiser = adapted.optimiser()
        driver = CallbackDriver(adapted, optimiser, workload.at, folder)
        return cls(adapted, optimiser, driver, workload.forward_precision)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a batch on the model's device, after the method's callbacks before a step."""
        self.steps.begin()
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        with autocast(batch["labels"].device, self.precision):
            outputs = self.adapted.model(**inputs)
        auxiliary = getattr(outputs, "auxiliary_loss", None)
        loss = self._loss(outputs.logits, batch["labels"])
        return loss if auxiliary is None else loss + auxiliary.to(loss.device)

    def _loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.adapted.kind.generates:
            return next_token_loss(logits, labels)
        return nn.functional.cross_entropy(logits.float(), labels)

    def step(self) -> None:
        """Clip the gradients, take the optimiser step with the method's callbacks, and free the gradients."""
        if self.optimiser is not None:
            nn.utils.clip_grad_norm_(self.adapted.optimised, CLIPPED_TO)
            self.steps.before_optimiser()
            self.optimiser.step()
            self.steps.after_optimiser()
        self.free()
        self.steps.end()

    def free(self) -> None:
        """Free the gradients."""
        self.adapted.model.zero_grad(set_to_none=True)


def measure_training(
    stepper: Stepper, batches: Sequence[Batch], recorder: Recorder, job: MeasurementJob
) -> float | None:
    """Measure time and memory of training steps; return the joules of one step, if requested and reported."""
    effort = job.effort
    placed = on_device(batches, recorder.device)
    stepper.adapted.model.train()
    with recorder.phase("warm-up"):
        _timed(stepper, placed, recorder, effort.warm_up)
    timed = _timed(stepper, placed, recorder, effort.steps)
    recorder.clock.wait()
    for of_step, processor in timed:
        parts = recorder.clock.between(of_step)
        for name, seconds in zip((FORWARD, BACKWARD, OPTIMISER), parts, strict=True):
            recorder.add(name, [seconds])
        recorder.add(STEP, [sum(parts)])
        if recorder.device.type == "cpu":
            recorder.add(STEP_PROCESSOR, [processor])
            ends = zip((FORWARD, BACKWARD, OPTIMISER), of_step, of_step[1:], strict=False)
            recorder.spans += [Span(name, begin, end) for name, begin, end in ends]
    if recorder.device.type == "cuda":
        _note_peaks(stepper, placed[0], recorder)
    with recorder.phase(STEP):
        stepper.forward(placed[0]).backward()
        stepper.step()
    _measure_dequantising(stepper.adapted.model, recorder, effort.steps)
    return _joules(stepper, placed, recorder, recorder.seconds.get(STEP, [])) if job.counts else None


def _measure_dequantising(model: nn.Module, recorder: Recorder, repetitions: int) -> None:
    """Measure how long it takes to dequantise all quantised weights once; nothing is done where there are none."""
    layers = [layer for _, layer in quantised_layers(model)]
    for _ in range(repetitions if layers else 0):
        with recorder.phase(DEQUANTISE, timed=True):
            for layer in layers:
                layer.dequantised()


def _joules(stepper: Stepper, batches: Sequence[Batch], recorder: Recorder, steps: Sequence[float]) -> float | None:
    """Return the joules of one training step, averaged over `ENERGY_SECONDS`; ``None`` if the device reports none.

    Args:
        steps: seconds of each timed step.
    """
    if recorder.device.type != "cuda" or not steps or obstacle(recorder.device) is not None:
        return None
    count = max(len(steps), math.ceil(ENERGY_SECONDS / statistics.median(steps)))
    with Meter(recorder.device) as meter:
        _timed(stepper, batches, recorder, count)
        recorder.clock.wait()
    return None if meter.joules is None else meter.joules / count


def count_training(stepper: Stepper, batch: Batch, device: torch.device) -> tuple[Breakdown, dict[str, int]]:
    """Count the tensors of one training step and the operations of its forward and backward pass.

    The optimiser must have taken a step before, since its state is created by the first step.
    """
    (batch,) = on_device([batch], device)
    stepper.adapted.model.train()
    with saved_tensors(stepper.adapted.model) as kept:
        loss = stepper.forward(batch)
    loss.backward()
    counted = breakdown(stepper.adapted, stepper.optimiser, kept.bytes)
    stepper.step()
    losses: list[torch.Tensor] = []
    forward = count_flops(lambda: losses.append(stepper.forward(batch)))
    backward = count_flops(lambda: losses[0].backward())
    stepper.free()
    return counted, {FORWARD: forward, BACKWARD: backward, STEP: forward + backward}


def trace_training(stepper: Stepper, batch: Batch, device: torch.device, path: str) -> None:
    """Write a trace of one training step, for a browser's tracing page or Perfetto."""
    from torch.profiler import ProfilerActivity, profile

    (batch,) = on_device([batch], device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities, profile_memory=True, record_shapes=True) as traced:
        stepper.forward(batch).backward()
        stepper.step()
    traced.export_chrome_trace(path)


def _timed(stepper: Stepper, batches: Sequence[Batch], recorder: Recorder, count: int) -> list[tuple[list[Any], float]]:
    """Carry out steps; return the four marks of each, and the CPU time.

    Nothing else happens between the marks, not even a synchronisation.
    """
    mark = recorder.clock.mark
    timed: list[tuple[list[Any], float]] = []
    for batch in islice(cycle(batches), count):
        before = time.process_time()
        of_step = [mark()]
        loss = stepper.forward(batch)
        of_step.append(mark())
        loss.backward()
        of_step.append(mark())
        stepper.step()
        of_step.append(mark())
        timed.append((of_step, time.process_time() - before))
    return timed


def _note_peaks(stepper: Stepper, batch: Batch, recorder: Recorder) -> None:
    """Carry out an untimed step, with the accelerator's peaks reset between phases, which would disturb a timed one."""
    with recorder.phase(FORWARD):
        loss = stepper.forward(batch)
    with recorder.phase(BACKWARD):
        loss.backward()
    del loss
    with recorder.phase(OPTIMISER):
        stepper.step()
