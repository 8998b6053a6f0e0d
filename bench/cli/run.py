"""`bench run`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from parbench.bench.cli.console import (
    DEFAULT_STORE,
    DataRoot,
    Out,
    counted,
    open_console,
    read_fractions,
    read_names,
    read_positive,
    read_seeds,
    say,
)
from parbench.bench.cli.dry_run import plan_table
from parbench.bench.cli.execution import (
    Address,
    Cluster,
    CpusPerRun,
    Deterministic,
    Device,
    Devices,
    Engine,
    EngineName,
    Execution,
    FailFast,
    GpusPerRun,
    Isolate,
    JobMinutes,
    MemoryLimit,
    Overwrite,
    Partition,
    Redone,
    ReportTo,
    Retries,
    RunsPerJob,
    SilenceLimit,
    TimeLimit,
    Workers,
)
from parbench.bench.cli.forecast_table import print_known_forecast
from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import TUNED
from parbench.bench.train.protocol import Protocol
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.execute.executor import Executor
    from parbench.bench.plan.overrides import Overrides
    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.plan.planner import Plan
    from parbench.bench.plan.suite import Suite
    from parbench.bench.record.run_record import RunRecord
    from parbench.bench.store.store import Store

AUTO = "auto"


class BudgetMode(StrEnum):
    """How a budget is filled."""

    UNIFORM = "uniform"
    PATTERN = "pattern"


Methods = Annotated[str | None, typer.Option(help="Methods, by comma; the suite's unless given.", metavar="A,B")]
Tasks = Annotated[
    str | None,
    typer.Option(help="Tasks, task groups or YAML files, by comma; the suite's unless given.", metavar="A,B"),
]
SuiteName = Annotated[str, typer.Option(help="auto, a suite's name, or a YAML file.")]
Model = Annotated[
    str | None, typer.Option(help="Base model: a name, a hub id or a local folder; the suite's unless given.")
]
Limit = Annotated[int | None, typer.Option(help="At most so many examples of each split.")]
EvaluationLimit = Annotated[
    int | None, typer.Option(help="At most so many examples of the selection split and of each reported subset.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="METHOD.KEY=VALUE",
        help="A hyper-parameter, such as lora.r=4; train.KEY for the training's, TASK.KEY for a task's.",
    ),
]
Budgets = Annotated[
    str | None, typer.Option(help="Adapter parameters: 24000, 24k, 0.1%, match:lora(r=8); several by comma.")
]
Mode = Annotated[BudgetMode, typer.Option(help="pattern: fill a budget with fewer or unevenly sized layers.")]
TrainFraction = Annotated[
    str | None, typer.Option(help="Shares of the training split to train on, each a run: the data-efficiency curve.")
]
Retention = Annotated[
    bool, typer.Option("--retention", help="Measure what the runs forget of general text (language models).")
]
Judge = Annotated[
    str | None, typer.Option(help="Who judges answers: MODEL@URL of an OpenAI-compatible endpoint, or local.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the runs, and what they will take where that is known, and stop.")
]


def run(
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
    protocol: Annotated[
        Protocol | None, typer.Option(help="Rules of reporting; paper:best_epoch chooses the epoch on what it reports.")
    ] = None,
    tuned: Annotated[bool, typer.Option("--tuned", help="The suite is what bench tune wrote into --out.")] = False,
    trials: Annotated[int | None, typer.Option(help="First tune every method with so many trials each.")] = None,
    train_fraction: TrainFraction = None,
    retention: Retention = False,
    judge: Judge = None,
    judge_repeats: Annotated[int | None, typer.Option(help="Judgments of each answer.")] = None,
    noise_floor: Annotated[
        int | None, typer.Option(help="Do the first run so many times, same seed, to see what chance alone changes.")
    ] = None,
    overwrite: Redone = Overwrite.FAILED,
    device: Device = None,
    devices: Devices = None,
    workers: Workers = None,
    isolate: Isolate = True,
    time_limit: TimeLimit = None,
    silence_limit: SilenceLimit = None,
    memory_limit: MemoryLimit = None,
    retries: Retries = 0,
    fail_fast: FailFast = False,
    deterministic: Deterministic = False,
    report_to: ReportTo = None,
    executor: EngineName = Engine.LOCAL,
    address: Address = None,
    cpus_per_run: CpusPerRun = 1,
    gpus_per_run: GpusPerRun = None,
    partition: Partition = None,
    job_minutes: JobMinutes = 240,
    runs_per_job: RunsPerJob = 1,
    dry_run: DryRun = False,
) -> None:
    """Train and evaluate methods on tasks, one record a run."""
    if tuned and suite != AUTO:
        raise UserError("--tuned takes the suite from --out; leave --suite out")
    if tuned and trials:
        raise UserError("--tuned takes settings that are tuned already and --trials tunes them; give one of the two")
    if trials and overwrite is Overwrite.ALWAYS:
        raise UserError("--overwrite always would leave the trials as they are; use another --out to tune anew")
    if noise_floor is not None and noise_floor < 2:
        raise UserError(f"--noise-floor is {noise_floor}; a spread needs at least 2 runs")
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
    request = Request(
        suite=_tuned_suite(out) if tuned else suite,
        overrides=replace(
            shared,
            protocol=protocol,
            options=_given(judge=judge, judge_repeats=judge_repeats),
            train_fractions=read_fractions(train_fraction),
            retention=retention,
        ),
        out=out,
        execution=Execution(
            device,
            devices,
            workers,
            isolate,
            time_limit,
            silence_limit,
            memory_limit,
            retries,
            fail_fast,
            deterministic,
            Cluster(executor, address, cpus_per_run, gpus_per_run, partition, job_minutes, runs_per_job),
            report_to,
        ),
        dry_run=dry_run,
    )
    records = _run(request, overwrite, read_positive(trials, "--trials"), noise_floor)
    if any(record.status not in (Status.OK, Status.SKIPPED) for record in records):
        raise typer.Exit(1)


def read_overrides(
    *,
    methods: str | None,
    tasks: str | None,
    model: str | None,
    seeds: str | None,
    limit: int | None,
    evaluation_limit: int | None,
    sets: list[str] | None,
    data_root: Path | None,
    budget: str | None,
    budget_mode: BudgetMode,
) -> Overrides:
    """Return what the options that run, tune and plan have in common change of a suite.

    Raises:
        UserError: an option cannot be read.
    """
    from parbench.bench.plan.overrides import Overrides

    if model == "":
        raise UserError("--model is empty; leave it out, or give a name, a hub id or a local folder")
    if budget is None and budget_mode is not BudgetMode.UNIFORM:
        raise UserError(f"--budget-mode {budget_mode} says how a budget is filled; give --budget as well")
    return Overrides(
        methods=read_names(methods, "--methods"),
        tasks=read_names(tasks, "--tasks"),
        base_model=model,
        seeds=read_seeds(seeds),
        limit=read_positive(limit, "--limit"),
        evaluation_limit=read_positive(evaluation_limit, "--evaluation-limit"),
        sets=tuple(sets or ()),
        data_root=data_root,
        budgets=budget,
        budget_mode=budget_mode.value,
    )


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True)
class Request:
    """What `bench run` and `bench tune` are asked for alike."""

    suite: str
    overrides: Overrides
    out: Path
    execution: Execution
    dry_run: bool


@dataclass(frozen=True)
class Opened:
    """A request's suite, store and executor, found and announced."""

    suite: Suite
    store: Store
    executor: Executor
    console: Console


