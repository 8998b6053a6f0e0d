"""Calibrations: a few real steps of each kind of run, timed and cached."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from parbench.bench.execute.executor import RunOptions
from parbench.bench.execute.local import LocalExecutor
from parbench.bench.execute.progress import SilentProgress
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.cost_key import cost_key
from parbench.bench.record.run_record import MOST_CORE_WAIT, RunRecord, Status
from parbench.bench.record.run_spec import RunSpec, digest
from parbench.bench.store.store import Store
from parbench.bench.train.protocol import Protocol, Purpose
from parbench.bench.train.settings import TrainingSettings
from parbench.bench.util import environment
from parbench.bench.util.files import explained, write_atomically
from parbench.tasks.data.package import cache_folder

# The first of these steps is a warm-up and is left out of the mean.
STEPS = 6
# Of evaluation.
_BATCHES = 4
# A step goes forward, and backward for twice the operations at most; scoring a row by likelihood only goes forward.
_STEP_TO_FORWARD = 1 / 3
# AdamW keeps two numbers for each that it moves; the trainer keeps two checkpoints.
_MOMENTS = 2

Say = Callable[[str], None]
IsToDo = Callable[[PlannedRun], bool]


@dataclass(frozen=True)
class Calibration:
    """Measured cost of a few real steps of a run.

    Attributes:
        step_seconds: per optimiser step.
        row_seconds: per scored row of the reported split.
        fixed_seconds: everything done once: data, loading, warm-up, saving, scoring of the selection rows.
        selection_rows: number of selection rows scored in ``fixed_seconds``.
        process_bytes: peak resident memory of the process.
        device_bytes: peak on the accelerator.
        disk_bytes: size of the run's folder without predictions.
        row_bytes: size of the predictions per row.
        checkpoint_bytes: size of one checkpoint, from the number of trained parameters.
        made: time of the calibration, in UTC.
        core_wait_share: see `parbench.bench.record.run_record.Cost`.
    """

    step_seconds: float
    row_seconds: float
    fixed_seconds: float
    selection_rows: int
    process_bytes: int
    device_bytes: int | None
    disk_bytes: int
    row_bytes: float
    checkpoint_bytes: int
    made: str
    core_wait_share: float | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether other processes had the cores for so long that a run takes less time without them."""
        return (self.core_wait_share or 0.0) > MOST_CORE_WAIT


@dataclass(frozen=True)
class Machine:
    """Where runs will be executed.

    Attributes:
        device: device of a run.
        workers: number of simultaneous runs.
        threads: torch threads per run; ``None`` is torch's default.
    """

    device: str
    workers: int = 1
    threads: int | None = None


def uncalibrated(
    runs: Sequence[PlannedRun], store: Store, machine: Machine, is_to_do: IsToDo | None = None
) -> list[PlannedRun]:
    """Return one run of each kind that `forecast`, with the same arguments, would calibrate first."""
    waiting = _waiting(runs, store, is_to_do)
    kinds = {file: run for run, file in zip(waiting, _files(waiting, machine), strict=True)}
    return [run for file, run in kinds.items() if not file.is_file()]


def shortened(run: PlannedRun) -> PlannedRun:
    """Return a run of few steps and rows whose cost per step and per row is that of ``run``."""
    lengths = {"max_steps": STEPS, "epochs": None, "select_epoch": False, "patience": None}
    # Rows are sorted by length, so that the padding of a single batch is more than that of several. Text is written for
    # minutes, and of a judged task it would be sent to the judge.
    batches = 1 if run.task.kind == "language_model" else _BATCHES
    spec = replace(
        run.spec,
        training={**run.spec.training, **lengths},
        protocol=Protocol.STRICT.value,
        evaluation_limit=min(batches * run.training.evaluation_batch_size, run.spec.evaluation_limit or 1 << 30),
        purpose=(Purpose.SELECTION if _is_judged(run.spec) else Purpose.REPORT).value,
        train_fraction=1.0,
    )
    return replace(run, spec=spec)


