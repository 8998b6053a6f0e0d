"""What the runs of a plan will take on this machine: time, memory, disk.

Nothing is guessed from sizes. Runs that cost alike (see `bench.likeness`) are calibrated by doing the first of them,
cut to a few steps and a few evaluated rows, with the same code and in a process of its own, into a folder that is
thrown away: nobody sees its scores. A calibration is kept in the user's cache until hardware, versions, code or the
spec change.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch

from bench import environment
from bench.errors import UserError
from bench.execute.local import LocalExecutor
from bench.likeness import likeness
from bench.planned import PlannedRun
from bench.progress import SilentProgress
from bench.protocol import Protocol, Purpose
from bench.record import RunRecord, RunSpec, Status, digest
from bench.store import Store, explained, write_atomically
from bench.training import TrainingSettings
from tasks.data.package import cache_folder

# The first of these steps warms up, and is not in the mean of the others.
STEPS = 6
# A step goes forward, and backward for twice the operations at most; scoring a row by likelihood only goes forward.
_STEP_TO_FORWARD = 1 / 3
# AdamW keeps two numbers for each that it moves; the trainer keeps two checkpoints.
_MOMENTS, _CHECKPOINTS = 2, 2

Say = Callable[[str], None]
IsToDo = Callable[[PlannedRun], bool]


@dataclass(frozen=True)
class Calibration:
    """What a few real steps of a run took.

    Attributes:
        step_seconds: an optimiser step.
        row_seconds: scoring one row of the reported split.
        fixed_seconds: all that is done once: data, loading, warming up, saving, the calibration's selection rows.
        selection_rows: of those in ``fixed_seconds``.
        process_bytes: peak resident memory of the process.
        device_bytes: peak on the accelerator.
        disk_bytes: of the run's folder, but for the predictions.
        row_bytes: of the predictions, a row.
        checkpoint_bytes: of one checkpoint, from the size of what is trained.
        made: when, in UTC.
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


@dataclass(frozen=True)
class Estimate:
    """What one run will take.

    Attributes:
        steps: optimiser steps.
        seconds: wall clock.
        failure: why there is none, where the calibration did not end well.
    """

    run: PlannedRun
    steps: int = 0
    seconds: float = 0.0
    calibration: Calibration | None = None
    failure: str = ""
    disk_bytes: int = 0


