"""`bench plan`: what a suite will take here, before it is begun."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from parbench.bench.cli.console import DEFAULT_STORE, DataRoot, Out, read_fractions, say
from parbench.bench.cli.execution import Device, Execution, Workers
from parbench.bench.cli.forecast_table import print_forecast
from parbench.bench.cli.run import (
    AUTO,
    BudgetMode,
    Budgets,
    EvaluationLimit,
    Judge,
    Limit,
    Methods,
    Mode,
    Model,
    Request,
    Retention,
    Sets,
    SuiteName,
    Tasks,
    TrainFraction,
    open_request,
    read_overrides,
)
from parbench.bench.train.protocol import Protocol


def plan(
    methods: Methods = None,
    tasks: Tasks = None,
    suite: SuiteName = AUTO,
    model: Model = None,
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, by comma; the suite's unless given.", metavar="1,2,3")
    ] = None,
    limit: Limit = None,
    evaluation_limit: EvaluationLimit = None,
    set_: Sets = None,
    out: Out = DEFAULT_STORE,
    data_root: DataRoot = None,
    budget: Budgets = None,
    budget_mode: Mode = BudgetMode.UNIFORM,
    protocol: Annotated[Protocol | None, typer.Option(help="Rules of reporting.")] = None,
    train_fraction: TrainFraction = None,
    retention: Retention = False,
    judge: Judge = None,
    device: Device = None,
    workers: Workers = None,
) -> None:
    """Estimate the time, memory and disk of a suite on this device, from a few real steps of each kind of run."""
    from parbench.bench.plan.planner import make_plan
    from parbench.tasks.data.lock import RevisionLock

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
    overrides = replace(
        shared,
        protocol=protocol,
        options={} if judge is None else {"judge": judge},
        train_fractions=read_fractions(train_fraction),
        retention=retention,
    )
    opened = open_request(Request(suite, overrides, out, Execution(device, workers=workers), dry_run=True))
    made = make_plan(opened.suite, overrides, RevisionLock(opened.store.lock_file))
    for note in made.notes:
        say(note, opened.console)
    print_forecast(made.runs, opened.store, opened.executor, opened.console)
