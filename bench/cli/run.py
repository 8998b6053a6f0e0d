"""`bench run`."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from parbench.bench.cli.claims import declare_claims, plan_of_claims, read_claims, refuse_other_options
from parbench.bench.cli.console import counted, say
from parbench.bench.cli.dry_run import plan_table
from parbench.bench.cli.execution import start_loading
from parbench.bench.cli.forecast_table import print_known_forecast
from parbench.bench.cli.options import (
    AUTO,
    ClusterOptions,
    ComparisonOptions,
    ExecutionOptions,
    Overwrite,
    RerunOptions,
    ScoringOptions,
    takes,
)
from parbench.bench.cli.parsing import MOST_PLANNED, read_positive
from parbench.bench.cli.session import CommandSession, open_session, read_overrides
from parbench.bench.cli.studies import print_dry_studies, run_studies
from parbench.bench.record.run_record import Status
from parbench.bench.store.layout import TUNED
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.plan.planner import Plan
    from parbench.bench.record.run_record import RunRecord
    from parbench.bench.store.store import Store

# Below this the share of time that harness and start-up take is noise.
_MIN_SECONDS_FOR_OVERHEAD = 60.0


@takes(ComparisonOptions, ScoringOptions, RerunOptions, ExecutionOptions, ClusterOptions)
def run(
    comparison: ComparisonOptions,
    scoring: ScoringOptions,
    rerun: RerunOptions,
    execution: ExecutionOptions,
    cluster: ClusterOptions,
) -> None:
    """Train and evaluate methods on tasks, and write one record per run.

    \b
    Examples:
    bench run --methods loca,lora --tasks glue/sst2 --budget 24k
    bench run --methods lora --tasks glue --set lora.r=4 --seeds 1,2,3
    bench run --methods loca,lora --tasks glue/sst2 --trials 8
    bench run --suite my_suite.yaml --devices 0,1 --workers 4
    bench run --claims loca_half_of_lora,loca_step_time --dry-run
    """
    outcome = run_comparison(RunRequest(comparison, scoring, rerun, execution, cluster))
    if outcome.failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class RunRequest:
    """All options of `bench run` and of `parbench.run`."""

    comparison: ComparisonOptions = field(default_factory=ComparisonOptions)
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    rerun: RerunOptions = field(default_factory=RerunOptions)
    execution: ExecutionOptions = field(default_factory=ExecutionOptions)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)

    def suite(self) -> str:
        """Return the name or file of the suite.

        Raises:
            UserError: options contradict each other, or there is no tuned suite.
        """
        rerun, out = self.rerun, self.comparison.out
        if rerun.tuned and self.comparison.suite != AUTO:
            raise UserError("--tuned takes the suite from --out; leave --suite out")
        if rerun.tuned and rerun.trials:
            raise UserError("--tuned uses settings that are already tuned and --trials tunes them; give one of the two")
        if rerun.trials and rerun.overwrite == "always":
            raise UserError("--overwrite always does not re-run trials; use another --out to tune from scratch")
        if rerun.noise_floor is not None and rerun.noise_floor < 2:
            raise UserError(f"--noise-floor is {rerun.noise_floor}; a spread needs at least 2 runs")
        read_positive(rerun.trials, "--trials", most=MOST_PLANNED)
        read_positive(rerun.noise_floor, "--noise-floor", most=MOST_PLANNED)
        return _tuned_suite(out) if rerun.tuned else self.comparison.suite


@dataclass(frozen=True)
class ComparisonOutcome:
    """The result of a comparison.

    Attributes:
        records: one per run that was executed here or waited for.
        run_ids: all requested runs, including those completed before.
        untuned: a sentence for each study without a score; if there are any, nothing is reported.
    """

    records: tuple[RunRecord, ...] = ()
    run_ids: tuple[str, ...] = ()
    untuned: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any run or study failed."""
        return bool(self.untuned) or any(record.status not in (Status.OK, Status.SKIPPED) for record in self.records)


def run_comparison(request: RunRequest) -> ComparisonOutcome:
    """Do what `bench run` does.

    Raises:
        UserError: an option cannot be used, or the store cannot be written to.
        KeyboardInterrupt: the user asked to stop; the same request resumes.
    """
    start_loading(request.execution, request.cluster, request.rerun.dry_run)
    if request.rerun.claims is not None:
        return _run_claims(request)
    suite, rerun = request.suite(), request.rerun
    overrides = read_overrides(request.comparison, request.scoring, rerun.judge_repeats)
    session = open_session(request.comparison, overrides, request.execution, request.cluster, suite)
    if rerun.trials is not None:
        from parbench.bench.tune.study import TuningBudget

        effort = TuningBudget(rerun.trials)
        if rerun.dry_run:
            print_dry_studies(session, effort)
            say("then the reported runs, with the settings that the trials find:", session.console)
        else:
            tuned = run_studies(session, effort)
            if tuned.failures:
                return ComparisonOutcome(untuned=tuned.failures)
            session = replace(session, suite=tuned.suite)
    plan = session.plan()
    if rerun.noise_floor is not None:
        from parbench.bench.plan.planner import repeated

        plan = repeated(plan, rerun.noise_floor)
    if rerun.dry_run:
        _print_plan(plan, session, rerun)
        return ComparisonOutcome()
    session.store.prepare()
    records = _execute(plan, session, rerun.overwrite)
    if rerun.noise_floor is not None:
        _print_noise(plan, session.store, session.console)
    return ComparisonOutcome(tuple(records), tuple(planned.spec.run_id for planned in plan.runs))


