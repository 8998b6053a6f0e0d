"""Summarises measurements as one row per candidate and batch: medians, percentiles, ratios within rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from parbench.bench.profile.measurement import (
    BACKWARD,
    DECODE,
    DEQUANTISE,
    EVALUATION,
    FORWARD,
    INFERENCE,
    MERGED,
    OPTIMISER,
    PREFILL,
    SPECIALISE,
    STEP,
    STEP_PROCESSOR,
    Breakdown,
    Measurement,
    PhaseMemory,
)
from parbench.bench.profile.result import Profile, read_profile
from parbench.bench.profile.workload import FLOOR, Candidate
from parbench.bench.record.run_record import ParameterCounts, Status

# The method that ratios refer to, besides the frozen floor.
REFERENCE = "lora"


@dataclass(frozen=True)
class Timing:
    """Repetitions of a phase over all rounds, in seconds.

    Attributes:
        rounds: the median of each round, which shows the noise between rounds.
    """

    median: float
    p5: float
    p95: float
    count: int
    rounds: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """A number measured in every round, such as the ratio of two measurements.

    Attributes:
        low: minimum over the rounds.
        high: maximum over the rounds.
        rounds: number of rounds.
    """

    median: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class CandidateRow:
    """A candidate at one batch size.

    Attributes:
        timings: by phase.
        memory: the largest of the rounds, by phase.
        training_peak: peak bytes of a training step, see `PhaseMemory.peak`.
        to_reference: ratio of the training step's time to LoRA's.
        to_floor: ratio of the training step's time to the frozen floor's.
        processor_to_reference: ratio of the CPU time of a step to LoRA's; on a CPU only.
        rates: examples, tokens or operations per second, by name.
    """

    candidate: Candidate
    batch: int
    status: Status
    reason: str | None
    timings: dict[str, Timing] = field(default_factory=dict)
    memory: dict[str, PhaseMemory] = field(default_factory=dict)
    peak_process: int | None = None
    training_peak: Spread | None = None
    to_reference: Spread | None = None
    to_floor: Spread | None = None
    processor_to_reference: Spread | None = None
    rates: dict[str, float] = field(default_factory=dict)
    joules: float | None = None
    breakdown: Breakdown | None = None
    ledger: ParameterCounts | None = None
    notes: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """Name of the candidate in tables."""
        return self.candidate.name

    @property
    def size(self) -> str:
        """Size of the candidate in words."""
        return self.candidate.size

    def seconds(self, phase: str) -> float | None:
        """Return the median of a phase, if it was measured."""
        return self.timings[phase].median if phase in self.timings else None

    @property
    def peak_device(self) -> int | None:
        """Peak bytes reserved by the accelerator's allocator in any phase."""
        return max((m.reserved for m in self.memory.values() if m.reserved is not None), default=None)


def rows_of(profile: Profile) -> list[CandidateRow]:
    """Return a row for every candidate and batch."""
    rows = []
    reference = reference_of(profile)
    for batch in profile.batches:
        of_batch = {
            candidate.name: [v for v in profile.measurements if v.job.candidate == candidate and _batch(v) == batch]
            for candidate in profile.candidates
        }
        references = (of_batch[reference.name] if reference else [], of_batch.get(FLOOR, []))
        rows += [
            _row(batch, measurements, references, profile.tokens, profile.frames)
            for measurements in of_batch.values()
            if measurements
        ]
    return rows


def reference_of(profile: Profile) -> Candidate | None:
    """Return the LoRA that steps are compared with: the first, if there are several."""
    return next((candidate for candidate in profile.candidates if candidate.method == REFERENCE), None)


def _row(
    batch: int,
    measurements: Sequence[Measurement],
    references: tuple[Sequence[Measurement], Sequence[Measurement]],
    tokens: int,
    frames: int,
) -> CandidateRow:
    ended = next((one for one in measurements if one.status is not Status.OK), measurements[0])
    timings = {phase: timing([one.seconds.get(phase, []) for one in measurements]) for phase in _phases(measurements)}
    lora, floor = references
    return CandidateRow(
        candidate=measurements[0].job.candidate,
        batch=batch,
        status=ended.status,
        reason=ended.reason,
        timings=timings,
        memory=_memory(measurements),
        peak_process=max(one.peak_process for one in measurements) or None,
        training_peak=spread([peak for one in measurements if (peak := _training_peak(one)) is not None]),
        to_reference=ratio(measurements, lora),
        to_floor=ratio(measurements, floor),
        processor_to_reference=ratio(measurements, lora, STEP_PROCESSOR),
        rates=_rates(measurements, timings, batch, tokens, frames),
        joules=_median([one.joules for one in measurements]),
        breakdown=next((one.breakdown for one in measurements if one.breakdown), None),
        ledger=next((one.ledger for one in measurements if one.ledger), None),
        notes=tuple(dict.fromkeys(note for one in measurements for note in one.notes)),
    )


