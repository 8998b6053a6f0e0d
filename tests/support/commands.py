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


def in_place_of(defaults, sets, arguments):
    """Return arguments behind the defaults that they do not give themselves.

    Args:
        defaults: value by option.
        sets: what is given with ``--set``, each as ``owner.key=value``.
        arguments: options and their values.
    """
    given = [str(argument) for argument in arguments]
    options = {text.partition("=")[0] for text in given}
    keys = {text.removeprefix("--set=").partition("=")[0] for text in given}
    return [
        *(part for option, value in defaults.items() if option not in options for part in (option, value)),
        *(f"--set={text}" for text in sets if text.partition("=")[0] not in keys),
        *arguments,
    ]
