"""The command line. Heavy imports stay inside the commands: `bench --help` and `bench list` must be instant."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import bench
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.budget import Fit
    from bench.plan import Overrides, Plan
    from bench.record import RunRecord
    from bench.registry import Registry
    from bench.store import Store

app = typer.Typer(
    name="bench",
    help="Compare parameter-efficient fine-tuning methods at equal budgets, equal tuning effort and measured cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DEFAULT_STORE = Path("results")

Out = Annotated[Path, typer.Option("--out", help="Folder of the records.", show_default=True)]


class Listing(StrEnum):
    """What `bench list` lists."""

    METHODS = "methods"
    TASKS = "tasks"
    MODELS = "models"
    SUITES = "suites"


class BudgetMode(StrEnum):
    """How a budget is filled."""

    UNIFORM = "uniform"
    PATTERN = "pattern"


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        _errors().print(f"bench: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        _errors().print("bench: interrupted; the same command goes on from here", soft_wrap=True)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"parbench {bench.__version__}")
        raise typer.Exit


@app.command("list")
def list_names(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List the methods, tasks, base models or suites by name."""
    console = _console()
    if what is Listing.SUITES:
        from bench.suite import load_suite, suite_names

        rows = [(name, load_suite(name).title) for name in suite_names()]
    else:
        registry = _registry(what)
        rows = [(name, registry.entry(name).summary) for name in registry]
    console.print(_two_columns(what.value, rows))


@app.command()
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
        methods=_names(methods, "--methods"),
        tasks=_names(tasks, "--tasks"),
        base_model=model,
        seeds=_seeds(seeds),
        limit=_positive(limit, "--limit"),
        sets=tuple(set_ or ()),
        data_root=data_root,
        budgets=budget,
        budget_mode=budget_mode.value,
    )
    records = _run(suite, overrides, out, device, resume, dry_run)
    if any(record.status != "ok" for record in records):
        raise typer.Exit(1)


@app.command()
def budget(
    model: Annotated[str, typer.Option(help="Base model: a name, a hub id or a local folder.")],
    budget: Annotated[str, typer.Option(help="Adapter parameters: 24000, 24k, 0.1%, match:lora(r=8); by comma.")],
    methods: Annotated[str, typer.Option(help="Methods, by comma, or all.", metavar="A,B")] = "all",
    budget_mode: Annotated[
        BudgetMode, typer.Option(help="pattern: fill a budget with fewer or unevenly sized layers.")
    ] = BudgetMode.UNIFORM,
) -> None:
    """Show the size at which each method meets a parameter budget; nothing is loaded or trained."""
    from bench.budget import Architecture, fit, parse_budgets
    from bench.environment import quiet_libraries
    from bench.models import find_model
    from methods import find_method

    architecture = Architecture(find_model(model))
    chosen = [
        find_method(name) for name in (_every_method() if methods == "all" else _names(methods, "--methods") or ())
    ]
    quiet_libraries()
    settings = [choice.method.setting_type.model_validate(choice.values) for choice in chosen]

    def counted(expression: str) -> int:
        choice = find_method(expression)
        return architecture.count(choice.method, choice.method.setting_type.model_validate(choice.values)).reported

    console = _console()
    for limit in parse_budgets(budget, architecture, counted):
        fits = [
            fit(choice.method, setting, limit, architecture, budget_mode.value)
            for choice, setting in zip(chosen, settings, strict=True)
        ]
        _print_fits(console, model, fits)


@app.command()
def report(out: Out = DEFAULT_STORE) -> None:
    """Turn the records into tables and figures."""
    from bench.store import Store
    from reports.render import TerminalLeaderboard
    from reports.report import write_report

    written = write_report(Store(out))
    console = _console()
    for board in written.boards:
        console.print(TerminalLeaderboard(board))
    console.print(f"the report is {written.files[0]}", soft_wrap=True, highlight=False)
    if written.frame.unreadable:
        raise UserError("left out of the report: " + "; ".join(str(entry) for entry in written.frame.unreadable))


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(help="A run's id, or its first digits.")], out: Out = DEFAULT_STORE
) -> None:
    """Print one run: its spec, outcome, parameter ledger, cost and provenance."""
    from bench.record import to_json
    from bench.store import ERROR, Store

    store = Store(out)
    record = store.find(run_id)
    console = _console()
    console.print_json(to_json(record))
    failure = store.runs / record.run_id / ERROR
    if failure.exists():
        console.print(f"the traceback is in {failure}", soft_wrap=True, highlight=False)


