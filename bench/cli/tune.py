"""`bench tune`."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from parbench.bench.cli.console import say
from parbench.bench.cli.execution import start_loading
from parbench.bench.cli.options import ComparisonOptions, DryRun, ProcessOptions, takes
from parbench.bench.cli.parsing import MOST_PLANNED, read_positive, read_seeds
from parbench.bench.cli.session import open_session, read_overrides
from parbench.bench.cli.studies import print_dry_studies, run_studies
from parbench.bench.tune import Sampler


@takes(ComparisonOptions, ProcessOptions)
def tune(
    comparison: ComparisonOptions,
    processes: ProcessOptions,
    trials: Annotated[int, typer.Option(help="Settings to try, the same number for every method and task.")] = 20,
    selection_seeds: Annotated[
        str | None,
        typer.Option(help="Seeds of the trials, comma-separated; default: 1001,1002.", metavar="1001,1002"),
    ] = None,
    sampler: Annotated[Sampler, typer.Option(help="tpe: the first eight trials fill the space evenly.")] = "tpe",
    dry_run: DryRun = False,
) -> None:
    """Find each method's best setting on the selection split; the reported split is never read.

    Writes OUT/tuned.yaml, for bench run --tuned. An interrupted tuning resumes with the same command.

    \b
    Examples:
    bench tune --methods loca,lora --tasks glue/sst2 --trials 8
    bench tune --methods loca,lora --tasks glue/sst2 --budget 24k --out results/mine
    bench run --tuned --methods loca,lora --tasks glue/sst2 --budget 24k --out results/mine
    """
    start_loading(processes, dry_run=dry_run)
    from parbench.bench.tune.study import SELECTION_SEEDS, TuningBudget

    read_positive(trials, "--trials", most=MOST_PLANNED)
    seeds = read_seeds(selection_seeds, "--selection-seeds") or SELECTION_SEEDS
    effort = TuningBudget(trials, seeds, sampler)
    session = open_session(comparison, read_overrides(comparison), processes)
    if dry_run:
        print_dry_studies(session, effort)
        return
    if run_studies(session, effort).failures:
        raise typer.Exit(1)
    say(
        f"run them with fresh seeds: bench run --tuned --out {shlex.quote(str(comparison.out))}, "
        "and the options given here",
        session.console,
    )
