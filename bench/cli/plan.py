"""`bench plan`: what a suite will take here, before it is begun."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import DEFAULT_STORE, Out, say
from bench.cli.execution import Device, Execution, Workers
from bench.cli.run import (
    AUTO,
    BudgetMode,
    Budgets,
    DataRoot,
    EvaluationLimit,
    Limit,
    Methods,
    Mode,
    Model,
    Request,
    Sets,
    SuiteName,
    Tasks,
    open_request,
    read_overrides,
)
from bench.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from bench.execute import Executor
    from bench.forecast import Forecast, Machine
    from bench.planned import PlannedRun
    from bench.store import Store


def plan(
    methods: Methods = None,
    tasks: Tasks = None,
    suite: SuiteName = AUTO,
    model: Model = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, by comma.", metavar="1,2,3")] = None,
    limit: Limit = None,
    evaluation_limit: EvaluationLimit = None,
    set_: Sets = None,
    out: Out = DEFAULT_STORE,
    data_root: DataRoot = None,
    budget: Budgets = None,
    budget_mode: Mode = BudgetMode.UNIFORM,
    protocol: Annotated[Protocol | None, typer.Option(help="Rules of reporting.")] = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Estimate the time, memory and disk of a suite on this device, from a few real steps of each kind of run."""
    from bench.plan import make_plan
    from tasks.data.lock import RevisionLock

    shared = read_overrides(
        methods=methods,
        tasks=tasks,
        model=model,
        seeds=seeds,
        limit=limit,
        evaluation_limit=evaluation_limit,
        sets=set_,
        data_root=data_root,
        budget=budget,
        budget_mode=budget_mode,
    )
    overrides = replace(shared, protocol=protocol)
    opened = open_request(Request(suite, overrides, out, Execution(device, workers=workers), dry_run=True))
    made = make_plan(opened.suite, overrides, RevisionLock(opened.store.lock_file))
    for note in made.notes:
        say(note, opened.console)
    print_forecast(made.runs, opened.store, opened.executor, opened.console)


def print_forecast(runs: Sequence[PlannedRun], store: Store, executor: Executor, console: Console) -> None:
    """Estimate what runs will take and print it.

    Raises:
        UserError: they cannot be done here; what is known is printed before.
    """
    from bench.forecast import forecast

    found = forecast(runs, store, machine_of(executor), lambda text: say(text, console))
    _print_table(found, console)
    _print_sum(found, console)
    found.require_fit()


def machine_of(executor: Executor) -> Machine:
    """Return where an executor does its runs, as a forecast needs it."""
    from bench.forecast import Machine

    devices = [str(device) for device in getattr(executor, "devices", ())] or [str(getattr(executor, "device", "cpu"))]
    most = max(devices.count(device) for device in devices)
    return Machine(devices[0], len(devices), most, getattr(executor, "threads", None))


def _print_table(found: Forecast, console: Console) -> None:
    from rich.table import Table

    table = Table("task", "method", "runs", "steps", "step (ms)", "a run", "memory (MiB)", box=None)
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    groups: dict[tuple[str, str], list[int]] = {}
    for place, estimate in enumerate(found.estimates):
        groups.setdefault((estimate.run.spec.task, estimate.run.spec.method), []).append(place)
    for (task, method), places in groups.items():
        of_group = [found.estimates[place] for place in places]
        first = of_group[0]
        cells = ["—"] * 4
        if (cost := first.calibration) is not None:
            memory = cost.process_bytes if cost.device_bytes is None else cost.device_bytes
            mean = sum(estimate.seconds for estimate in of_group) / len(of_group)
            cells = [f"{first.steps:,}", f"{1e3 * cost.step_seconds:,.1f}", duration(mean), f"{memory / 2**20:,.0f}"]
        table.add_row(task, method, str(len(of_group)), *cells)
    if groups:
        console.print(table, markup=False)
    for failure in dict.fromkeys(f"{e.run.spec.method} on {e.run.spec.task}: {e.failure}" for e in found.estimates):
        if not failure.endswith(": "):
            say(f"cannot be estimated: {failure}", console)


def _print_sum(found: Forecast, console: Console) -> None:
    many = f", {found.workers} at a time" if found.workers > 1 else ""
    done = f"; {found.done} more are done already or will be skipped" if found.done else ""
    say(f"{len(found.estimates)} runs to do{many}{done}", console)
    if not found.estimates:
        return
    device = f", {found.device_bytes / 2**30:.2f} GiB on the device" if found.device_bytes else ""
    say(
        f"about {duration(found.seconds)}; at least {found.process_bytes / 2**30:.2f} GiB of memory{device}; "
        f"{found.disk_bytes / 2**20:,.1f} MiB of disk",
        console,
    )
    for note in found.notes:
        say(note, console)


def duration(seconds: float) -> str:
    """Return a time in words: ``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