def calibrate(run: PlannedRun, machine: Machine) -> Calibration | str:
    """Execute a shortened run in a separate process; return its cost, or why it failed."""
    short = shortened(run)
    watch = _StepTimes()
    with tempfile.TemporaryDirectory(prefix="parbench-forecast-") as folder:
        store = Store(Path(folder))
        store.prepare()
        executor = LocalExecutor((machine.device,), RunOptions(threads=machine.threads))
        (record,) = executor.execute([short], store, watch)
        if record.status is not Status.OK:
            return f"{record.status.replace('_', ' ')}, {record.reason}"
        return _measured(record, watch, store)


def _measured(record: RunRecord, watch: _StepTimes, store: Store) -> Calibration:
    cost, counted = record.cost, record.ledger
    if cost is None or counted is None or cost.wall_seconds is None or cost.peak_process_bytes is None:
        raise RuntimeError(f"the record of {record.spec} has no cost")
    step = watch.step_seconds or cost.train_seconds / cost.train_steps
    rows = record.examples.get("reported", record.examples["selection"])
    folder = store.runs / record.run_id
    files = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    predictions = sum(size for path, size in files.items() if path.suffix == ".parquet")
    scored = 0.0 if record.spec.purpose == Purpose.SELECTION else cost.evaluation_seconds
    return Calibration(
        step_seconds=step,
        row_seconds=cost.evaluation_seconds / rows,
        fixed_seconds=max(0.0, cost.wall_seconds - scored - step * cost.train_steps),
        selection_rows=record.examples["selection"],
        process_bytes=cost.peak_process_bytes,
        device_bytes=cost.peak_device_bytes,
        disk_bytes=sum(files.values()) - predictions,
        row_bytes=predictions / rows,
        checkpoint_bytes=counted.stored_bytes + 4 * (counted.head + _MOMENTS * (counted.optimised + counted.head)),
        made=environment.now(),
        core_wait_share=cost.core_wait_share,
    )


def _waiting(runs: Sequence[PlannedRun], store: Store, is_to_do: IsToDo | None) -> list[PlannedRun]:
    is_to_do = is_to_do or (lambda run: not store.is_done(run.spec.run_id))
    return [run for run in runs if not run.skip and is_to_do(run)]


def _files(runs: Iterable[PlannedRun], machine: Machine) -> Iterator[Path]:
    """Yield the path of the cached calibration of each run's kind on this machine."""
    hardware = environment.hardware(torch.device(machine.device))
    measures = [STEPS, _BATCHES, *(one.name for one in fields(Calibration))]
    here = [hardware, machine.threads, environment.versions(), measures]
    for run in runs:
        yield cache_folder() / "forecast" / f"{digest([cost_key(run.spec), *here])[:32]}.json"


def _known(file: Path, again: bool) -> Calibration | None:
    """Return a cached calibration; with ``again`` not one that other processes disturbed."""
    if not file.is_file():
        return None
    found = Calibration(**json.loads(file.read_text(encoding="utf-8")))
    return None if again and found.is_disturbed else found


def _measure(run: PlannedRun, file: Path, machine: Machine, say: Say, place: str) -> Calibration | str:
    say(f"calibrating {place}: {STEPS} steps of {run.spec}")
    found = calibrate(run, machine)
    if isinstance(found, Calibration):
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(asdict(found), indent=1) + "\n")
    return found


def _step_rows(training: TrainingSettings) -> int:
    return training.batch_size * training.gradient_accumulation


def _forward_seconds(found: Calibration, training: TrainingSettings) -> float:
    return _STEP_TO_FORWARD * found.step_seconds / _step_rows(training)


def _is_judged(spec: RunSpec) -> bool:
    return spec.options.get("judge") is not None


class _StepTimes(SilentProgress):
    """Receives the steps of a run without printing; the first step is a warm-up and is left out.

    A worker reports its first and last step immediately, and the steps between at intervals.
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None

    @property
    def step_seconds(self) -> float | None:
        """Mean seconds of the steps after the first, if there are any."""
        if self._first is None or self._last is None or self._last[0] == self._first[0]:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])

    def step(self, spec: RunSpec, done: int, total: int, loss: float | None) -> None:
        """Record the time."""
        self._last = (done, time.perf_counter())
        self._first = self._first or self._last
