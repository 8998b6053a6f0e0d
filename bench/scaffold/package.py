"""Writes a small package with one method or task, which passes its own test and is to be edited."""

from __future__ import annotations

import datetime
import importlib.util
import keyword
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import writing
from parbench.bench.util.registry import Registry

Kind = Literal["method", "task"]

_TEMPLATES = Path(__file__).parent
# A name becomes part of module, class and file names.
_LONGEST = 40
_PART = r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*"
_FORM = {"method": re.compile(_PART), "task": re.compile(rf"{_PART}(?:/{_PART})?")}
_EXAMPLE = {"method": "my_method", "task": "my_task or my_group/my_task"}


@dataclass(frozen=True)
class NewPackage:
    """A package to write.

    Attributes:
        kind: of what it contains.
        name: registered name of the method or task.
    """

    kind: Kind
    name: str

    @property
    def module(self) -> str:
        """Its one module, which its folder is named after as well."""
        return self.name.replace("/", "_")

    @property
    def files(self) -> dict[str, str]:
        """Content of each file, by name."""
        words = {
            "name": self.name,
            "module": self.module,
            "member": self.name.upper(),
            "kind": "".join(part.capitalize() for part in self.module.split("_")),
            "distribution": self.module.replace("_", "-"),
            "group": f"{self.kind}s",
            "object": self.kind.upper(),
            "title": f"{self.name}, to be published",
            "year": str(datetime.datetime.now(datetime.UTC).year),
        }
        names = {
            "pyproject.toml": "pyproject.toml",
            "module.py": f"{self.module}.py",
            "test.py": f"test_{self.module}.py",
        }
        folder = _TEMPLATES / self.kind
        return {
            name: Template((folder / f"{template}.txt").read_text(encoding="utf-8")).substitute(words)
            for template, name in names.items()
        }


def new_package(kind: Kind, name: str, registry: Registry[Any]) -> NewPackage:
    """Return the package of a new method or task.

    Args:
        registry: of what has a name already.

    Raises:
        UserError: the name cannot be used, or is taken.
    """
    if len(name) > _LONGEST or not _FORM[kind].fullmatch(name):
        shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
        raise UserError(
            f'"{shown}" cannot be the name of a {kind}: give lower-case letters, digits and single underscores, at '
            f"most {_LONGEST}, such as {_EXAMPLE[kind]}"
        )
    _refuse_taken(kind, name, registry)
    package = NewPackage(kind, name)
    module = package.module
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise UserError(f'"{name}" is a word of Python and cannot name a module; give another name')
    if module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        raise UserError(f'there is a Python module "{module}" already, which the package would hide; give another name')
    return package


def _refuse_taken(kind: Kind, name: str, registry: Registry[Any]) -> None:
    if name in registry:
        raise UserError(
            f'there is a {kind} called "{name}" already ({registry.entry(name).summary}); give another name'
        )
    # A group names all of its members: a name cannot be both.
    group = name.partition("/")[0]
    if any(known.startswith(f"{name}/") for known in registry):
        raise UserError(f'"{name}" is a group of {kind}s; give another name, or one in it: {name}/my_task')
    if group != name and group in registry:
        raise UserError(f'"{group}" is a {kind} and not a group of {kind}s; give another name')


def write_package(package: NewPackage, parent: Path) -> Path:
    """Write a package into a new folder below ``parent`` and return the folder; nothing is ever overwritten.

    Raises:
        UserError: there is a file or folder of that name, or it cannot be written.
    """
    folder = parent / package.module
    files = package.files
    with writing(folder, "another --to"):
        parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError as error:
            raise UserError(f'there is "{folder}" already; give another --to, or another name') from error
        try:
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
        except OSError:
            # The folder was made here: half a package would be refused the next time.
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder
