"""`bench new`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parbench.bench.cli.command import CommandLine
from parbench.bench.cli.console import say
from parbench.bench.cli.parsing import read_folder

if TYPE_CHECKING:
    from parbench.bench.scaffold.package import Kind
    from parbench.bench.util.registry import Registry

new = CommandLine(name="new", help="Write a small package with a method or a task of your own.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and underscores.", metavar="NAME")]
To = Annotated[
    Path,
    typer.Option("--to", help="Folder in which the package's folder is made.", parser=read_folder, metavar="DIR"),
]


@new.callback()
def _group() -> None:
    """Write a small package with a method or a task of your own."""


@new.command()
def method(name: Name, to: To = Path()) -> None:
    """Write a package with a tuner and its method, which passes its own test, to be edited."""
    from parbench.methods import METHODS

    _write("method", name, METHODS, to)


@new.command()
def task(name: Name, to: To = Path()) -> None:
    """Write a package with a task and its data, which passes its own test, to be edited."""
    from parbench.tasks import TASKS

    _write("task", name, TASKS, to)


def _write(kind: Kind, name: str, registry: Registry[Any], to: Path) -> None:
    from parbench.bench.scaffold.package import new_package, write_package

    package = new_package(kind, name, registry)
    folder = write_package(package, to)
    use = "--methods" if kind == "method" else "--tasks"
    say(f"{folder} has {', '.join(package.files)}; what to edit is marked EDIT")
    place = shlex.quote(str(folder))
    say(f"test it:     cd {place} && python -m pytest")
    say(f"install it:  python -m pip install --no-deps --editable {place}")
    say(f"run it:      bench run --suite mini {use} {name} --seeds 1")