@dataclass(frozen=True)
class Forecast:
    """What a plan will take.

    Attributes:
        estimates: of the runs that are to do, in their order.
        done: runs that need not be done.
        workers: runs at a time.
        obstacles: a sentence for each reason why it cannot be done here.
        notes: what the estimate leaves out.
    """

    estimates: list[Estimate]
    done: int
    workers: int
    obstacles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall clock of all runs, workers taken to be busy to the end, and not to slow each other down."""
        return sum(estimate.seconds for estimate in self.estimates) / self.workers

    @property
    def process_bytes(self) -> int:
        """Memory of the largest processes at a time."""
        return sum(self._largest(lambda calibration: calibration.process_bytes))

    @property
    def device_bytes(self) -> int | None:
        """Memory of the largest run on the accelerator, if there is one."""
        return max(self._largest(lambda calibration: calibration.device_bytes or 0), default=0) or None

    @property
    def disk_bytes(self) -> int:
        """Records and adapters of all runs, and the checkpoints of the largest that are at work at a time."""
        kept = self._largest(lambda calibration: _CHECKPOINTS * calibration.checkpoint_bytes)
        return sum(estimate.disk_bytes for estimate in self.estimates) + sum(kept)

    def _largest(self, of: Callable[[Calibration], int]) -> list[int]:
        found = [of(estimate.calibration) for estimate in self.estimates if estimate.calibration]
        return sorted(found, reverse=True)[: self.workers]

    def require_fit(self) -> None:
        """Check that it can be done here.

        Raises:
            UserError: it cannot.
        """
        if self.obstacles:
            raise UserError(f"this cannot be done here: {'; '.join(self.obstacles)}")


@dataclass(frozen=True)
class Machine:
    """Where runs are to be done.

    Attributes:
        device: of a run.
        workers: runs at a time.
        threads: of torch in each; ``None`` leaves torch's own number.
    """

    device: str
    workers: int = 1
    threads: int | None = None


def forecast(
    runs: Sequence[PlannedRun],
    store: Store,
    machine: Machine,
    say: Say = lambda text: None,
    is_to_do: IsToDo | None = None,
) -> Forecast:
    """Estimate what runs will take; those that are done take nothing.

    Args:
        say: told of each calibration that has to be made, which takes a while.
        is_to_do: tells which runs are to do; those without a record that is ``ok`` unless given.

    Raises:
        UserError: data or base model cannot be had.
    """
    waiting = _waiting(runs, store, is_to_do)
    sizes = _Sizes()
    kinds: dict[Path, Calibration | str] = {}
    estimates = []
    for run, file in zip(waiting, _files(waiting, machine), strict=True):
        if file not in kinds:
            kinds[file] = _calibration(run, file, machine, say)
        estimates.append(_estimate(run, kinds[file], sizes.of(run)))
    judged = any(_is_judged(run.spec) for run in waiting)
    found = Forecast(
        estimates,
        len(runs) - len(waiting),
        machine.workers,
        notes=["judging answers is not in the estimate: it takes what the judge takes"] if judged else [],
    )
    return replace(found, obstacles=_obstacles(found, store, machine))


def uncalibrated(
    runs: Sequence[PlannedRun], store: Store, machine: Machine, is_to_do: IsToDo | None = None
) -> list[PlannedRun]:
    """Return a run of each kind that `forecast`, with the same arguments, would have to calibrate first."""
    waiting = _waiting(runs, store, is_to_do)
    kinds = {file: run for run, file in zip(waiting, _files(waiting, machine), strict=True)}
    return [run for file, run in kinds.items() if not file.is_file()]


def shortened(run: PlannedRun) -> PlannedRun:
    """Return a run of few steps and few evaluated rows that costs, step by step and row by row, what ``run`` does."""
    lengths = {"max_steps": STEPS, "epochs": None, "select_epoch": False, "patience": None}
    spec = replace(
        run.spec,
        training={**run.spec.training, **lengths},
        protocol=Protocol.STRICT.value,
        # One batch: that of a judged task would be sent to its judge.
        evaluation_limit=min(run.training.evaluation_batch_size, run.spec.evaluation_limit or 1 << 30),
        purpose=(Purpose.SELECTION if _is_judged(run.spec) else Purpose.REPORT).value,
        train_fraction=1.0,
    )
    return replace(run, spec=spec)


def calibrate(run: PlannedRun, machine: Machine) -> Calibration | str:
    """Do a run cut short, in a process of its own; return what it took, or why it failed."""
    short = shortened(run)
    watch = _StepTimes()
    with tempfile.TemporaryDirectory(prefix="parbench-forecast-") as folder:
        store = Store(Path(folder))
        store.prepare()
        executor = LocalExecutor((machine.device,), threads=machine.threads)
        (record,) = executor.execute([short], store, watch)
        if record.status is not Status.OK:
            return f"{record.status.replace('_', ' ')}, {record.reason}"
        return _measured(record, watch, store)


def _measured(record: RunRecord, watch: _StepTimes, store: Store) -> Calibration:
    cost, counted = record.cost, record.ledger
    if cost is None or counted is None or cost.wall_seconds is None:
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
    )


def _waiting(runs: Sequence[PlannedRun], store: Store, is_to_do: IsToDo | None) -> list[PlannedRun]:
    is_to_do = is_to_do or (lambda run: not store.is_done(run.spec.run_id))
    return [run for run in runs if not run.skip and is_to_do(run)]


def _files(runs: Iterable[PlannedRun], machine: Machine) -> Iterator[Path]:
    """Yield where the calibration of each run's kind on this machine is kept."""
    hardware = environment.hardware(torch.device(machine.device))
    here = [hardware, machine.threads, environment.versions(), [one.name for one in fields(Calibration)]]
    for run in runs:
        yield cache_folder() / "forecast" / f"{digest([likeness(run.spec), *here])[:32]}.json"


def _calibration(run: PlannedRun, file: Path, machine: Machine, say: Say) -> Calibration | str:
    if file.is_file():
        return Calibration(**json.loads(file.read_text(encoding="utf-8")))
    say(f"calibrating: {STEPS} steps of {run.spec}")
    found = calibrate(run, machine)
    if isinstance(found, Calibration):
        with explained(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(asdict(found), indent=1) + "\n")
    return found


