"""`bench tune`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from parbench.bench.cli.console import DEFAULT_STORE, DataRoot, Out, read_positive, read_seeds, say
from parbench.bench.cli.execution import Device, Execution, Isolate, Retries, Workers
from parbench.bench.cli.forecast_table import print_known_forecast
from parbench.bench.cli.run import (
    AUTO,
    BudgetMode,
    Budgets,
    DryRun,
    EvaluationLimit,
    Limit,
    Methods,
    Mode,
    Model,
    Opened,
    Request,
    Sets,
    SuiteName,
    Tasks,
    open_request,
    read_overrides,
)
from parbench.bench.store.layout import TUNED

if TYPE_CHECKING:
    from parbench.bench.plan.suite import Suite
    from parbench.bench.tune.study import Study, StudyResult, TuningBudget


class SamplerName(StrEnum):
    """How trials are drawn."""

    TPE = "tpe"
    RANDOM = "random"


def tune(
    methods: Methods = None,
    tasks: Tasks = None,
    suite: SuiteName = AUTO,
    model: Model = None,
    trials: Annotated[int, typer.Option(help="Settings to try, the same number for every method and task.")] = 20,
    selection_seeds: Annotated[
        str | None, typer.Option(help="Seeds that choose; 1001,1002 unless given.", metavar="1001,1002")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds to report later; must be others.", metavar="1,2,3")] = None,
    sampler: Annotated[SamplerName, typer.Option(help="tpe: the first ten trials are random.")] = SamplerName.TPE,
    limit: Limit = None,
    evaluation_limit: EvaluationLimit = None,
    set_: Sets = None,
    out: Out = DEFAULT_STORE,
    data_root: DataRoot = None,
    budget: Budgets = None,
    budget_mode: Mode = BudgetMode.UNIFORM,
    device: Device = None,
    workers: Workers = None,
    isolate: Isolate = True,
    retries: Retries = 0,
    dry_run: DryRun = False,
) -> None:
    """Find each method's best setting on the selection split; the reported split is not looked at.

    Writes OUT/tuned.yaml, for bench run --tuned. The same command again goes on where it was cut.
    """
    from parbench.bench.tune.study import SELECTION_SEEDS, TuningBudget

    read_positive(trials, "--trials")
    effort = TuningBudget(trials, read_seeds(selection_seeds, "--selection-seeds") or SELECTION_SEEDS, sampler.value)
    overrides = read_overrides(
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
    execution = Execution(device, workers=workers, isolate=isolate, retries=retries)
    request = Request(suite, overrides, out, execution, dry_run)
    opened = open_request(request)
    found = tune_first(opened, request, effort)
    if found is None:
        return
    say(f"run them with fresh seeds: bench run --tuned --out {out}, and the options given here", opened.console)


def tune_first(opened: Opened, request: Request, effort: TuningBudget) -> Suite | None:
    """Tune, and return the suite of the best settings, which is written too; ``None`` after a dry run.

    Raises:
        UserError: something cannot be tuned.
        typer.Exit: no trial of a method came to a score.
    """
    from parbench.bench.execute.progress import make_progress
    from parbench.bench.tune.study import make_studies
    from parbench.bench.tune.tune import cached_trials, tune
    from parbench.bench.tune.tuned_suite import tuned_suite
    from parbench.tasks.data.lock import RevisionLock

    store, console = opened.store, opened.console
    studies = make_studies(opened.suite, request.overrides, effort, RevisionLock(store.lock_file))
    if request.dry_run:
        console.print(_studies_table(studies, effort), markup=False)
        # Of what a trial is like, its start tells all but the score; which are done is known when they are drawn.
        every = [run for study in studies for run in study.runs * effort.trials]
        print_known_forecast(every, store, opened.executor, console, lambda run: True)
        return None
    store.prepare()
    with make_progress(console, len(studies) * effort.trials * len(effort.seeds)) as progress:
        do_runs = cached_trials(store, lambda runs: opened.executor.execute(runs, store, progress))
        found = [tune(study, effort, do_runs) for study in studies]
    _print_found(found, console)
    written = _write(tuned_suite(opened.suite, request.overrides, effort, found), request.out, console)
    failed = [tuned for tuned in found if tuned.best is None]
    for tuned in failed:
        name = f"{tuned.study.method.name} on {tuned.study.task}"
        say(f"no trial of {name} came to a score; the last: {tuned.trials[-1].reason}", console)
    if failed:
        raise typer.Exit(1)
    return written


def _write(suite: Suite, out: Path, console: Console) -> Suite:
    """Write the tuned suite into the store, beside what was tuned there alike."""
    from parbench.bench.plan.suite import load_suite, suite_text
    from parbench.bench.tune.tuned_suite import merged
    from parbench.bench.util.files import explained, write_atomically

    path = out / TUNED
    if path.exists():
        both = merged(load_suite(str(path)), suite)
        if both is None:
            say(f"the earlier {path} was tuned otherwise and is replaced", console)
        suite = both or suite
    with explained(path):
        write_atomically(path, suite_text(suite))
    say(f"the settings are in {path}", console)
    return suite


def _studies_table(studies: list[Study], effort: TuningBudget) -> Any:
    from rich.table import Table

    seeds = ", ".join(map(str, effort.seeds))
    runs = len(studies) * effort.trials * len(effort.seeds)
    title = f"{effort.trials} trials ({effort.sampler}) of seeds {seeds} each: {runs} runs"
    table = Table("task", "method", "searched, evenly on a logarithmic scale", title=title)
    for study in studies:
        space = ", ".join(f"{axis.field} {axis.low:g} to {axis.high:g}" for axis in study.space)
        table.add_row(study.task, study.method.name, space)
    return table


def _print_found(found: list[StudyResult], console: Console) -> None:
    from rich.table import Table

    from parbench.bench.record.run_record import scale

    trials = Table("task", "method", "trial", "point", "selection score", "")
    for tuned in found:
        # All of one study alike: a likelihood of -0.9 is no other kind of number than one of -1.1.
        factor = scale(trial.score for trial in tuned.trials if trial.score is not None)
        for trial in tuned.trials:
            point = ", ".join(f"{name} {value:.3g}" for name, value in trial.point.items())
            score = trial.reason if trial.score is None else f"{factor * trial.score:.{1 if factor > 1 else 2}f}"
            mark = "best" if trial is tuned.best else ""
            trials.add_row(tuned.study.task, tuned.study.method.name, str(trial.number), point, score, mark)
    console.print(trials, markup=False)
    for tuned in found:
        for edge in tuned.at_bounds:
            say(f"{tuned.study.method.name} on {tuned.study.task}: {edge}; the best may lie beyond", console)