def open_request(request: Request) -> Opened:
    """Find and announce what is asked for.

    Raises:
        UserError: there is no such suite or device.
    """
    from parbench.bench.plan.planner import choose_suite_for
    from parbench.bench.store.store import Store
    from parbench.bench.util.environment import quiet_libraries

    console = open_console()
    choice = choose_suite_for(request.suite, request.overrides)
    say(f"suite {choice.suite.name}: {choice.why}", console)
    if choice.suite.small:
        say(f"a miniature: it cannot show {choice.suite.cannot_show}", console)
    executor = request.execution.executor()
    quiet_libraries()
    return Opened(choice.suite, Store(request.out), executor, console)


def _tuned_suite(out: Path) -> str:
    path = out / TUNED
    if not path.is_file():
        raise UserError(f'there is no "{path}"; make it with: bench tune --out {out}')
    return str(path)


def _run(request: Request, overwrite: Overwrite, trials: int | None, noise_floor: int | None) -> list[RunRecord]:
    from parbench.bench.plan.planner import make_plan, repeated
    from parbench.tasks.data.lock import RevisionLock

    opened = open_request(request)
    if trials is not None:
        from parbench.bench.cli.tune import tune_first
        from parbench.bench.tune.study import TuningBudget

        found = tune_first(opened, request, TuningBudget(trials))
        if found is None:
            return []
        opened = replace(opened, suite=found)
    console, store = opened.console, opened.store
    plan = make_plan(opened.suite, request.overrides, RevisionLock(store.lock_file))
    for note in plan.notes:
        say(note, console)
    if noise_floor is not None:
        plan = repeated(plan, noise_floor)
    if request.dry_run:
        console.print(plan_table(plan.runs, store), markup=False)
        to_do = partial(_is_to_do, store=store, overwrite=overwrite)
        print_known_forecast(plan.runs, store, opened.executor, console, to_do)
        return []
    store.prepare()
    records = _execute(plan, opened, overwrite)
    if noise_floor is not None:
        _print_noise(plan, store, console)
    return records


