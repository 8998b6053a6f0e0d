"""Loads the adapter of a finished run onto its base model again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from parbench.bench.plan.names import AskedNames
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.record.run_spec import RunSpec, canonical
from parbench.bench.store.layout import ADAPTER
from parbench.bench.store.store import Store
from parbench.bench.train.build import load_base
from parbench.bench.train.protocol import Purpose
from parbench.bench.util.errors import UserError
from parbench.methods.architecture import module_names
from parbench.methods.quantisation import dequantise_base
from parbench.methods.selective import SelectiveMethod, load_trained
from parbench.tasks import is_task_file
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.from_yaml import task_of_file


@dataclass(frozen=True)
class Whereabouts:
    """Where the things are that a record names, where the names do not lead to them.

    Attributes:
        base_model: the base model: a folder.
        data_root: the data, if the run had it from a folder.
        task: the YAML file that defines the task.
    """

    base_model: str | None = None
    data_root: Path | None = None
    task: Path | None = None


@dataclass(frozen=True)
class TrainedRun:
    """A finished run whose adapter is in the store.

    Attributes:
        record: its record.
        planned: the run, with its names resolved again.
        folder: the adapter.
    """

    record: RunRecord
    planned: PlannedRun
    folder: Path

    @property
    def is_adapter(self) -> bool:
        """Whether the folder has an adapter of peft, not trained weights of the base model."""
        return not isinstance(self.planned.method, SelectiveMethod)

    def check_data(self) -> None:
        """Check that the data of the run is here.

        Raises:
            UserError: it is not, or is other data by now.
        """
        run = self.planned
        definition = run.spec.definition
        of_record = definition is not None and not is_task_file(run.asked.task) and run.location.root is None
        if of_record and "hub" not in (definition or {})["data"]:
            raise UserError(
                f"the task {run.spec.task} of run {run.spec.run_id} was defined by a YAML file beside its data; name "
                "that file with --task, or the folder that its data is in with --data-root"
            )
        here = run.task.revision(run.source)
        if here != run.spec.data_revision:
            raise UserError(
                f"the data of {run.spec.task} is at revision {here}, and run {run.spec.run_id} had "
                f"{run.spec.data_revision}; give what it was trained on with --data-root"
            )

    def base(self, dequantised: bool = False) -> PreTrainedModel:
        """Load the base model as the run began with it.

        Args:
            dequantised: give weights of fewer bits the same values in float32, so that an update can be merged into
                them.

        Raises:
            UserError: its files are not available.
        """
        model = load_base(self.planned)
        if dequantised:
            dequantise_base(model)
            model.float()
        return model

    def model(self, base: PreTrainedModel | None = None) -> nn.Module:
        """Load the adapter onto a base model, by default that of the run."""
        base = base if base is not None else self.base()
        if self.is_adapter:
            return cast(nn.Module, PeftModel.from_pretrained(base, str(self.folder)))
        self.planned.method.adapt(base, module_names(base), self.planned.setting)
        load_trained(base, self.folder)
        return cast(nn.Module, base.requires_grad_(False))


def find_trained(store: Store, prefix: str, where: Whereabouts | None = None) -> TrainedRun:
    """Return a finished run by the beginning of its id; see `TrainedRun.check_data` for its data.

    Args:
        store: what holds the runs.
        prefix: of the run's id.
        where: where the things are that its record names.

    Raises:
        UserError: there is no such run, it has no adapter, or its base model or task are others than those here.
    """
    where = where or Whereabouts()
    record = store.find(prefix)
    spec = record.spec
    if record.status is not Status.OK or spec.purpose != Purpose.REPORT:
        kind = record.status.value if record.status is not Status.OK else "a trial that chose hyper-parameters"
        raise UserError(f"run {record.run_id} is {kind} and has left no adapter; name a completed run")
    folder = store.runs / record.run_id / ADAPTER
    if not folder.is_dir():
        raise UserError(f'run {record.run_id} has no adapter in "{folder}"; was it imported without adapters?')
    location = DataLocation("any", str(store.lock_file), None if where.data_root is None else str(where.data_root))
    asked = AskedNames(spec.method, _task_name(spec, where.task), where.base_model or spec.base_model)
    run = PlannedRun(spec, asked, location)
    if run.method.reads_system_prompt:
        raise UserError(
            f'{spec.method} makes an adapter of each system prompt; those of run {record.run_id} are in "{folder}"'
        )
    _check_base(run, store)
    return TrainedRun(record, run, folder)


def _task_name(spec: RunSpec, file: Path | None) -> str:
    """Return the name of a run's task, or its file where that is given."""
    if file is None or spec.definition is None:
        return spec.task
    task = task_of_file(file)
    if task.name != spec.task:
        return spec.task
    if canonical(dict(task.definition or {})) != canonical(spec.definition):
        raise UserError(
            f'"{file}" defines {spec.task} otherwise than run {spec.run_id} had it; give the file as it was then'
        )
    return str(file)


def _check_base(run: PlannedRun, store: Store) -> None:
    try:
        model = run.base_model
    except UserError as error:
        raise UserError(f"{error}; name the base model of the run with --model") from error
    here = model.weights.revision(RevisionLock(store.lock_file))
    if here != run.spec.model_revision:
        raise UserError(
            f"the base model {model.name} is at revision {here}, and the run had {run.spec.model_revision}; give the "
            "one that it was trained on with --model"
        )
