"""Predicts the memory of training a method on a base model, before anything is loaded.

The adapted model is built without data: every tensor has its shape, its dtype and its device, and no memory. A training
step is carried out on it, and the bytes of the tensors that are alive are counted all the while, see
`parbench.bench.profile.live_bytes`. So whatever a method keeps, and however long, is in the count. What a process takes
for them on a CPU follows from where malloc puts them, see `parbench.bench.profile.heap`; what no tensor shows is added
as measured, see `OVERHEAD_BYTES` and `UNSEEN`.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from parbench.bench.profile.build import BuiltCandidate, adapt, build_base
from parbench.bench.profile.inputs import Batch, make_batches, with_system_prompts
from parbench.bench.profile.live_bytes import LiveBytes
from parbench.bench.profile.measurement import Breakdown
from parbench.bench.profile.training import Stepper
from parbench.bench.profile.without_data import (
    GroupedProducts,
    convertible,
    on_cpu,
    pack,
    prepare_packing,
    trust_places_of_images,
)
from parbench.bench.profile.workload import Candidate, MeasurementJob, Workload
from parbench.bench.util.base_precision import QUANTISED
from parbench.bench.util.errors import UserError
from parbench.methods.quantisation import statistics_bytes

# Of a process that computes: code that is loaded late; measured, see bench/profile/PERFORMANCE.md.
OVERHEAD_BYTES = 48 * 2**20
# Where importing the libraries leaves malloc's bound, see `parbench.bench.profile.heap.Heap`; measured likewise.
IMPORTED_BOUND = 3772 * 2**10
# What kernels use inside themselves, and objects that are no tensors, as a share of the tensors that a step adds to
# those of the loaded model; fitted there.
UNSEEN = 0.15
# Of methods, and of operations that have no result without data.
_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError)
# The first step makes the optimiser's state.
_STEPS = 2


@dataclass(frozen=True)
class PredictedMemory:
    """The memory of a training step, in bytes.

    Attributes:
        parts: by purpose; ``activations`` is all that is alive between the forward and the backward pass and was not
            before.
        load: the most that is alive while the model is built and adapted.
        step: the most that is alive during a step, the optimiser's state included.
        loaded: what is alive before the first step.
        heap: the most that glibc's default allocator takes for these tensors, see `parbench.bench.profile.heap`.
    """

    parts: Breakdown
    load: int
    step: int
    loaded: int
    heap: int

    @property
    def peak(self) -> int:
        """The most that is alive at any time."""
        return max(self.load, self.step)

    @property
    def process(self) -> int:
        """What a process on the CPU takes above its start-up."""
        return OVERHEAD_BYTES + self.heap + round(UNSEEN * (self.step - self.loaded))


class CannotPredictError(ValueError):
    """The memory cannot be predicted: one sentence."""


def predict_memory(candidate: Candidate, workload: Workload) -> PredictedMemory:
    """Predict the memory of training a candidate; nothing is loaded or downloaded but the configuration.

    Args:
        candidate: a method with a setting, or the frozen floor.
        workload: base model, batch, length, dtype and progress of the training; its device is the CPU.

    Raises:
        UserError: the base model is not known and its configuration cannot be had.
        CannotPredictError: the method cannot be applied to the model, or computes with the data of tensors.
    """
    job = MeasurementJob(candidate, replace(workload, random_weights=True, device="cpu"), counts=False)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="parbench-predict-") as folder:
        # Warnings of a method are given where it is trained.
        warnings.simplefilter("ignore")
        base, kind = build_base(job.workload, torch.device("meta"))
        batches = make_batches(base.config, kind, job.workload, 1)
        mode = FakeTensorMode(allow_non_fake_inputs=True)
        on_cpu(base, mode)
        trust_places_of_images(base)
        prepare_packing(workload.dtype)
        with (
            torch.random.fork_rng(devices=[]),
            convertible(),
            _silent(),
            mode,
            GroupedProducts(),
            LiveBytes(IMPORTED_BOUND) as live,
        ):
            try:
                for tensor in (*base.parameters(), *base.buffers()):
                    live.add(tensor)
                if workload.dtype in QUANTISED:
                    pack(base, workload.dtype)
                adapted = adapt(job, base, kind)
                batch = _batch(adapted, batches, job.workload, mode)
                return _training(adapted, batch, live, workload, Path(folder))
            except _ERRORS as error:
                reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
                name = candidate.name
                raise CannotPredictError(f"the memory of {name} on {workload.base_model}: {reason}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep torch from printing the stack of an operation that has no result without data: the error says it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _batch(adapted: BuiltCandidate, batches: list[Batch], workload: Workload, mode: FakeTensorMode) -> Batch:
    """Return a batch without data, of those that a real training would have."""
    if adapted.reads_system_prompt:
        batches = with_system_prompts(batches, adapted.reader.reader_config, workload)
    (batch,) = batches
    if workload.padding == 0 and not getattr(adapted.config, "is_encoder_decoder", False):
        # A mask without padding is dropped by the model, which for that looks at its values.
        batch = {name: tensor for name, tensor in batch.items() if name != "attention_mask"}
    return {name: mode.from_tensor(tensor) for name, tensor in batch.items()}


def _training(
    adapted: BuiltCandidate, batch: Batch, live: LiveBytes, workload: Workload, folder: Path
) -> PredictedMemory:
    stepper = Stepper.of(adapted, workload, folder)
    adapted.model.train()
    load, loaded = live.peak, live.now
    for tensor in batch.values():
        live.add(tensor)
    moments: dict[int, list[torch.Tensor]] = {}
    kept = gradients = 0
    for _ in range(_STEPS):
        live.restart()
        before = live.now
        with live.recording():
            loss = stepper.forward(batch)
        kept = live.now - before
        loss.backward()
        gradients = _bytes([p.grad for p in adapted.model.parameters() if p.grad is not None])
        _optimise(adapted.optimised, moments)
        stepper.free()
        del loss
    optimised = {id(parameter) for parameter in adapted.optimised}
    parts = Breakdown(
        weights=_bytes([t for t in (*adapted.model.parameters(), *adapted.model.buffers()) if id(t) not in optimised])
        + statistics_bytes(adapted.model),
        adapter=_bytes([p for group in adapted.groups if not group.is_head for p in group.parameters]),
        head=_bytes([p for group in adapted.groups if group.is_head for p in group.parameters]),
        gradients=gradients,
        optimiser=_bytes([moment for both in moments.values() for moment in both]),
        activations=kept,
    )
    return PredictedMemory(parts, load, live.peak, loaded, live.heap.peak)


def _optimise(parameters: Sequence[nn.Parameter], moments: dict[int, list[torch.Tensor]]) -> None:
    """Do to memory what AdamW's step does: two moments of each parameter stay, and two temporary tensors do not.

    AdamW itself looks at the number of its steps, which has no data.
    """
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is None:
                continue
            if id(parameter) not in moments:
                moments[id(parameter)] = [torch.zeros_like(parameter), torch.zeros_like(parameter)]
            _, second = moments[id(parameter)]
            denominator = (second.sqrt() / 1.0).add_(1e-8)
            parameter.addcdiv_(second, denominator)


def _bytes(tensors: Sequence[Any]) -> int:
    """Return the bytes of tensors; those that share memory are counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def predicted_or_why(candidate: Candidate, workload: Workload) -> PredictedMemory | str:
    """Return the predicted memory, or in a sentence why there is no prediction."""
    try:
        return predict_memory(candidate, workload)
    except (CannotPredictError, UserError, ValidationError) as error:
        return " ".join(str(error).split())