def _run_claims(request: RunRequest) -> ComparisonOutcome:
    """Do the runs that judging some claims takes, once they are declared in the store."""
    comparison, rerun = request.comparison, request.rerun
    refuse_other_options(comparison, request.scoring, rerun)
    claims = read_claims(rerun.claims)
    suites = [one.claim.here.suite for one in claims if one.claim.here]
    overrides = read_overrides(comparison)
    session = open_session(comparison, overrides, request.execution, request.cluster, suites[0] if suites else "mini")
    found = plan_of_claims(session, claims, comparison.data_root)
    if rerun.dry_run:
        _print_plan(found.plan, session, rerun)
        return ComparisonOutcome()
    session.store.prepare()
    plan = declare_claims(session, claims, found)
    records = _execute(plan, session, rerun.overwrite)
    return ComparisonOutcome(tuple(records), tuple(planned.spec.run_id for planned in plan.runs))


def _tuned_suite(out: Path) -> str:
    path = out / TUNED
    if not path.is_file():
        raise UserError(f'there is no "{path}"; make it with: bench tune --out {shlex.quote(str(out))}')
    return str(path)


def _print_plan(plan: Plan, session: CommandSession, rerun: RerunOptions) -> None:
    session.console.print(plan_table(plan.runs, session.store, is_tuned=rerun.trials is None))
    to_do = partial(_is_to_do, store=session.store, overwrite=rerun.overwrite)
    print_known_forecast(plan.runs, session.store, session.executor, session.console, to_do)


def _execute(plan: Plan, session: CommandSession, overwrite: Overwrite) -> list[RunRecord]:
    from parbench.bench.execute.progress import make_progress
    from parbench.bench.run.memory import overhead_share
    from parbench.bench.store.staleness import Superseding

    store, console = session.store, session.console
    waiting = [planned for planned in plan.runs if _is_to_do(planned, store, overwrite)]
    if overwrite == "always":
        for planned in waiting:
            store.discard_workspace(planned.spec.run_id)
    if done := len(plan.runs) - len(waiting):
        say(f"{done} of {len(plan.runs)} runs are done already", console)
    with make_progress(console, len(waiting)) as progress:
        records = []
        superseding = Superseding(store) if overwrite == "stale" else None
        for record in session.execute(waiting, progress):
            records.append(record)
            for run_id in superseding.by(record) if superseding else ():
                progress.note(f"moved aside: {run_id}, which {record.run_id} supersedes")
    _print_counts(records, store, console)
    overhead = overhead_share(records)
    if overhead and overhead.wall_seconds > _MIN_SECONDS_FOR_OVERHEAD:
        say(str(overhead), console)
    return records


def _is_to_do(planned: PlannedRun, store: Store, overwrite: Overwrite) -> bool:
    run_id = planned.spec.run_id
    if overwrite == "always":
        return True
    if overwrite == "never":
        return not store.has_record(run_id)
    return not store.is_done(run_id)


def _print_counts(records: list[RunRecord], store: Store, console: Console) -> None:
    ended = Counter(record.status for record in records)
    skipped = f", {ended[Status.SKIPPED]} skipped" if ended[Status.SKIPPED] else ""
    failed = len(records) - ended[Status.OK] - ended[Status.SKIPPED]
    completed = counted(ended[Status.OK], "run")
    say(
        f"{completed} done, {failed} failed{skipped}; see them with: bench report --out {shlex.quote(str(store.root))}",
        console,
    )


def _print_noise(plan: Plan, store: Store, console: Console) -> None:
    from parbench.bench.record.run_record import RunRecord
    from parbench.reports.statistics import noise_floor

    found = [store.load(planned.spec.run_id) for planned in plan.runs]
    scores = [record.score for record in found if isinstance(record, RunRecord) and record.score is not None]
    floor = noise_floor([scores])
    what = f"noise floor of {plan.runs[0].spec}, {len(scores)} runs of the same seed"
    if floor.sd is None or floor.max_difference is None:
        say(f"{what}: not known, {floor.reason}", console)
        return
    task = plan.runs[0].task
    times = task.unit(task.primary).factor
    shown = ", ".join(f"{times * score:.2f}" for score in scores)
    say(
        f"{what}: {task.primary} {shown}; standard deviation {times * floor.sd:.2f}, "
        f"largest difference {times * floor.max_difference:.2f}",
        console,
    )
