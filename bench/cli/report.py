"""`bench report` and `bench show`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parbench.bench.cli.claims import read_claims
from parbench.bench.cli.console import announce, counted, end_incomplete, open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, Out

if TYPE_CHECKING:
    from parbench.reports.report import Report

# Of the sentences on runs without a score; the report has all of them.
_MOST_FAILURES = 10


def report(
    out: Out = DEFAULT_STORE,
    profile: Annotated[
        list[Path] | None,
        typer.Option(
            "--profile",
            help="What bench profile --out wrote: scores are drawn against its costs. OUT/profile, if it is there; may "
            "be given for several base models.",
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Print all tables and notes, not the result alone.")] = False,
    names: Annotated[
        str | None,
        typer.Option(help="Names to show: lora=LoRA,glue/sst2=SST-2, or a YAML file with them.", metavar="A=B"),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(help="Methods in the order of the rows, comma-separated; rank: by mean rank.", metavar="A,B"),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="The method that others are compared with; default: lora, else the first.", metavar="METHOD"),
    ] = None,
    claims: Annotated[
        str | None,
        typer.Option(
            help="Judge these claims as well: names or YAML files, comma-separated. Those of bench run --claims always "
            "are.",
            metavar="A,B",
        ),
    ] = None,
) -> None:
    """Turn the records into tables and figures, in OUT/report, and print the result.

    \b
    Examples:
    bench report
    bench report --out results/mine
    bench report --out results/mine --profile results/roberta --profile results/llama
    bench report --names lora=LoRA,loca="LoCA (ours)" --order rank --baseline full
    bench report --claims my_claim.yaml
    """
    announce(f"reading {out} and writing its report")
    from parbench.reports.plotting import import_matplotlib

    import_matplotlib()
    from parbench.bench.store.store import Store
    from parbench.reports.display import Display, read_names
    from parbench.reports.profile.costs import read_profiles
    from parbench.reports.report import write_report

    store = Store(out)
    listed = tuple(name.strip() for name in (order or "").split(",") if name.strip())
    display = Display(read_names(names) if names is not None else {}, listed, baseline)
    asked = read_claims(claims)
    written = write_report(store, profiles=read_profiles(profile or (), store), display=display, claims=asked)
    _print_report(written, full)
    if written.frame.unreadable:
        end_incomplete("left out of the report", written.frame.unreadable)


def _print_report(written: Report, full: bool) -> None:
    from parbench.reports.brief import BriefLeaderboard
    from parbench.reports.claims.tables import claim_lines
    from parbench.reports.leaderboard_render import TerminalLeaderboard

    console = open_console()
    for board in written.boards:
        console.print(TerminalLeaderboard(board) if full else BriefLeaderboard(board))
    for failure in written.failures[:_MOST_FAILURES]:
        say(f"no score: {failure}", console)
    if (more := len(written.failures) - _MOST_FAILURES) > 0:
        say(f"no score: {counted(more, 'run')} more; the report has all", console)
    for line in claim_lines(written.claims):
        say(line, console)
    for remark in written.remarks:
        say(f"profiled costs: {remark}", console)
    say(f"the report is {written.page}", console)


def show(
    run_id: Annotated[str, typer.Argument(help="A run's id, or its first digits.")], out: Out = DEFAULT_STORE
) -> None:
    """Print one run: its spec, outcome, parameter ledger, cost and provenance."""
    from parbench.bench.record.serialization import to_json
    from parbench.bench.store.layout import ERROR
    from parbench.bench.store.store import Store

    store = Store(out)
    record = store.find(run_id)
    console = open_console()
    console.print_json(to_json(record))
    failure = store.runs / record.run_id / ERROR
    if failure.exists():
        say(f"the traceback is in {failure}", console)
