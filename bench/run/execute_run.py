"""Executes one run from its plan to its record: load, train, evaluate, write."""

from __future__ import annotations

import json
import logging
import shutil
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from parbench.bench.models.parameter_counts import Inventory, count_parameters
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.failures import SharedDeviceOutOfMemoryError, TransientError, classify, is_transient
from parbench.bench.record.run_record import Cost, ParameterCounts, Provenance, RunRecord, Status
from parbench.bench.run.core_wait import CoreWait
from parbench.bench.run.hooks import NO_HOOKS, RunHooks
from parbench.bench.run.inputs import DataCache
from parbench.bench.run.memory import Peak, free_device, is_first_training, peak_memory, reserved_memory
from parbench.bench.run.saving import check_savable
from parbench.bench.run.trackers import reporting
from parbench.bench.store.layout import ADAPTER, ERROR, HISTORY, OUTPUT, SELECTION_PREDICTIONS
from parbench.bench.store.log import event
from parbench.bench.store.rows import write_rows
from parbench.bench.store.store import Store
from parbench.bench.train.best_epoch import BestEpoch
from parbench.bench.train.build import AdaptedModel, adapt, load_base
from parbench.bench.train.checkpoints import last_checkpoint
from parbench.bench.train.evaluate import EvaluationScores, Scorer, best_epoch, evaluate, save_adapter
from parbench.bench.train.movement import Movement
from parbench.bench.train.prepare import PreparedData
from parbench.bench.train.protocol import Purpose
from parbench.bench.train.retention import measure_retention
from parbench.bench.train.train import Job, StoppedError, Trained, train
from parbench.bench.util import environment
from parbench.bench.util.files import explained
from parbench.bench.util.process_environment import declared_environment

# What libraries will change in later versions, and what is closed late: neither depends on the run.
_NOT_OF_A_RUN = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)


@dataclass(frozen=True)
class CompletedRun:
    """The results of a completed run, named as the fields of `RunRecord`."""

    metrics: dict[str, float]
    selection_metrics: dict[str, float]
    examples: dict[str, int]
    ledger: ParameterCounts
    cost: Cost
    best_epoch: float | None = None
    last_metrics: dict[str, float] = field(default_factory=dict)
    retention: dict[str, float] = field(default_factory=dict)