def _estimate(run: PlannedRun, found: Calibration | str, sizes: dict[str, int]) -> Estimate:
    if isinstance(found, str):
        return Estimate(run, failure=found)
    training = run.training
    per_epoch = -(-max(1, round(sizes["train"] * run.spec.train_fraction)) // _step_rows(training))
    steps = training.max_steps or max(1, round((training.epochs or 0.0) * per_epoch))
    selection_row = found.row_seconds if run.task.selected_by is run.task else _forward_seconds(found, training)
    reports = run.spec.purpose == Purpose.REPORT
    seconds = found.fixed_seconds + steps * found.step_seconds
    seconds += max(0, sizes["selection"] - found.selection_rows) * selection_row
    if reports and not _is_judged(run.spec):
        seconds += sizes["reported"] * found.row_seconds
    epochs = -(-steps // per_epoch)
    if reports and run.spec.protocol == Protocol.PAPER_BEST_EPOCH:
        seconds += epochs * sizes["reported"] * found.row_seconds
    elif training.select_epoch:
        seconds += epochs * sizes["selection"] * selection_row
    rows = sizes["reported"] if reports else sizes["selection"]
    return Estimate(run, steps, seconds, found, disk_bytes=found.disk_bytes + round(rows * found.row_bytes))


def _step_rows(training: TrainingSettings) -> int:
    return training.batch_size * training.gradient_accumulation


def _forward_seconds(found: Calibration, training: TrainingSettings) -> float:
    return _STEP_TO_FORWARD * found.step_seconds / _step_rows(training)


def _is_judged(spec: RunSpec) -> bool:
    return spec.options.get("judge") is not None


def _obstacles(found: Forecast, store: Store, machine: Machine) -> list[str]:
    """Return why it cannot be done, a sentence each."""
    import psutil

    obstacles = [
        f"{method} on {task} does not fit into memory ({failure})"
        for task, method, failure in dict.fromkeys(
            (estimate.run.spec.task, estimate.run.spec.method, estimate.failure)
            for estimate in found.estimates
            if estimate.failure.startswith("out of memory")
        )
    ]
    host = psutil.virtual_memory().total
    if found.process_bytes > host:
        obstacles.append(
            f"{machine.workers} runs at a time need {_gib(found.process_bytes)} of memory, and the machine has "
            f"{_gib(host)}; give fewer --workers or a smaller train.batch_size"
        )
    device = torch.device(machine.device)
    if found.device_bytes is not None and device.type == "cuda":
        # Several runs are put on one device only as far as they fit.
        whole = torch.cuda.get_device_properties(device).total_memory
        if found.device_bytes > whole:
            obstacles.append(
                f"a run needs {_gib(found.device_bytes)} of the device, and it has {_gib(whole)}; give a smaller "
                "train.batch_size"
            )
    free = shutil.disk_usage(next(path for path in _with_parents(store.root) if path.exists())).free
    if found.disk_bytes > free:
        obstacles.append(
            f"the records need {_gib(found.disk_bytes)}, and {_gib(free)} are free where {store.root} is; free some, "
            "or give another --out"
        )
    return obstacles


def _with_parents(path: Path) -> Iterable[Path]:
    whole = path.absolute()
    return (whole, *whole.parents)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


class _Sizes:
    """Rows of the splits of each task's data, read once."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, int]] = {}

    def of(self, run: PlannedRun) -> dict[str, int]:
        spec = run.spec
        what = [spec.task, spec.data_revision, spec.limit, spec.evaluation_limit, spec.options, spec.definition]
        key = digest(what)
        if key not in self._kept:
            splits = run.task.splits(run.source, spec.limit).capped(spec.evaluation_limit)
            self._kept[key] = splits.sizes
        return self._kept[key]


class _StepTimes(SilentProgress):
    """Is told of a run's steps and says nothing; the first step warms up and is left out.

    A worker tells of its first step and its last one at once, and of those between now and then.
    """

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None

    @property
    def step_seconds(self) -> float | None:
        """Mean of the steps after the first, if there were some."""
        if self._first is None or self._last is None or self._last[0] == self._first[0]:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])

    def step(self, spec: RunSpec, done: int, total: int, loss: float | None) -> None:
        """Note the time."""
        self._last = (done, time.perf_counter())
        self._first = self._first or self._last
