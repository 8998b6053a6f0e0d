"""One run from its plan to its record: load, train, evaluate, write."""

from __future__ import annotations

import json
import logging
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.failures import SharedDeviceOutOfMemoryError, TransientError, classify, is_transient
from parbench.bench.record.run_record import Cost, ParameterCounts, Provenance, RunRecord, Status
from parbench.bench.run.inputs import DataCache, PreparedData, _task, _training_inputs
from parbench.bench.store.layout import ADAPTER, ERROR, HISTORY, OUTPUT, PREDICTIONS, SELECTION_PREDICTIONS
from parbench.bench.store.log import event
from parbench.bench.store.store import Store
from parbench.bench.train.protocol import Protocol, Purpose, SplitData
from parbench.bench.util import environment
from parbench.bench.util.files import explained

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import nn

    from parbench.bench.train.callbacks import OnStep
    from parbench.tasks.base import Evaluation
    from parbench.tasks.kinds.language_model import LanguageModelTask


@dataclass(frozen=True)
class Outcome:
    """What a run that came to its end has found."""

    metrics: dict[str, float]
    selection_metrics: dict[str, float]
    examples: dict[str, int]
    ledger: ParameterCounts
    cost: Cost
    best_epoch: float | None = None
    last_metrics: dict[str, float] = field(default_factory=dict)
    retention: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunHooks:
    """How a run and whoever looks after it talk to each other.

    Attributes:
        on_step: called after every optimiser step.
        on_batch: called after every batch of an evaluation, with its rows.
        stop: asked after every step whether to save and stop.
        may_retry: asked of a failure that may pass by itself, such as a lost connection: whether to try again instead
            of writing a record.
        shares: asked whether other runs are, or were, at work on the same accelerator.
        trackers: that the training reports to, see `parbench.bench.run.trackers`.
        workers: number of runs that the command executes at the same time, this one included.
    """

    on_step: OnStep = lambda done, total, loss: None
    on_batch: Callable[[int], None] = lambda rows: None
    stop: Callable[[], bool] = lambda: False
    may_retry: bool = False
    shares: Callable[[], bool] = lambda: False
    trackers: tuple[str, ...] = ()
    workers: int = 1


def execute_run(
    run: PlannedRun, store: Store, inputs: DataCache, device: torch.device, watch: RunHooks = RunHooks()
) -> RunRecord:
    """Do one run and write its record, whatever becomes of it.

    Raises:
        UserError: the store cannot be written to.
        StoppedError: it was asked to stop; the same run goes on from its checkpoint.
        TransientError: it failed of what may pass, and may be tried again.
        SharedDeviceOutOfMemoryError: it was out of memory beside other runs.
    """
    from parbench.bench.run.memory import free_device
    from parbench.bench.train.train import StoppedError

    free_device(device)
    started, clock = environment.now(), time.perf_counter()
    workspace = store.workspace(run.spec.run_id)
    output = workspace / OUTPUT
    with explained(output):
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
    outcome: Outcome | None = None
    status, reason = (Status.SKIPPED, run.skip) if run.skip else (Status.OK, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            if not run.skip:
                data = inputs.of(run)
                event("data ready", "the data is read and tokenised", **data.sizes)
                outcome = _train_and_evaluate(run, data, store, output, device, watch)
        except StoppedError:
            raise
        except Exception as error:  # one failing run never ends the others; Ctrl-C does
            status, reason = classify(error)
            if watch.may_retry and is_transient(error):
                raise TransientError(reason) from error
            if watch.shares() and status is Status.OUT_OF_MEMORY:
                raise SharedDeviceOutOfMemoryError(reason) from error
            event("failed", reason, logging.ERROR)
            with explained(output):
                (output / ERROR).write_text(traceback.format_exc(), encoding="utf-8")
    warned = dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, UserWarning))
    for text in warned:
        event("warned", text, logging.WARNING)
    hardware = {**environment.hardware(device), "workers": str(watch.workers)}
    record = empty_record(run, status, reason, started, hardware, tuple(warned))
    if outcome:
        record = replace(record, **vars(outcome))
        seconds, shared = time.perf_counter() - clock, watch.shares()
        if shared:
            event("shared", "other runs were at work on the same accelerator: its seconds measure no speed")
        record = replace(record, cost=replace(outcome.cost, wall_seconds=seconds, shared_device=shared))
    record = store.commit(record, output)
    store.discard_workspace(run.spec.run_id)
    return record


