"""Calls one sub-command as the command line does."""

import typer
from typer.testing import CliRunner

from parbench.bench.util.errors import UserError


def call(command, *arguments):
    """Return a sub-command's exit code and what it has printed; a user's mistake is raised."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, list(map(str, arguments)))
    if isinstance(result.exception, UserError) or (result.exception and not isinstance(result.exception, SystemExit)):
        raise result.exception
    return result.exit_code, result.output
