"""What the options of a command resolve to: the suite, the store and the executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.bench.cli.console import announce, open_console, say
from parbench.bench.cli.execution import make_executor
from parbench.bench.cli.options import ClusterOptions, ComparisonOptions, ScoringOptions, WorkerOptions
from parbench.bench.cli.parsing import read_fractions, read_names, read_positive, read_precisions, read_seeds
from parbench.bench.store.layout import ASIDE
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from parbench.bench.execute.executor import Executor, FollowUp
    from parbench.bench.execute.progress import Progress
    from parbench.bench.plan.overrides import Overrides
    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.plan.planner import Plan
    from parbench.bench.plan.suite import Suite
    from parbench.bench.record.run_record import RunRecord
    from parbench.bench.store.store import Store
    from parbench.tasks.data.lock import RevisionLock


@dataclass(frozen=True)
class CommandSession:
    """The resolved options of one command.

    Attributes:
        suite: what is compared, before ``overrides``.
        overrides: what the options change of the suite.
    """

    suite: Suite
    overrides: Overrides
    store: Store
    executor: Executor
    console: Console

    @property
    def lock(self) -> RevisionLock:
        """The revisions that the store has pinned."""
        from parbench.tasks.data.lock import RevisionLock

        return RevisionLock(self.store.lock_file)

    def plan(self) -> Plan:
        """Return the plan, and print what is left out of it.

        Raises:
            UserError: a name, a setting or a value is wrong, or data is missing.
        """
        from parbench.bench.plan.planner import make_plan

        plan = make_plan(self.suite, self.overrides, self.lock, announce)
        self.show_notes(plan)
        return plan

    def execute(
        self, runs: Sequence[PlannedRun], progress: Progress, follow_up: FollowUp | None = None
    ) -> Iterator[RunRecord]:
        """Yield the record of each run when it is written; see `parbench.bench.execute.executor.Executor`.

        What lies where a record will be and cannot be read is named: the run is done again.
        """
        from parbench.bench.store.store import Unreadable

        def named(runs: Sequence[PlannedRun]) -> Sequence[PlannedRun]:
            for run in runs:
                found = self.store.load(run.spec.run_id)
                if isinstance(found, Unreadable):
                    aside = f"the run is done again, and its folder is then moved to {self.store.root / ASIDE}"
                    progress.note(f"{found.path} {found.reason}: {aside}")
            return runs

        def following(record: RunRecord) -> Sequence[PlannedRun]:
            return named(follow_up(record)) if follow_up else ()

        return self.executor.execute(named(runs), self.store, progress, following)

    def show_notes(self, plan: Plan) -> None:
        """Print what is left out of a plan, and what is slow here."""
        from parbench.bench.util.product_speed import bfloat16_slowdown

        for note in plan.notes:
            say(note, self.console)
        in_16_bits = any(run.training.precision == "bfloat16" for run in plan.runs)
        devices = getattr(self.executor, "devices", None) or (getattr(self.executor, "device", ""),)
        if in_16_bits and "cpu" in map(str, devices) and (slowdown := bfloat16_slowdown()) > 1:
            say(
                f"WARNING: products in bfloat16 take {slowdown:.1f} times as long as in float32 here: without "
                "train.precision=bfloat16 the runs are faster",
                self.console,
            )


def open_session(
    options: ComparisonOptions,
    overrides: Overrides,
    workers: WorkerOptions,
    cluster: ClusterOptions | None = None,
    suite: str | None = None,
) -> CommandSession:
    """Resolve the suite, the store and the executor, and print which suite was chosen.

    Args:
        suite: in place of the options' suite.

    Raises:
        UserError: there is no such suite, device or engine.
    """
    from parbench.bench.plan.planner import choose_suite_for
    from parbench.bench.store.store import Store
    from parbench.bench.util.environment import quiet_libraries

    console = open_console()
    choice = choose_suite_for(suite or options.suite, overrides)
    say(f"suite {choice.suite.name}: {choice.why}", console)
    if choice.suite.small:
        say(f"a miniature: it cannot show {choice.suite.cannot_show}", console)
    executor = make_executor(workers, cluster)
    quiet_libraries()
    return CommandSession(choice.suite, overrides, Store(options.out), executor, console)


def read_overrides(
    options: ComparisonOptions, scoring: ScoringOptions | None = None, judge_repeats: int | None = None
) -> Overrides:
    """Return what options change of a suite.

    Args:
        scoring: options of the reported runs; trials of a tuning have none.
        judge_repeats: judgments per answer.

    Raises:
        UserError: an option cannot be read.
    """
    from parbench.bench.models.catalogue import registered_name
    from parbench.bench.plan.overrides import Overrides

    if options.model == "":
        raise UserError("--model is empty; leave it out, or give a name, a hub id or a local folder")
    if options.budget is None and options.budget_mode != "uniform":
        raise UserError(f"--budget-mode {options.budget_mode} needs a budget to fill; give --budget as well")
    judge = {"judge": scoring.judge if scoring else None, "judge_repeats": judge_repeats}
    return Overrides(
        methods=read_names(options.methods, "--methods"),
        tasks=read_names(options.tasks, "--tasks"),
        base_model=options.model and registered_name(options.model),
        seeds=read_seeds(options.seeds),
        limit=read_positive(options.limit, "--limit"),
        evaluation_limit=read_positive(options.evaluation_limit, "--evaluation-limit"),
        sets=tuple(options.sets or ()),
        data_root=options.data_root,
        budgets=options.budget,
        budget_mode=options.budget_mode,
        protocol=scoring.protocol if scoring else None,
        options={name: value for name, value in judge.items() if value is not None},
        base_precisions=read_precisions(options.base_precision),
        train_fractions=read_fractions(scoring.train_fraction if scoring else None),
        retention=scoring.retention if scoring else False,
    )