def empty_record(
    run: PlannedRun,
    status: Status,
    reason: str | None,
    started: str,
    hardware: dict[str, str],
    warned: tuple[str, ...] = (),
) -> RunRecord:
    """Return the record of a run that has found nothing (yet)."""
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
    run: PlannedRun, data: PreparedData, store: Store, output: Path, device: torch.device, watch: RunHooks
) -> Outcome:
    from transformers import set_seed

    from parbench.bench.models.parameter_counts import Inventory, count_parameters
    from parbench.bench.run.memory import peak_memory, reserved_memory
    from parbench.bench.run.retention import retention_of
    from parbench.bench.run.trackers import reporting
    from parbench.bench.train.best_epoch import FOLDER, BestEpoch
    from parbench.bench.train.checkpoints import last_checkpoint
    from parbench.bench.train.train import Job, train
    from parbench.methods.architecture import module_names
    from parbench.tasks.inference import Predictor

    method, setting, task = run.method, run.setting, _task(run)
    workspace = store.workspace(run.spec.run_id)
    clock = time.perf_counter()
    set_seed(run.spec.seed)
    base = run.base_model.load(task.head, run.spec.model_revision)
    names = module_names(base)
    inventory = Inventory.of(base)
    model = method.adapt(base, names, setting).to(device)
    groups = method.parameter_groups(model, names, setting)
    collate = task.collate(data.processor)
    prompts = (
        cast("LanguageModelTask", task).system_prompts(method.prompt_encoder(setting, data.processor))
        if method.reads_system_prompt
        else None
    )
    inputs = _training_inputs(run, data, prompts)
    reported = data.reported(run.spec)
    predictor = Predictor(
        model,
        data.processor,
        collate,
        run.training.evaluation_batch_size,
        device,
        run.training.precision,
        watch.on_batch,
        base=lambda: cast("nn.Module", run.base_model.load(task.head, run.spec.model_revision)).to(device),
    )
    load_seconds = time.perf_counter() - clock
    event("model ready", "the base model and its adapter are made", seconds=load_seconds)
    if checkpoint := last_checkpoint(workspace):
        event("resumed", f"goes on from {checkpoint.name}", step=int(checkpoint.name.rpartition("-")[2]))

    scoring: list[float] = []

    def predicted(by: Evaluation, split: SplitData) -> pd.DataFrame:
        began = time.perf_counter()
        if prompts:
            rows = prompts.predicted(by, predictor, split.rows, split.inputs)
        else:
            rows = by.predict(predictor, split.rows, split.inputs)
        scoring.append(time.perf_counter() - began)
        return rows

    best: BestEpoch | None = None
    if chosen_on := _epoch_chosen_on(run):
        on_reported = chosen_on == "reported"
        split, by = (reported.every_epoch(), task) if on_reported else (data.selection, task.selected_by)

        def scored() -> Mapping[str, float]:
            scores = by.score(predicted(by, split))
            said = f"{by.primary} {scores[by.primary]:.4f} on the {chosen_on} split"
            event("epoch scored", said, scores=dict(scores))
            return scores

        best = BestEpoch(
            split=chosen_on,
            primary=by.primary,
            score=scored,
            save=lambda folder: method.save(model, folder),
            model=model,
            parameters=[parameter for group in groups for parameter in group.parameters],
            folder=workspace / FOLDER,
            patience=None if on_reported else run.training.patience,
        )
    with reporting(watch.trackers, run.spec, store, checkpoint) as trackers, peak_memory(device) as peak:
        trained = train(
            Job(
                model=model,
                groups=groups,
                callbacks=[*trackers, *method.callbacks(setting)],
                task=task,
                data=inputs,
                collate=prompts.collate(collate) if prompts else collate,
                settings=run.training,
                seed=run.spec.seed,
                device=device,
                workspace=workspace,
                on_step=watch.on_step,
                stop=watch.stop,
                best_epoch=best,
                rows_are_independent=method.rows_are_independent,
            )
        )
    event("trained", f"{trained.steps} steps are done", steps=trained.steps, seconds=trained.seconds)
    counted = count_parameters(model, method, names, groups, trained.trainable, inventory)
    if best:
        best.restore()
    (output / HISTORY).write_text("".join(json.dumps(entry) + "\n" for entry in trained.history), encoding="utf-8")

    clock = time.perf_counter()
    predictions = predicted(task.selected_by, data.selection)
    evaluation_seconds = time.perf_counter() - clock
    selection_metrics = dict(task.selected_by.score(predictions))
    metrics: dict[str, float] = {}
    sizes = {**data.sizes, "train": len(inputs)}
    if run.spec.purpose == Purpose.SELECTION:
        # No adapter: of dozens of trials nobody wants them, and those of full fine-tuning would fill the disk.
        predictions.to_parquet(output / SELECTION_PREDICTIONS, index=False)
        del sizes["reported"]
    else:
        clock = time.perf_counter()
        predictions = predicted(task, reported.after(trained))
        evaluation_seconds = time.perf_counter() - clock
        metrics = dict(task.score(predictions))
        predictions.to_parquet(output / PREDICTIONS, index=False)
        if best:
            best.move_adapter(output / ADAPTER)
        else:
            method.save(model, output / ADAPTER)
        method.deliver(model, output / ADAPTER)
    clock = time.perf_counter()
    retention = retention_of(run, predictor)
    scoring.append(time.perf_counter() - clock)
    event("evaluated", "the splits are scored", metrics=metrics, selection_metrics=selection_metrics)
    return Outcome(
        retention=retention,
        metrics=metrics,
        selection_metrics=selection_metrics,
        examples=sizes,
        ledger=counted,
        cost=Cost(
            load_seconds=load_seconds,
            train_seconds=trained.seconds,
            train_steps=trained.steps,
            evaluation_seconds=evaluation_seconds,
            scoring_seconds=sum(scoring),
            peak_process_bytes=peak.process_bytes,
            peak_device_bytes=peak.device_bytes,
            reserved_device_bytes=reserved_memory(device),
        ),
        best_epoch=best.best.epoch if best else None,
        last_metrics=best.last.metrics if best else {},
    )


def _epoch_chosen_on(run: PlannedRun) -> str | None:
    """Return the split on which the protocol or the training chooses an epoch, if they do."""
    if run.spec.purpose == Purpose.REPORT and run.spec.protocol == Protocol.PAPER_BEST_EPOCH:
        return "reported"
    return "selection" if run.training.select_epoch else None
