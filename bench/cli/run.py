"""`bench run`."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from bench.cli.console import DEFAULT_STORE, Out, open_console, read_names, read_positive, read_seeds, say
from bench.record import Status

if TYPE_CHECKING:
    from bench.plan import Overrides, Plan
    from bench.record import RunRecord
    from bench.store import Store


class BudgetMode(StrEnum):
    """How a budget is filled."""

    UNIFORM = "uniform"
    PATTERN = "pattern"


def run(
    methods: Annotated[str | None, typer.Option(help="Methods, by comma.", metavar="A,B")] = None,
    tasks: Annotated[str | None, typer.Option(help="Tasks or task groups, by comma.", metavar="A,B")] = None,
    suite: Annotated[str, typer.Option(help="auto, a suite's name, or a YAML file.")] = "auto",
    model: Annotated[str | None, typer.Option(help="Base model: a name, a hub id or a local folder.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, by comma.", metavar="1,2,3")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many examples of each split.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="METHOD.KEY=VALUE", help="A hyper-parameter; train.KEY for the training's."),
    ] = None,
    out: Out = DEFAULT_STORE,
    data_root: Annotated[Path | None, typer.Option(help="Read data from here, one folder a task.")] = None,
    budget: Annotated[
        str | None, typer.Option(help="Adapter parameters: 24000, 24k, 0.1%, match:lora(r=8); several by comma.")
    ] = None,
    budget_mode: Annotated[
        BudgetMode, typer.Option(help="pattern: fill a budget with fewer or unevenly sized layers.")
    ] = BudgetMode.UNIFORM,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; an accelerator if there is one.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Skip runs that are done and go on with those that were cut; or do all anew.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs and stop.")] = False,
) -> None:
    """Train and evaluate methods on tasks, one record a run."""
    from bench.plan import Overrides

    overrides = Overrides(
        methods=read_names(methods, "--methods"),
        tasks=read_names(tasks, "--tasks"),
        base_model=model,
        seeds=read_seeds(seeds),
        limit=read_positive(limit, "--limit"),
        sets=tuple(set_ or ()),
        data_root=data_root,
        budgets=budget,
        budget_mode=budget_mode.value,
    )
    records = _run(suite, overrides, out, device, resume, dry_run)
    if any(record.status not in (Status.OK, Status.SKIPPED) for record in records):
        raise typer.Exit(1)


def _run(
    suite_name: str, overrides: Overrides, out: Path, device_name: str | None, resume: bool, dry_run: bool
) -> list[RunRecord]:
    from bench.environment import choose_device, quiet_libraries
    from bench.plan import choose_suite_for, make_plan
    from bench.store import Store
    from tasks.data.lock import RevisionLock

    console = open_console()
    store = Store(out)
    choice = choose_suite_for(suite_name, overrides)
    say(f"suite {choice.suite.name}: {choice.why}", console)
    if choice.suite.small:
        say(f"a miniature: it cannot show {choice.suite.cannot_show}", console)
    device = choose_device(device_name)
    quiet_libraries()
    plan = make_plan(choice.suite, overrides, RevisionLock(store.lock_file))
    for note in plan.notes:
        say(note, console)
    if dry_run:
        console.print(_plan_table(plan, store))
        return []
    store.prepare()
    return _execute(plan, store, device, resume, console)


def _execute(plan: Plan, store: Store, device: Any, resume: bool, console: Console) -> list[RunRecord]:
    from bench.execute.local import LocalExecutor
    from bench.progress import make_progress

    waiting, done = [], 0
    for planned in plan.runs:
        if not resume:
            store.discard_workspace(planned.spec.run_id)
        if resume and store.is_done(planned.spec.run_id):
            done += 1
        else:
            waiting.append(planned)
    if done:
        say(f"{done} of {len(plan.runs)} runs are done already", console)
    with make_progress(console, len(waiting)) as progress:
        records = list(LocalExecutor(device).execute(waiting, store, progress))
    ended = Counter(record.status for record in records)
    skipped = f", {ended[Status.SKIPPED]} skipped" if ended[Status.SKIPPED] else ""
    failed = len(records) - ended[Status.OK] - ended[Status.SKIPPED]
    say(
        f"{ended[Status.OK]} runs done, {failed} failed{skipped}; see them with: bench report --out {store.root}",
        console,
    )
    return records


def _plan_table(plan: Plan, store: Store) -> Any:
    from rich.table import Table

    table = Table("run", "task", "base model", "method", "budget", "seed", "record")
    for planned in plan.runs:
        spec = planned.spec
        state = "done" if store.is_done(spec.run_id) else f"to be skipped: {planned.skip}" if planned.skip else "to do"
        budget = spec.budget["asked"] if spec.budget else "—"
        table.add_row(spec.run_id, spec.task, spec.base_model, spec.method, budget, str(spec.seed), state)
    return table
