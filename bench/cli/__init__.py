"""The command line, one file per sub-command.

Heavy imports stay inside the commands: `bench --help` and `bench list` must be instant.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

import parbench
from parbench.bench.cli.adapter import adapter
from parbench.bench.cli.budget import budget
from parbench.bench.cli.command import CommandLine
from parbench.bench.cli.compare import compare
from parbench.bench.cli.gc import gc
from parbench.bench.cli.judge import judge
from parbench.bench.cli.listing import list_names
from parbench.bench.cli.new import new
from parbench.bench.cli.plan import plan
from parbench.bench.cli.profile import profile
from parbench.bench.cli.recommend import recommend
from parbench.bench.cli.report import report, show
from parbench.bench.cli.run import run
from parbench.bench.cli.status import status
from parbench.bench.cli.task import task
from parbench.bench.cli.terminal import cannot_print, check_arguments, print_anything
from parbench.bench.cli.transfer import export, import_
from parbench.bench.cli.tune import tune
from parbench.bench.util.errors import UserError
from parbench.bench.util.interrupted import INTERRUPTED, SENTENCE
from parbench.bench.util.process_environment import clean_process

app = CommandLine(
    name="bench",
    help="Compare parameter-efficient fine-tuning methods at equal budgets, equal tuning effort and measured cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("list")(list_names)
app.command()(run)
app.command()(tune)
app.command()(budget)
app.command()(plan)
app.command()(profile)
app.command()(report)
app.command()(recommend)
app.command()(compare)
app.command()(show)
app.command()(status)
app.command()(gc)
app.command()(export)
app.command("import")(import_)
app.add_typer(new, name="new")
app.add_typer(task, name="task")
app.add_typer(judge, name="judge")
app.add_typer(adapter, name="adapter")


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    # Before a command imports the libraries that read them.
    clean_process()
    print_anything()
    errors = Console(stderr=True, emoji=False)
    try:
        check_arguments(sys.argv[1:])
        app()
    except UserError as error:
        # One line, even if a name from a user's file contains a line break.
        sentence = " ".join(str(error).splitlines())
        errors.print(f"bench: {sentence}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        if not cannot_print(error):
            raise
        sentence = f"bench: standard output cannot be written to ({error.strerror}); what is recorded stays"
        errors.print(sentence, soft_wrap=True)
        # Nothing is left to be flushed at exit, which would fail again.
        os._exit(2)
    except SystemExit as end:
        # Typer uses this exit code for Ctrl-C itself, and prints nothing.
        if end.code == INTERRUPTED:
            errors.print(SENTENCE, soft_wrap=True)
        raise


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"parbench {parbench.__version__}")
        raise typer.Exit
