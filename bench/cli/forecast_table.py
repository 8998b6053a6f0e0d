"""The forecast printed by `bench plan` and by dry runs: the cost of runs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from parbench.bench.cli.console import counted, say
from parbench.bench.cli.dry_run import differences
from parbench.bench.cli.grid import Grid

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from parbench.bench.cli.session import CommandSession
    from parbench.bench.execute.executor import Executor
    from parbench.bench.forecast.calibration import Calibration, IsToDo, Machine
    from parbench.bench.forecast.forecast import Forecast, RunForecast
    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.store.store import Store
    from parbench.bench.tune.study import TuningBudget

# Number of kinds of runs without a measurement that are named.
MOST_NAMED = 4


def print_forecast(
    runs: Sequence[PlannedRun], session: CommandSession, to_be_tuned: Sequence[PlannedRun], effort: TuningBudget
) -> None:
    """Estimate the cost of runs, measuring what is not known yet, and print it, by task as well.

    Args:
        to_be_tuned: those whose settings an equal tuning has yet to find; its cost is printed apart.
        effort: of this tuning.

    Raises:
        UserError: they cannot be done here; what is known is printed before.
    """
    from parbench.bench.forecast.forecast import first_trials, forecast

    store, console = session.store, session.console
    machine = machine_of(session.executor)

    def announced(text: str) -> None:
        say(text, console)

    measured: dict[Path, Calibration | str] = {}
    found = forecast(runs, store, machine, announced, again=True, measured=measured)
    # As if none was done: which trials a store has is known only when they are drawn.
    trials = first_trials(to_be_tuned)
    tuning = forecast(trials, store, machine, announced, lambda run: True, again=True, measured=measured)
    _print_table(found, console)
    _print_tasks(found, tuning, effort, console)
    _print_sum(found, console)
    _print_tuning(tuning, effort, console)
    found.require_fit()


def print_known_forecast(
    runs: Sequence[PlannedRun], store: Store, executor: Executor, console: Console, is_to_do: IsToDo | None = None
) -> None:
    """Print the cost of runs if all of their kinds were measured before; nothing is trained.

    Args:
        is_to_do: whether to execute a run; default: runs without a record whose status is ``ok``.

    Raises:
        UserError: they cannot be done here; what is known is printed before.
    """
    from parbench.bench.execute.in_process import InProcessExecutor
    from parbench.bench.execute.local import LocalExecutor
    from parbench.bench.forecast.calibration import uncalibrated
    from parbench.bench.forecast.forecast import forecast

    if not isinstance(executor, LocalExecutor | InProcessExecutor):
        say(f"{counted(len(runs), 'run')}: their cost on the cluster is not known here", console)
        return
    machine = machine_of(executor)
    if unknown := uncalibrated(runs, store, machine, is_to_do):
        kinds = list(dict.fromkeys(f"{run.spec.method} on {run.spec.task}" for run in unknown))
        named = ", ".join(kinds[:MOST_NAMED]) + (", ..." if len(kinds) > MOST_NAMED else "")
        say(
            f"{counted(len(runs), 'run')}: their cost is not measured yet ({named}): bench plan measures a few "
            "steps of each kind",
            console,
        )
        return
    _print(forecast(runs, store, machine, is_to_do=is_to_do), console)


def machine_of(executor: Executor) -> Machine:
    """Return where an executor does its runs, as a forecast needs it."""
    from parbench.bench.execute.cpu_slots import own_cores
    from parbench.bench.forecast.calibration import Machine

    devices = [str(device) for device in getattr(executor, "devices", ())] or [str(getattr(executor, "device", "cpu"))]
    threads = executor.options.threads
    if threads is None and devices[0] == "cpu" and len(devices) > 1:
        threads = max(1, len(own_cores()) // len(devices))
    return Machine(devices[0], len(devices), threads)


def _print(found: Forecast, console: Console) -> None:
    _print_table(found, console)
    _print_sum(found, console)
    found.require_fit()


def _print_table(found: Forecast, console: Console) -> None:
    titles = ("task", "method", "runs", "steps", "step (ms)", "one run", "memory (MiB)")
    rows = []
    specs = [estimate.run.spec for estimate in found.estimates]
    groups: dict[tuple[str, str], list[RunForecast]] = {}
    for estimate, spec, difference in zip(found.estimates, specs, differences(specs), strict=True):
        budget = f" within {spec.budget['asked']}" if spec.budget else ""
        told = f" ({difference})" if difference else ""
        groups.setdefault((spec.task, f"{spec.method}{budget}{told}"), []).append(estimate)
    for (task, method), of_group in groups.items():
        first = of_group[0]
        cells = ["—"] * 4
        if (cost := first.calibration) is not None:
            memory = cost.process_bytes if cost.device_bytes is None else cost.device_bytes
            mean = sum(estimate.seconds for estimate in of_group) / len(of_group)
            cells = [f"{first.steps:,}", f"{1e3 * cost.step_seconds:,.1f}", duration(mean), f"{memory / 2**20:,.0f}"]
        rows.append((task, method, str(len(of_group)), *cells))
    if groups:
        console.print(Grid(titles, rows, names=2, numbers=frozenset(titles[2:])))
    failed = ((one.run.spec, one.failure) for one in found.estimates if one.failure)
    for failure in dict.fromkeys(f"{spec.method} on {spec.task}: {reason}" for spec, reason in failed):
        say(f"cannot be estimated: {failure}", console)


def _print_tasks(found: Forecast, tuning: Forecast, effort: TuningBudget, console: Console) -> None:
    """Print runs and time of each task, where there are several."""
    titles = ("task", "runs", "time", "trial runs", "time of tuning")
    tasks = dict.fromkeys(one.run.spec.task for one in (*found.estimates, *tuning.estimates))
    rows = []
    for task in tasks:
        own, trials = (_of_task(part, task) for part in (found, tuning))
        runs = [str(len(own.estimates)), _time(own)]
        rows.append((task, *runs, str(len(trials.estimates) * effort.runs), _time(trials, effort.runs)))
    if len(rows) > 1:
        console.print(Grid(titles, rows, names=1, numbers=frozenset(titles[1:])))


def _of_task(found: Forecast, task: str) -> Forecast:
    return replace(found, estimates=[one for one in found.estimates if one.run.spec.task == task])


def _time(found: Forecast, times: int = 1) -> str:
    """Return the time of runs in words, a dash where that of none is known."""
    known = [one for one in found.estimates if one.calibration is not None]
    more = "" if len(known) == len(found.estimates) else " and more"
    return f"{duration(times * found.seconds)}{more}" if known else "—"


def _print_tuning(tuning: Forecast, effort: TuningBudget, console: Console) -> None:
    studies = len(tuning.estimates)
    if not studies:
        return
    asked = dict.fromkeys(one.run.spec.budget["asked"] for one in tuning.estimates if one.run.spec.budget)
    command = f"bench tune --trials {effort.trials} --selection-seeds {','.join(map(str, effort.seeds))}"
    # One budget is tuned at a time.
    commands = ", and ".join([f'{command} --budget "{one}"' for one in asked] or [command])
    each = f"{counted(effort.trials, 'trial')} of {counted(len(effort.seeds), 'seed')}"
    say(
        f"equal tuning, which this leaves out: {each} for each of {studies} methods, tasks and budgets that are not "
        f"tuned yet: {counted(studies * effort.runs, 'run')}, about {_time(tuning, effort.runs)} ({commands}, "
        "with this command's other options)",
        console,
    )


def _print_sum(found: Forecast, console: Console) -> None:
    many = f", {found.workers} at a time" if found.workers > 1 else ""
    done = f"; {found.done} already done or skipped" if found.done else ""
    say(f"{counted(len(found.estimates), 'run')} to do{many}{done}", console)
    if not found.estimates:
        return
    unknown = sum(estimate.calibration is None for estimate in found.estimates)
    if unknown == len(found.estimates):
        say("their cost cannot be estimated", console)
        return
    without = f" without the {counted(unknown, 'run')} that cannot be estimated" if unknown else ""
    device = f", {found.device_bytes / 2**30:.2f} GiB on the device" if found.device_bytes else ""
    say(
        f"about {duration(found.seconds)}; at least {found.process_bytes / 2**30:.2f} GiB of memory{device}; "
        f"{found.disk_bytes / 2**20:,.1f} MiB of disk{without}",
        console,
    )
    for note in found.notes:
        say(note, console)


def duration(seconds: float) -> str:
    """Return a time in words: ``40 s``, ``12 min``, ``3.4 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
