"""The result of one measurement."""

from __future__ import annotations

from dataclasses import dataclass, field

from parbench.bench.profile.workload import MeasurementJob
from parbench.bench.record.run_record import ParameterCounts, Status

# The phases of a measurement. The first three make up a training step; `decode` is one token for every example of a
# batch; `specialise` prepares the model for one system prompt (LoRA-Gen's cloud and generator).
LOAD = "load"
FORWARD, BACKWARD, OPTIMISER, STEP = "forward", "backward", "optimiser", "step"
# CPU time of a step, on a CPU: on a machine that is not idle it is more reliable than the wall clock.
STEP_PROCESSOR = "step_processor"
SPECIALISE = "specialise"
# Dequantising all quantised weights once; a training step does so in its forward and in its backward pass.
DEQUANTISE = "dequantise"
EVALUATION, INFERENCE = "evaluation", "inference"
PREFILL, DECODE = "prefill", "decode"
MERGE, MERGED = "merge", "inference_merged"
PREFILL_MERGED, DECODE_MERGED = "prefill_merged", "decode_merged"


@dataclass(frozen=True)
class PhaseMemory:
    """Peak memory of a phase, in bytes.

    Attributes:
        process: resident memory of the process, from the kernel's high-water mark and from samples.
        allocated: allocated on the accelerator, by torch's allocator; ``None`` without an accelerator.
        reserved: reserved by the allocator for it.
    """

    process: int
    allocated: int | None = None
    reserved: int | None = None

    @property
    def peak(self) -> int:
        """The memory that limits a batch: the accelerator's if there is one, else the process's."""
        return self.process if self.reserved is None else self.reserved


@dataclass(frozen=True)
class Breakdown:
    """The memory of a training step by purpose, in bytes; counted from the tensors, on any device.

    Attributes:
        weights: parameters and buffers that are never optimised, and scales of quantised weights.
        adapter: optimised parameters outside the task head.
        head: optimised parameters of the task head.
        gradients: after the backward pass.
        optimiser: the optimiser's state.
        activations: tensors that autograd keeps for the backward pass, parameters left out.
    """

    weights: int
    adapter: int
    head: int
    gradients: int
    optimiser: int
    activations: int | None = None


@dataclass(frozen=True)
class Span:
    """When a phase took place, on the machine's monotonic clock, and its memory.

    Attributes:
        resident: peak of the process, in bytes; its memory at the end where the kernel keeps no high-water mark.
        allocated: peak on the accelerator.
        reserved: likewise.
    """

    phase: str
    begin: float
    end: float
    resident: int = 0
    allocated: int | None = None
    reserved: int | None = None


@dataclass
class Measurement:
    """The result of one process.

    Attributes:
        job: the job.
        status: how the process ended.
        reason: one sentence where ``status`` is not ``ok``.
        seconds: every timed repetition of each phase.
        memory: peak of each phase.
        peak_process: of the whole process, in bytes.
        spans: time span and memory of the phases.
        breakdown: of a training step's memory.
        flops: operations per phase on one batch; a multiplication and an addition count as two.
        joules: energy of one training step, if the device reports it.
        ledger: parameter counts; ``None`` for the frozen floor.
        batches: checksum of the inputs.
        prompt_tokens: number of tokens of each generation prompt.
        wall: seconds from the start to the end of the process.
        notes: what could not be measured, and why.
        start: resident memory of the process before anything was built, in bytes.
    """

    job: MeasurementJob
    status: Status = Status.OK
    reason: str | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, PhaseMemory] = field(default_factory=dict)
    peak_process: int = 0
    spans: list[Span] = field(default_factory=list)
    breakdown: Breakdown | None = None
    flops: dict[str, int] = field(default_factory=dict)
    joules: float | None = None
    ledger: ParameterCounts | None = None
    batches: str = ""
    prompt_tokens: int | None = None
    wall: float = 0.0
    hardware: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    start: int = 0
