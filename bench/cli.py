"""The command line. Heavy imports stay inside the commands: `bench --help` and `bench list` must be instant."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

import bench
from bench.errors import UserError

if TYPE_CHECKING:
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
    )
    records = _run(suite, overrides, out, device, resume, dry_run)
    if any(record.status != "ok" for record in records):
        raise typer.Exit(1)


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
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
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
    return Console()


def _errors() -> Console:
    return Console(stderr=True)
