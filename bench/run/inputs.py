"""The data of runs, loaded and tokenised once per process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunSpec, canonical
from parbench.bench.train.protocol import Protocol, Purpose, ReportedSplit, SplitData
from parbench.bench.util.errors import UserError
from parbench.tasks.base import Modality
from parbench.tasks.data.split import nested_share

if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.tasks.base import Task
    from parbench.tasks.inference import Rows
    from parbench.tasks.kinds.system_prompt import SystemPrompts


@dataclass(frozen=True)
class PreparedData:
    """A task's model inputs: the same for every method and seed. The reported ones are behind a `ReportedSplit`."""

    train: SplitData
    selection: SplitData
    sizes: dict[str, int]
    processor: Any
    _load_reported: Callable[[], SplitData]

    def reported(self, spec: RunSpec) -> ReportedSplit:
        """Return the reported split, locked by the protocol and purpose of one run."""
        return ReportedSplit(self._load_reported, Protocol(spec.protocol), Purpose(spec.purpose))


@dataclass
class DataCache:
    """Loads and tokenises each task once per process."""

    _kept: dict[tuple[Any, ...], PreparedData] = field(default_factory=dict)

    def of(self, run: PlannedRun) -> PreparedData:
        """Return the data of a run.

        Raises:
            UserError: data or tokenizer cannot be had, or are not what the task needs.
        """
        spec = run.spec
        key = (
            spec.task,
            spec.data_revision,
            spec.limit,
            spec.evaluation_limit,
            spec.base_model,
            spec.model_revision,
            run.training.max_length,
            canonical(spec.options),
            run.method.reads_system_prompt,
        )
        if key not in self._kept:
            self._kept[key] = _prepare(run)
        return self._kept[key]


def _task(run: PlannedRun) -> Task:
    """Return a run's task in the form that its method reads."""
    from parbench.tasks.kinds.system_prompt import split_system_prompt

    return split_system_prompt(run.task) if run.method.reads_system_prompt else run.task


def _prepare(run: PlannedRun) -> PreparedData:
    task = _task(run)
    run.base_model.check(run.spec.model_revision, task.head)
    processor = run.base_model.processor(task.modality, run.spec.model_revision)
    if task.modality is Modality.TEXT and run.training.max_length > processor.model_max_length:
        raise UserError(
            f"max_length {run.training.max_length} is more than the {processor.model_max_length} tokens that "
            f"{run.base_model.name} takes; use --set train.max_length={processor.model_max_length}"
        )
    splits = task.splits(run.source, run.spec.limit).capped(run.spec.evaluation_limit)

    def prepared(rows: Dataset) -> SplitData:
        return SplitData(rows, task.prepare(rows, processor, run.training.max_length))

    return PreparedData(
        train=prepared(splits.train),
        selection=prepared(splits.selection),
        sizes=splits.sizes,
        processor=processor,
        _load_reported=cache(lambda: prepared(splits.reported)),
    )


def _training_inputs(run: PlannedRun, data: PreparedData, prompts: SystemPrompts | None) -> Rows:
    """Return what a run trains on: all of the training split, or its share, with system prompts if they are read."""
    spec, train = run.spec, data.train
    inputs = prompts.beside(train.inputs, train.rows) if prompts else train.inputs
    labels = train.rows["label"][:] if run.task.head.labels else None
    kept = nested_share(labels, len(train.rows), spec.train_fraction, spec.seed)
    share = inputs if len(kept) == len(train.rows) else inputs.select(kept)
    return run.task.augmented(share, spec.seed)