def _execute(plan: Plan, opened: Opened, overwrite: Overwrite) -> list[RunRecord]:
    from parbench.bench.execute.progress import make_progress
    from parbench.bench.run.memory import overhead_share
    from parbench.bench.store.staleness import Superseding

    store, console = opened.store, opened.console
    waiting = [planned for planned in plan.runs if _is_to_do(planned, store, overwrite)]
    if overwrite is Overwrite.ALWAYS:
        for planned in waiting:
            store.discard_workspace(planned.spec.run_id)
    if done := len(plan.runs) - len(waiting):
        say(f"{done} of {len(plan.runs)} runs are done already", console)
    with make_progress(console, len(waiting)) as progress:
        records = []
        superseding = Superseding(store) if overwrite is Overwrite.STALE else None
        for record in opened.executor.execute(waiting, store, progress):
            records.append(record)
            for run_id in superseding.by(record) if superseding else ():
                progress.note(f"moved aside: {run_id}, which {record.run_id} supersedes")
    ended = Counter(record.status for record in records)
    skipped = f", {ended[Status.SKIPPED]} skipped" if ended[Status.SKIPPED] else ""
    failed = len(records) - ended[Status.OK] - ended[Status.SKIPPED]
    completed = counted(ended[Status.OK], "run")
    say(f"{completed} done, {failed} failed{skipped}; see them with: bench report --out {store.root}", console)
    overhead = overhead_share(records)
    if overhead and overhead.wall_seconds > 60:  # of seconds it would tell nothing
        say(str(overhead), console)
    return records


def _is_to_do(planned: PlannedRun, store: Store, overwrite: Overwrite) -> bool:
    run_id = planned.spec.run_id
    if overwrite is Overwrite.ALWAYS:
        return True
    if overwrite is Overwrite.NEVER:
        return not store.has_record(run_id)
    return not store.is_done(run_id)


def _print_noise(plan: Plan, store: Store, console: Console) -> None:
    from parbench.bench.record.run_record import RunRecord, scale
    from parbench.reports.statistics import noise_floor

    found = [store.load(planned.spec.run_id) for planned in plan.runs]
    scores = [record.score for record in found if isinstance(record, RunRecord) and record.score is not None]
    floor = noise_floor([scores])
    what = f"noise floor of {plan.runs[0].spec}, {len(scores)} runs of the same seed"
    if floor.sd is None or floor.max_difference is None:
        say(f"{what}: not known, {floor.reason}", console)
        return
    times = scale(scores)
    shown = ", ".join(f"{times * score:.2f}" for score in scores)
    say(
        f"{what}: {plan.runs[0].task.primary} {shown}; standard deviation {times * floor.sd:.2f}, "
        f"largest difference {times * floor.max_difference:.2f}",
        console,
    )
