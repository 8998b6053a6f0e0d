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
from parbench.bench.util.process_memory import resident_bytes

if TYPE_CHECKING:
    import torch

    from parbench.bench.profile.build import BuiltCandidate
    from parbench.bench.profile.clock import Recorder

# Number of different batches; more would only take memory.
MOST_BATCHES = 8


def measure(job: MeasurementJob, device: torch.device) -> Measurement:
    """Carry out a job in this process and return everything measured up to its end or to a failure."""
    from parbench.bench.profile.clock import Recorder
    from parbench.bench.util import environment

    measurement = Measurement(job, hardware=environment.hardware(device))
    recorder = Recorder(device)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="parbench-profile-") as folder:
        warnings.simplefilter("ignore")
        try:
            _measure(measurement, recorder, Path(folder))
        except Exception as error:  # a failed candidate is a row; the others continue
            measurement.status, measurement.reason = _cause(error)
    measurement.spans, measurement.seconds = recorder.spans, recorder.seconds
    return measurement


def _measure(measurement: Measurement, recorder: Recorder, folder: Path) -> None:
    import torch

    from parbench.bench.profile import inference as serving
    from parbench.bench.profile.build import build
    from parbench.bench.profile.energy import obstacle
    from parbench.bench.profile.inputs import checksum, make_batches, with_system_prompts
    from parbench.bench.profile.training import Stepper, count_training, measure_training, trace_training

    job, device = measurement.job, recorder.device
    workload, effort = job.workload, job.effort
    if job.limit_bytes is not None and device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, job.limit_bytes / whole), device)
    measurement.start = resident_bytes()
    with recorder.phase(LOAD, timed=True):
        adapted = build(job, device)
    measurement.ledger = adapted.ledger
    batches = make_batches(adapted.config, adapted.kind, workload, min(MOST_BATCHES, max(1, effort.steps)))
    measurement.batches = checksum(batches)
    trained = batches
    if adapted.reads_system_prompt:
        trained = with_system_prompts(batches, adapted.reader.reader_config, workload)
        measurement.notes.append(
            f"reads a system prompt of {workload.system_prompt_tokens} tokens with each training example, "
            "and in inference one for all inputs; methods that read no system prompts get none"
        )
    if "training" in effort.parts:
        stepper = Stepper.of(adapted, workload, folder)
        measurement.joules = measure_training(stepper, trained, recorder, job)
        if (why := obstacle(device)) is not None:
            measurement.notes.append(why)
        if job.counts:
            with _noted(measurement, "cannot be counted"):
                measurement.breakdown, measurement.flops = count_training(stepper, trained[0], device)
            stepper.free()
        if job.trace is not None:
            trace_training(stepper, trained[0], device, job.trace)
        # Memory left over from training is not part of serving.
        del stepper
    if "generation" in effort.parts and adapted.kind.generates:
        measurement.prompt_tokens = serving.prompt_length(adapted.config, job)
    inputs = serving.without_labels(batches)
    if adapted.reads_system_prompt and "evaluation" in effort.parts:
        serving.measure_specialising(adapted, recorder, job)
        if job.counts:
            measurement.flops[SPECIALISE] = serving.count_specialising(adapted, job)
    with serving.specialised(adapted, job):
        serving.measure_unmerged(adapted, batches, recorder, job)
        if job.counts and "evaluation" in effort.parts:
            with _noted(measurement, "inference cannot be counted"):
                measurement.flops[INFERENCE] = serving.count_inference(
                    adapted.model, inputs[0], device, workload.forward_precision
                )
    if "merging" in effort.parts and job.candidate.expression is not None:
        _merge(measurement, adapted, inputs, recorder)


def _merge(
    measurement: Measurement, adapted: BuiltCandidate, inputs: list[dict[str, torch.Tensor]], recorder: Recorder
) -> None:
    from parbench.bench.profile.inference import measure_merged

    if not adapted.mergeable:
        measurement.notes.append("cannot be merged")
        return
    with _noted(measurement, "merging fails"):
        measure_merged(adapted, inputs, recorder, measurement.job)


@contextmanager
def _noted(measurement: Measurement, what: str) -> Iterator[None]:
    """Turn a failure of an optional step into a note; the rest of the measurement stays valid."""
    try:
        yield
    except Exception as error:  # whatever a method's code raises
        measurement.notes.append(f"{what}: {_cause(error)[1]}")


def _cause(error: Exception) -> tuple[Status, str]:
    if isinstance(error, UserError):
        return Status.ERROR, str(error)
    status, reason = classify(error)
    if status is not Status.OUT_OF_MEMORY:
        return status, reason
    return status, "the machine is out of memory" if "DefaultCPUAllocator" in reason else reason.partition(". ")[0]