def timing(rounds: Sequence[Sequence[float]]) -> Timing:
    """Return the statistics of a phase over its repetitions in all rounds."""
    measured = [list(seconds) for seconds in rounds if seconds]
    every = np.array([second for seconds in measured for second in seconds])
    p5, median, p95 = np.percentile(every, [5, 50, 95])
    medians = tuple(statistics.median(seconds) for seconds in measured)
    return Timing(float(median), float(p5), float(p95), len(every), medians)


def spread(found: Sequence[float]) -> Spread | None:
    """Return the spread of a number with one value per round; ``None`` if there is none."""
    return Spread(statistics.median(found), min(found), max(found), len(found)) if found else None


def ratio(measurements: Sequence[Measurement], others: Sequence[Measurement], phase: str = STEP) -> Spread | None:
    """Return the ratio of a phase's time to another candidate's, computed within rounds.

    ``None`` if no round has both.
    """
    bases = {one.job.round: one.seconds[phase] for one in others if one.seconds.get(phase)}
    return spread(
        [
            statistics.median(one.seconds[phase]) / statistics.median(bases[one.job.round])
            for one in measurements
            if one.seconds.get(phase) and one.job.round in bases
        ]
    )


def costs_of(path: Path) -> pd.DataFrame:
    """Return the costs in a ``profile.json``, given the file or its folder: one row per method and batch.

    Columns: ``base_model``, ``device``, ``method``, ``size``, ``batch``, ``status``, ``step_seconds``,
    ``step_to_lora``, ``step_to_floor``, ``specialise_seconds``, ``inference_seconds``, ``merged_seconds``,
    ``training_peak_bytes``, ``peak_process_bytes``, ``peak_device_bytes``, ``adapter_bytes``, ``reported``; missing
    where not measured.

    Raises:
        UserError: it is not a profile.
    """
    profile = read_profile(path)
    return pd.DataFrame(
        {
            "base_model": profile.base_model,
            "device": profile.workload.device,
            "method": row.method,
            "size": row.size,
            "batch": row.batch,
            "status": str(row.status),
            "step_seconds": row.seconds(STEP),
            "step_to_lora": row.to_reference.median if row.to_reference else None,
            "step_to_floor": row.to_floor.median if row.to_floor else None,
            "dequantise_seconds": row.seconds(DEQUANTISE),
            "specialise_seconds": row.seconds(SPECIALISE),
            "inference_seconds": row.seconds(INFERENCE),
            "merged_seconds": row.seconds(MERGED),
            "training_peak_bytes": row.training_peak.median if row.training_peak else None,
            "peak_process_bytes": row.peak_process,
            "peak_device_bytes": row.peak_device,
            "adapter_bytes": row.ledger.stored_bytes if row.ledger else None,
            "reported": row.ledger.reported if row.ledger else None,
        }
        for row in rows_of(profile)
    )


def _phases(measurements: Sequence[Measurement]) -> list[str]:
    return list(dict.fromkeys(phase for one in measurements for phase, seconds in one.seconds.items() if seconds))


def _memory(measurements: Sequence[Measurement]) -> dict[str, PhaseMemory]:
    phases = dict.fromkeys(phase for one in measurements for phase in one.memory)
    return {
        phase: max(
            (one.memory[phase] for one in measurements if phase in one.memory),
            key=lambda found: found.peak,
        )
        for phase in phases
    }


def _training_peak(measurement: Measurement) -> int | None:
    phases = (FORWARD, BACKWARD, OPTIMISER, STEP)
    return max((measurement.memory[phase].peak for phase in phases if phase in measurement.memory), default=None)


def _rates(
    measurements: Sequence[Measurement], timings: dict[str, Timing], batch: int, tokens: int, frames: int
) -> dict[str, float]:
    """Return rates per second.

    Args:
        tokens: per example; 1 for an image.
        frames: per example; 0 for what is no clip.
    """
    rates = {
        f"{phase}_examples_per_second": batch / timings[phase].median
        for phase in (STEP, EVALUATION, INFERENCE, MERGED)
        if phase in timings
    }
    if tokens > 1 and STEP in timings:
        rates["step_tokens_per_second"] = batch * tokens / timings[STEP].median
    for phase in (STEP, EVALUATION):
        if frames and phase in timings:
            rates[f"{phase}_frames_per_second"] = batch * frames / timings[phase].median
    prompt = next((one.prompt_tokens for one in measurements if one.prompt_tokens), 0)
    for phase, each in ((PREFILL, prompt), (DECODE, 1)):
        for name in (phase, f"{phase}_merged"):
            if name in timings:
                rates[f"{name}_tokens_per_second"] = batch * each / timings[name].median
    flops = next((one.flops for one in measurements if one.flops), {})
    for phase in (STEP, INFERENCE):
        if phase in flops and phase in timings:
            rates[f"{phase}_tflops_per_second"] = flops[phase] / timings[phase].median / 1e12
    return rates


def _batch(measurement: Measurement) -> int:
    return measurement.job.workload.batch_size


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
