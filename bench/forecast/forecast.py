"""Estimates the time, memory and disk that the runs of a plan need on this machine.

Nothing is extrapolated from sizes. Runs of the same cost (see `record.cost_key`) share a calibration: the first of them
is executed with a few steps and a few evaluated rows, by the same code and in a separate process, into a temporary
folder; its scores are discarded. A calibration stays in the user's cache until hardware, versions, code or spec
change.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from parbench.bench.forecast.calibration import (
    Calibration,
    IsToDo,
    Machine,
    Say,
    _files,
    _forward_seconds,
    _is_judged,
    _known,
    _measure,
    _step_rows,
    _waiting,
)
from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_spec import digest
from parbench.bench.store.store import Store
from parbench.bench.train.protocol import Protocol, Purpose
from parbench.bench.util.errors import UserError
from parbench.bench.util.memory_limits import total_memory

_CHECKPOINTS = 2


@dataclass(frozen=True)
class RunForecast:
    """Estimated cost of one run.

    Attributes:
        steps: optimiser steps.
        seconds: wall clock.
        failure: why there is no estimate, if the calibration failed.
    """

    run: PlannedRun
    steps: int = 0
    seconds: float = 0.0
    calibration: Calibration | None = None
    failure: str = ""
    disk_bytes: int = 0


@dataclass(frozen=True)
class Forecast:
    """Estimated cost of a plan.

    Attributes:
        estimates: one per run to execute, in their order.
        done: number of runs that need not be executed.
        workers: number of simultaneous runs.
        obstacles: a sentence for each reason why the plan cannot be executed here.
        notes: what the estimate leaves out.
    """

    estimates: list[RunForecast]
    done: int
    workers: int
    obstacles: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Wall clock of all runs, assuming that workers stay busy and do not slow each other down."""
        return sum(estimate.seconds for estimate in self.estimates) / self.workers

    @property
    def process_bytes(self) -> int:
        """Memory of the largest processes that may run at the same time."""
        return sum(self._largest(lambda calibration: calibration.process_bytes))

    @property
    def device_bytes(self) -> int | None:
        """Memory of the largest run on the accelerator, if there is one."""
        return max(self._largest(lambda calibration: calibration.device_bytes or 0), default=0) or None

    @property
    def disk_bytes(self) -> int:
        """Records and adapters of all runs, and the checkpoints of the largest simultaneous runs."""
        kept = self._largest(lambda calibration: _CHECKPOINTS * calibration.checkpoint_bytes)
        return sum(estimate.disk_bytes for estimate in self.estimates) + sum(kept)

    def _largest(self, of: Callable[[Calibration], int]) -> list[int]:
        found = [of(estimate.calibration) for estimate in self.estimates if estimate.calibration]
        return sorted(found, reverse=True)[: self.workers]

    def require_fit(self) -> None:
        """Check that the plan can be executed here.

        Raises:
            UserError: it cannot be.
        """
        if self.obstacles:
            raise UserError(f"this cannot be done here: {'; '.join(self.obstacles)}")


def forecast(
    runs: Sequence[PlannedRun],
    store: Store,
    machine: Machine,
    say: Say = lambda text: None,
    is_to_do: IsToDo | None = None,
    again: bool = False,
    measured: dict[Path, Calibration | str] | None = None,
) -> Forecast:
    """Estimate the cost of runs; completed runs cost nothing.

    Args:
        say: receives a message about each missing calibration, which takes a while.
        is_to_do: whether to execute a run; default: runs without a record whose status is ``ok``.
        again: measure again what was measured while other processes had the cores.
        measured: calibrations of an earlier call, which are used and added to.

    Raises:
        UserError: data or base model are not available.
    """
    waiting = _waiting(runs, store, is_to_do)
    sizes = _Sizes()
    kinds = {} if measured is None else measured
    files = list(_files(waiting, machine))
    cached = {file: _known(file, again) for file in files if file not in kinds}
    kinds.update((file, known) for file, known in cached.items() if known)
    unknown = [file for file, known in cached.items() if known is None]
    estimates = []
    for run, file in zip(waiting, files, strict=True):
        if file not in kinds:
            kinds[file] = _measure(run, file, machine, say, f"{unknown.index(file) + 1} of {len(unknown)}")
        estimates.append(_estimate(run, kinds[file], sizes.of(run)))
    found = Forecast(estimates, len(runs) - len(waiting), machine.workers, notes=_notes(waiting, kinds.values()))
    return replace(found, obstacles=_obstacles(found, store, machine))


def _notes(waiting: Iterable[PlannedRun], kinds: Iterable[Calibration | str]) -> list[str]:
    """Return what an estimate leaves out, and what makes it too long."""
    disturbed = [kind for kind in kinds if isinstance(kind, Calibration) and kind.is_disturbed]
    notes = []
    if any(_is_judged(run.spec) for run in waiting):
        notes.append("the estimate does not include judging, which depends on the judge")
    if disturbed:
        worst = max(kind.core_wait_share or 0.0 for kind in disturbed)
        notes.append(
            f"WARNING: other processes had the cores while {len(disturbed)} kinds of runs were measured, for up to "
            f"{100 * worst:.0f} % of the time: without them the runs take less; bench plan measures these again"
        )
    return notes


def first_trials(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Return one run of each study of an equal tuning: a trial costs what the setting costs that it starts from."""
    distinct: dict[str, PlannedRun] = {}
    for run in runs:
        one = replace(
            run.spec,
            purpose=Purpose.SELECTION.value,
            protocol=Protocol.STRICT.value,
            seed=0,
            train_fraction=1.0,
            retention=None,
        )
        distinct.setdefault(one.run_id, replace(run, spec=one))
    return list(distinct.values())


def _estimate(run: PlannedRun, found: Calibration | str, sizes: dict[str, int]) -> RunForecast:
    if isinstance(found, str):
        return RunForecast(run, failure=found)
    training = run.training
    per_epoch = -(-max(1, round(sizes["train"] * run.spec.train_fraction)) // _step_rows(training))
    steps = training.steps(per_epoch)
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
    return RunForecast(run, steps, seconds, found, disk_bytes=found.disk_bytes + round(rows * found.row_bytes))


def _obstacles(found: Forecast, store: Store, machine: Machine) -> list[str]:
    """Return the reasons why the plan cannot be executed, a sentence each."""
    obstacles = [
        f"{method} on {task} does not fit into memory ({failure})"
        for task, method, failure in dict.fromkeys(
            (estimate.run.spec.task, estimate.run.spec.method, estimate.failure)
            for estimate in found.estimates
            if estimate.failure.startswith("out of memory")
        )
    ]
    host = total_memory()
    if found.process_bytes > host:
        obstacles.append(
            f"{machine.workers} runs at a time need {_gib(found.process_bytes)} of memory, and the machine has "
            f"{_gib(host)}; give fewer --workers or a smaller train.batch_size"
        )
    device = torch.device(machine.device)
    if found.device_bytes is not None and device.type == "cuda":
        # Several runs share a device only if they fit.
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
    """Number of rows of each task's splits, read once."""

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
