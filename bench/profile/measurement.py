"""What one visit finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from parbench.bench.profile.workload import MeasurementJob
from parbench.bench.record.run_record import ParameterCounts, Status

# The phases of a visit. A training step is its first three; `decode` is one token of every example of a batch;
# `specialise` makes of one system prompt what all is asked under from then on (LoRA-Gen's cloud and generator).
LOAD = "load"
FORWARD, BACKWARD, OPTIMISER, STEP = "forward", "backward", "optimiser", "step"
# The processor's time of a step, on a CPU: of a machine that is not idle it tells more than the clock.
STEP_PROCESSOR = "step_processor"
SPECIALISE = "specialise"
EVALUATION, INFERENCE = "evaluation", "inference"
PREFILL, DECODE = "prefill", "decode"
MERGE, MERGED = "merge", "inference_merged"
PREFILL_MERGED, DECODE_MERGED = "prefill_merged", "decode_merged"


@dataclass(frozen=True)
class PhaseMemory:
    """Peak memory of a phase, in bytes.

    Attributes:
        process: resident memory of the process, by the kernel's mark and by samples from outside.
        allocated: on the accelerator, by torch's allocator; ``None`` without one.
        reserved: what the allocator held for it.
    """

    process: int
    allocated: int | None = None
    reserved: int | None = None

    @property
    def peak(self) -> int:
        """What limits a batch: the accelerator's memory where there is one, else the process's."""
        return self.process if self.reserved is None else self.reserved


@dataclass(frozen=True)
class Breakdown:
    """What the memory of a training step consists of, in bytes; counted from the tensors, on any device.

    Attributes:
        weights: parameters and buffers that are never optimised.
        adapter: optimised parameters outside the task head.
        head: optimised parameters of the task head.
        gradients: after the backward pass.
        optimiser: its state.
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
        resident: peak of the process, in bytes; where the kernel marks no peaks, what it had at the end.
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
    """One process's findings.

    Attributes:
        order: what it was asked.
        status: how it ended.
        reason: one sentence where ``status`` is not ``ok``.
        seconds: every timed repetition of each phase.
        memory: peak of each phase.
        peak_process: of the whole process, in bytes.
        spans: when the phases were.
        breakdown: of a training step's memory.
        flops: operations of a phase on one batch, a multiplication and an addition counted as two.
        joules: of one training step, where the device tells.
        ledger: parameter counts; ``None`` for the frozen floor.
        batches: checksum of the inputs.
        prompt_tokens: of each prompt that was written on from.
        wall: seconds from the start of the process to its end, seen from outside.
        notes: what could not be measured, and why.
    """

    order: MeasurementJob
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
