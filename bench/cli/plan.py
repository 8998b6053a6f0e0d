"""`bench plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from parbench.bench.cli.console import announce_loading
from parbench.bench.cli.detect import print_needed
from parbench.bench.cli.forecast_table import print_forecast
from parbench.bench.cli.options import ComparisonOptions, ScoringOptions, WorkerOptions, takes
from parbench.bench.cli.parsing import read_positive
from parbench.bench.cli.session import open_session, read_overrides


@takes(ComparisonOptions, ScoringOptions, WorkerOptions)
def plan(
    comparison: ComparisonOptions,
    scoring: ScoringOptions,
    workers: WorkerOptions,
    detect: Annotated[
        float | None,
        typer.Option(
            help="Print how many seeds and examples show a difference of so many points with 80 % power, instead of "
            "the cost; from the variances in OUT where it has some.",
            metavar="POINTS",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Trials per method and task of an equal tuning, whose cost is printed apart.")
    ] = 8,
) -> None:
    """Estimate the time, memory and disk of a suite on this device, from a few real steps of each kind of run."""
    announce_loading()
    from parbench.bench.tune.study import TuningBudget

    read_positive(trials, "--trials")
    session = open_session(comparison, read_overrides(comparison, scoring), workers)
    if detect is not None:
        print_needed(session, detect)
        return
    print_forecast(session.plan().runs, session.store, session.executor, session.console, TuningBudget(trials))
