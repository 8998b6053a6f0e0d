"""Carries out one measurement job in the current process."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.profile.measurement import INFERENCE, LOAD, SPECIALISE, Measurement
from parbench.bench.profile.workload import MeasurementJob
from parbench.bench.record.failures import classify
from parbench.bench.record.run_record import Status
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    import torch

    from parbench.bench.profile.build import BuiltCandidate
    from parbench.bench.profile.clock import Recorder

# Number of different batches; more would only take memory.
MOST_BATCHES = 8


def measure(order: MeasurementJob, device: torch.device) -> Measurement:
    """Carry out a job in this process and return everything measured up to its end or to a failure."""
    from parbench.bench.profile.clock import Recorder
    from parbench.bench.util import environment

    visit = Measurement(order, hardware=environment.hardware(device))
    recorder = Recorder(device)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="parbench-profile-") as folder:
        warnings.simplefilter("ignore")
        try:
            _measure(visit, recorder, Path(folder))
        except Exception as error:  # a failed candidate is a row; the others continue
            visit.status, visit.reason = _cause(error)
    visit.spans, visit.seconds = recorder.spans, recorder.seconds
    return visit


def _measure(visit: Measurement, recorder: Recorder, folder: Path) -> None:
    import torch

    from parbench.bench.profile import inference as serving
    from parbench.bench.profile.build import CallbackDriver, build
    from parbench.bench.profile.energy import obstacle
    from parbench.bench.profile.inputs import checksum, make_batches, with_system_prompts
    from parbench.bench.profile.training import Stepper, count_training, measure_training, trace_training

    order, device = visit.order, recorder.device
    workload, effort = order.workload, order.effort
    if order.limit_bytes is not None and device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, order.limit_bytes / whole), device)
    with recorder.phase(LOAD, timed=True):
        adapted = build(order, device)
    visit.ledger = adapted.ledger
    batches = make_batches(adapted.config, adapted.kind, workload, min(MOST_BATCHES, max(1, effort.steps)))
    visit.batches = checksum(batches)
    trained = batches
    if adapted.reads_system_prompt:
        trained = with_system_prompts(batches, adapted.reader.reader_config, workload)
        visit.notes.append(
            f"reads a system prompt of {workload.system_prompt_tokens} tokens with each training example, "
            "and in inference one for all inputs; methods that read no system prompts get none"
        )
    if "training" in effort.parts:
        optimiser = adapted.optimiser()
        stepper = Stepper(adapted, optimiser, CallbackDriver(adapted, optimiser, workload.at, folder), workload.dtype)
        visit.joules = measure_training(stepper, trained, recorder, order)
        if (why := obstacle(device)) is not None:
            visit.notes.append(why)
        if order.counts:
            with _noted(visit, "cannot be counted"):
                visit.breakdown, visit.flops = count_training(stepper, trained[0], device)
            stepper.free()
        if order.trace is not None:
            trace_training(stepper, trained[0], device, order.trace)
        # Memory left over from training is not part of serving.
        del stepper, optimiser
    if "generation" in effort.parts and adapted.kind.generates:
        visit.prompt_tokens = serving.prompt_length(adapted.config, order)
    inputs = serving.without_labels(batches)
    if adapted.reads_system_prompt and "evaluation" in effort.parts:
        serving.measure_specialising(adapted, recorder, order)
        if order.counts:
            visit.flops[SPECIALISE] = serving.count_specialising(adapted, order)
    with serving.specialised(adapted, order):
        serving.measure_unmerged(adapted, batches, recorder, order)
        if order.counts and "evaluation" in effort.parts:
            with _noted(visit, "inference cannot be counted"):
                visit.flops[INFERENCE] = serving.count_inference(adapted.model, inputs[0], device, workload.dtype)
    if "merging" in effort.parts and order.subject.expression is not None:
        _merge(visit, adapted, inputs, recorder)


def _merge(
    visit: Measurement, adapted: BuiltCandidate, inputs: list[dict[str, torch.Tensor]], recorder: Recorder
) -> None:
    from parbench.bench.profile.inference import measure_merged

    if not adapted.mergeable:
        visit.notes.append("cannot be merged")
        return
    with _noted(visit, "merging fails"):
        measure_merged(adapted, inputs, recorder, visit.order)


@contextmanager
def _noted(visit: Measurement, what: str) -> Iterator[None]:
    """Turn a failure of an optional step into a note; the rest of the measurement stays valid."""
    try:
        yield
    except Exception as error:  # whatever a method's code raises
        visit.notes.append(f"{what}: {_cause(error)[1]}")


def _cause(error: Exception) -> tuple[Status, str]:
    if isinstance(error, UserError):
        return Status.ERROR, str(error)
    status, reason = classify(error)
    if status is not Status.OUT_OF_MEMORY:
        return status, reason
    return status, "the machine is out of memory" if "DefaultCPUAllocator" in reason else reason.partition(". ")[0]