def _run(
    suite_name: str, overrides: Overrides, out: Path, device_name: str | None, resume: bool, dry_run: bool
) -> list[RunRecord]:
    from bench.environment import choose_device, quiet_libraries
    from bench.plan import choose_suite_for, make_plan
    from bench.store import Store
    from tasks.data.lock import RevisionLock

    console = _console()
    store = Store(out)
    choice = choose_suite_for(suite_name, overrides)
    console.print(f"suite {choice.suite.name}: {choice.why}", highlight=False, markup=False, soft_wrap=True)
    if choice.suite.small:
        text = f"a miniature: it cannot show {choice.suite.cannot_show}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    device = choose_device(device_name)
    quiet_libraries()
    plan = make_plan(choice.suite, overrides, RevisionLock(store.lock_file))
    for note in plan.notes:
        console.print(note, highlight=False, markup=False, soft_wrap=True)
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
        console.print(f"{done} of {len(plan.runs)} runs are done already", highlight=False)
    with make_progress(console, len(waiting)) as progress:
        records = list(LocalExecutor(device).execute(waiting, store, progress))
    failed = [record for record in records if record.status != "ok"]
    console.print(
        f"{len(records) - len(failed)} runs done, {len(failed)} failed; see them with: bench report --out {store.root}",
        highlight=False,
        soft_wrap=True,
    )
    return records


def _plan_table(plan: Plan, store: Store) -> Any:
    from rich.table import Table

    table = Table("run", "task", "base model", "method", "seed", "record")
    for planned in plan.runs:
        spec = planned.spec
        state = "done" if store.is_done(spec.run_id) else "to do"
        table.add_row(spec.run_id, spec.task, spec.base_model, spec.method, str(spec.seed), state)
    return table


def _every_method() -> list[str]:
    from methods import METHODS

    return list(METHODS)


def _print_fits(console: Console, model: str, fits: list[Fit]) -> None:
    from rich.table import Table

    target = fits[0].budget
    title = f"{model}, {target.text}: at most {target.parameters:,} reported parameters"
    console.print(title, style="bold", markup=False, highlight=False, soft_wrap=True)
    table = Table("method", "size", "reported", "trainable", "optimised", "bytes", "share", "next size", box=None)
    for column in table.columns[2:7]:
        column.justify, column.no_wrap = "right", True
    for found in fits:
        counts = found.counts
        numbers = (counts.reported, counts.trainable, counts.optimised, counts.stored_bytes) if counts else ()
        cells = [f"{number:,}" for number in numbers] or ["—"] * 4
        share = f"{found.achieved:.1%}" if found.achieved is not None else "—"
        larger = f"{found.larger.size}: {found.larger.reported:,}" if found.larger else "—"
        table.add_row(found.method, found.size or "—", *cells, share, larger)
    console.print(table, markup=False)
    heads = {f"{found.counts.head:,}" for found in fits if found.counts}
    notes = [f"The task head, {' or '.join(sorted(heads))} parameters, is never counted."] if heads else []
    for note in (*notes, *(f"{found.method}: {found.note}" for found in fits if found.note)):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print()


def _registry(what: Listing) -> Registry[Any]:
    if what is Listing.METHODS:
        from methods import METHODS

        return METHODS
    if what is Listing.TASKS:
        from tasks import TASKS

        return TASKS
    from bench.models import MODELS

    return MODELS


def _two_columns(title: str, rows: list[tuple[str, str]]) -> Any:
    from rich.table import Table

    table = Table(title.rstrip("s"), "", box=None, pad_edge=False)
    for name, summary in rows:
        table.add_row(name, summary)
    return table


def _names(text: str | None, option: str) -> tuple[str, ...] | None:
    if text is None:
        return None
    from methods.expression import split

    names = tuple(dict.fromkeys(name for name in split(text, ",") if name))
    if not names:
        raise UserError(f"{option} names nothing; give names with commas between them")
    return names


def _seeds(text: str | None) -> tuple[int, ...] | None:
    names = _names(text, "--seeds")
    if names is None:
        return None
    if not all(name.isdecimal() and int(name) < 2**32 for name in names):
        raise UserError(f'"--seeds {text}" are not whole numbers from 0 to {2**32 - 1} with commas between them')
    return tuple(int(name) for name in names)


def _positive(value: int | None, option: str) -> int | None:
    if value is not None and value < 1:
        raise UserError(f"{option} is {value}; give a number of at least 1")
    return value


def _console() -> Console:
    # A pipe or a file has no width of its own; rich's 80 columns would cut tables that nobody looks at in a terminal.
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 160)


def _errors() -> Console:
    return Console(stderr=True)