@declared_environment()
def execute_run(
    run: PlannedRun, store: Store, inputs: DataCache, device: torch.device, hooks: RunHooks = NO_HOOKS
) -> RunRecord:
    """Execute one run and write its record, whether it succeeds or fails.

    Raises:
        UserError: the store cannot be written to, or the environment changes results.
        StoppedError: the run was asked to stop; it resumes from its checkpoint.
        TransientError: the run failed and ``hooks.may_retry`` allows another attempt.
        SharedDeviceOutOfMemoryError: the run was out of memory while it shared its device.
    """
    free_device(device)
    started, clock = environment.now(), time.perf_counter()
    output = store.workspace(run.spec.run_id) / OUTPUT
    with explained(output):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
    outcome: CompletedRun | None = None
    status, reason = (Status.SKIPPED, run.skip) if run.skip else (Status.OK, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if not run.skip:
                data = inputs.of(run)
                event("data ready", "the data is read and tokenised", **data.sizes)
                for finding in data.findings:
                    warnings.warn(finding, UserWarning, stacklevel=1)
                outcome = _train_and_evaluate(run, data, store, output, device, hooks)
        except StoppedError:
            raise
        except Exception as error:  # a failing run never ends the others; Ctrl-C does
            status, reason = _failed(error, hooks, output)
    warned = dict.fromkeys(str(w.message) for w in caught if not issubclass(w.category, _NOT_OF_A_RUN))
    for text in warned:
        event("warned", text, logging.WARNING)
    hardware = {**environment.hardware(device), "workers": str(hooks.workers)}
    record = empty_record(run, status, reason, started, hardware, tuple(warned))
    if outcome:
        record = replace(record, **vars(outcome))
        seconds, shared = time.perf_counter() - clock, hooks.shares()
        if shared:
            event("shared", "other runs used the same accelerator: the seconds of this run do not measure speed")
        record = replace(record, cost=replace(outcome.cost, wall_seconds=seconds, shared_device=shared))
    record = store.commit(record, output)
    store.discard_workspace(run.spec.run_id)
    return record


def _failed(error: Exception, hooks: RunHooks, output: Path) -> tuple[Status, str]:
    """Return the status and reason of a failed run, and write the traceback beside its record."""
    status, reason = classify(error)
    if hooks.may_retry and is_transient(error):
        raise TransientError(reason) from error
    if hooks.shares() and status is Status.OUT_OF_MEMORY:
        raise SharedDeviceOutOfMemoryError(reason) from error
    event("failed", reason, logging.ERROR)
    with explained(output):
        (output / ERROR).write_text(
            "".join(traceback.format_exception(error)), encoding="utf-8", errors="backslashreplace"
        )
    return status, reason


def empty_record(
    run: PlannedRun,
    status: Status,
    reason: str | None,
    started: str,
    hardware: dict[str, str],
    warned: tuple[str, ...] = (),
) -> RunRecord:
    """Return the record of a run without results."""
    git = environment.git_state()
    by = run.task.selected_by.primary
    return RunRecord(
        spec=run.spec,
        status=status,
        reason=reason,
        primary=run.task.primary,
        metrics={},
        selection_metrics={},
        examples={},
        ledger=None,
        cost=None,
        provenance=Provenance(
            started=started,
            finished=environment.now(),
            command=environment.command(),
            versions=environment.versions(),
            hardware=hardware,
            git_commit=git.commit,
            git_dirty=git.dirty,
            notes=(*run.notes, *warned),
        ),
        selection_primary=None if by == run.task.primary else by,
    )


def _train_and_evaluate(
    run: PlannedRun, data: PreparedData, store: Store, output: Path, device: torch.device, hooks: RunHooks
) -> CompletedRun:
    clock = time.perf_counter()
    base = load_base(run)
    inventory = Inventory.of(base)
    adapted = adapt(run, base, data, device, hooks.on_batch)
    check_savable(run.method, adapted.model, adapted.names, store.workspace(run.spec.run_id) / "untrained")
    load_seconds = time.perf_counter() - clock
    event("model ready", "the base model is loaded and adapted", seconds=load_seconds)
    scorer, reported = Scorer(adapted), data.reported(run.spec)
    best = best_epoch(run, scorer, data, reported, store.workspace(run.spec.run_id), _log_epoch)
    core_wait, is_first = CoreWait(), is_first_training()
    trained, peak = _train(run, adapted, best, store, device, hooks)
    wait_share = core_wait.share()
    if best:
        best.restore()
    # Of the weights that are scored and saved.
    counts = count_parameters(adapted.model, run.method, adapted.names, adapted.groups, trained.trainable, inventory)
    history = "".join(json.dumps(entry) + "\n" for entry in trained.history)
    (output / HISTORY).write_text(history, encoding="utf-8")
    scores = evaluate(run, scorer, data, reported, trained)
    _write(run, adapted, scores, output)
    clock = time.perf_counter()
    retention = measure_retention(run, adapted.predictor)
    scoring_seconds = scorer.seconds + time.perf_counter() - clock
    event("evaluated", "the splits are scored", metrics=scores.metrics, selection_metrics=scores.selection_metrics)
    examples = {**data.sizes, "train": len(adapted.inputs)}
    if run.spec.purpose == Purpose.SELECTION:
        del examples["reported"]
    return CompletedRun(
        retention=retention,
        metrics=scores.metrics,
        selection_metrics=scores.selection_metrics,
        examples=examples,
        ledger=counts,
        cost=Cost(
            load_seconds=load_seconds,
            train_seconds=trained.seconds,
            train_steps=trained.steps,
            evaluation_seconds=scores.seconds,
            scoring_seconds=scoring_seconds,
            peak_process_bytes=peak.process_bytes if is_first else None,
            peak_device_bytes=peak.device_bytes,
            reserved_device_bytes=reserved_memory(device),
            core_wait_share=wait_share,
        ),
        best_epoch=best.best.epoch if best else None,
        last_metrics=best.last.metrics if best else {},
    )


def _train(
    run: PlannedRun,
    adapted: AdaptedModel,
    best: BestEpoch | None,
    store: Store,
    device: torch.device,
    hooks: RunHooks,
) -> tuple[Trained, Peak]:
    """Train the adapted model, from the last checkpoint if there is one, and measure the peak memory."""
    workspace = store.workspace(run.spec.run_id)
    if checkpoint := last_checkpoint(workspace):
        event("resumed", f"resumes from {checkpoint.name}", step=int(checkpoint.name.rpartition("-")[2]))
    movement = Movement(adapted.model, adapted.groups)
    with reporting(hooks.trackers, run.spec, store, checkpoint) as trackers, peak_memory(device) as peak:
        trained = train(
            Job(
                model=adapted.model,
                groups=adapted.groups,
                callbacks=[*trackers, *adapted.callbacks],
                task=adapted.task,
                data=adapted.inputs,
                collate=adapted.collate,
                settings=run.training,
                seed=run.spec.seed,
                device=device,
                workspace=workspace,
                on_step=hooks.on_step,
                stop=hooks.stop,
                best_epoch=best,
                rows_are_independent=run.method.rows_are_independent,
            )
        )
    movement.check(trained.steps, run.method.may_rest)
    event("trained", f"{trained.steps} steps are done", steps=trained.steps, seconds=trained.seconds)
    return trained, peak


def _log_epoch(split: str, primary: str, scores: Mapping[str, float]) -> None:
    event("epoch scored", f"{primary} {scores[primary]:.4f} on the {split} split", scores=dict(scores))


def _write(run: PlannedRun, adapted: AdaptedModel, scores: EvaluationScores, output: Path) -> None:
    """Write the per-example rows and the adapter."""
    if run.spec.purpose == Purpose.SELECTION:
        # No adapter: trials are many, and those of full fine-tuning would fill the disk.
        scores.predictions.to_parquet(output / SELECTION_PREDICTIONS, index=False)
    else:
        write_rows(scores.predictions, adapted.task.score, scores.metrics, output)
        save_adapter(run, adapted, output / ADAPTER)
