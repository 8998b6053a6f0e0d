"""What a run leaves: its status, metrics, parameter counts, cost and provenance."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from parbench.bench.record.run_spec import RunSpec

# A run that waited longer for cores, as a share of its training, measures the other load, too. On a machine without
# other work the kernel's own tasks take less than a hundredth.
MOST_CORE_WAIT = 0.05


class Status(StrEnum):
    """How a run ended."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    ERROR = "error"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class ParameterCounts:
    """The parameter counts of one run.

    Attributes:
        reported: as the method's paper counts.
        trainable: numbers of the adapter that the last optimiser step could change.
        optimised: numbers of the adapter that were optimised at any time.
        stored_bytes: size of the adapter file without the head.
        head: numbers of the task head; never part of a budget.
        frozen: numbers that the adapter adds and never trains, such as VeRA's shared projections.
        frozen_stored: how many of those are in the adapter file; the others are regenerated from a seed.
        base_bytes: of the base model as it was loaded: parameters, buffers, and the scales of quantised weights.
    """

    reported: int
    trainable: int
    optimised: int
    stored_bytes: int
    head: int
    frozen: int
    frozen_stored: int
    base_bytes: int | None = None


@dataclass(frozen=True)
class Cost:
    """Time and memory of one run, in wall-clock seconds and bytes; ``None`` where a value could not be measured.

    Attributes:
        load_seconds: loading the base model, building the adapter and preparing the data.
        train_seconds: from the first to the last optimiser step, excluding the scoring of epochs in between; the sum
            over all parts of an interrupted run.
        train_steps: optimiser steps.
        evaluation_seconds: scoring the reported split once; the selection split in a run whose purpose is selection.
        peak_process_bytes: peak resident memory of the process during training, including the scoring of epochs;
            ``None`` in a process that has trained before, whose memory holds what the earlier runs have left.
        peak_device_bytes: peak memory allocated on the accelerator in the same period.
        scoring_seconds: all scoring: epochs in between, the selection split, the reported split and the retention.
        wall_seconds: from the start of the run (of its last part, if it was interrupted) to its record.
        reserved_device_bytes: peak memory that torch reserved on the accelerator over the whole run: what the run needs
            in addition to CUDA's own context.
        shared_device: whether other runs of the same command used the accelerator for part of the time. The seconds of
            such a run do not measure speed; its memory peaks are its own, because torch counts them per process.
        core_wait_share: of the training's time, how much the run's threads were ready to compute while other processes
            had the cores; ``None`` where the kernel does not count it. The seconds of a run that waited measure the
            other load, too.
    """

    load_seconds: float
    train_seconds: float
    train_steps: int
    evaluation_seconds: float
    peak_process_bytes: int | None
    peak_device_bytes: int | None
    scoring_seconds: float | None = None
    wall_seconds: float | None = None
    reserved_device_bytes: int | None = None
    shared_device: bool | None = None
    core_wait_share: float | None = None


@dataclass(frozen=True)
class Provenance:
    """When, where and with which software a record was made; ``notes`` are the warnings of the run."""

    started: str
    finished: str
    command: str
    versions: dict[str, str]
    hardware: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRecord:
    """The result of one run: one row of every table.

    Attributes:
        spec: what was run.
        status: how it ended.
        reason: one sentence where ``status`` is not ``ok``.
        primary: name of the metric that ranks.
        metrics: on the reported split, by name, in the field's usual units (fractions, not percent); empty for a run
            whose purpose is selection.
        selection_metrics: metrics of the same weights on the selection split.
        examples: number of examples of each split.
        ledger: parameter counts.
        cost: time and memory.
        provenance: when, where and with which software.
        files: sha256 of every file beside the record, by name.
        best_epoch: passes over the training split after which the weights were kept, where an epoch was chosen: on the
            reported split under protocol ``paper:best_epoch``, on the selection split with ``select_epoch``.
        selection_primary: name of the metric that ranks on the selection split, where it is not ``primary``.
        retention: mean natural log-likelihood of a token of general text, ``before`` and ``after`` the training.
        last_metrics: with ``best_epoch``, the metrics of the last epoch on the split that the epoch was chosen on.
    """

    spec: RunSpec
    status: Status
    reason: str | None
    primary: str
    metrics: dict[str, float]
    selection_metrics: dict[str, float]
    examples: dict[str, int]
    ledger: ParameterCounts | None
    cost: Cost | None
    provenance: Provenance
    files: dict[str, str] = field(default_factory=dict)
    best_epoch: float | None = None
    last_metrics: dict[str, float] = field(default_factory=dict)
    selection_primary: str | None = None
    retention: dict[str, float] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.spec.run_id

    @property
    def score(self) -> float | None:
        """The primary metric, if the run has one."""
        return self.metrics.get(self.primary)

    @property
    def selection_score(self) -> float | None:
        """The metric that ranks on the selection split, if the run has one."""
        return self.selection_metrics.get(self.selection_primary or self.primary)
