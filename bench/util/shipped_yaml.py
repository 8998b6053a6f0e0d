"""YAML files that come with parbench and are called by name, beside which users have files of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.yaml import read_yaml


@dataclass(frozen=True)
class ShippedYaml:
    """The files of one kind, such as suites.

    Attributes:
        kind: what one of them is called in error messages.
        example: a file to look at, in error messages.
        package: that has them, by its import name.
        folder: within the package.
    """

    kind: str
    example: str
    package: str
    folder: str

    def names(self) -> list[str]:
        """Return the names of those that come with parbench."""
        entries = (entry.name for entry in files(self.package).joinpath(self.folder).iterdir())
        return sorted(name.removesuffix(".yaml") for name in entries if name.endswith(".yaml"))

    def shipped_text(self, name: str) -> str:
        """Return the text of one that comes with parbench."""
        return files(self.package).joinpath(self.folder, f"{name}.yaml").read_text(encoding="utf-8")

    def own_text(self, path: str, also: Iterable[str] = ()) -> str:
        """Return the text of a user's file.

        Args:
            path: what the user wrote, which is none of `names`.
            also: further words that may have been meant.

        Raises:
            UserError: there is no such file, or it cannot be read.
        """
        file = Path(path).expanduser()
        if not file.is_file():
            meant = did_you_mean(path, [*also, *self.names()])
            raise UserError(f'there is no {self.kind} called "{path}", nor a file{meant}')
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f'the {self.kind} "{path}" cannot be read ({error})') from error

    def content(self, text: str, origin: str) -> dict[str, Any]:
        """Return the fields of a text; ``origin`` is its name in error messages.

        Raises:
            UserError: it is not YAML, or not a mapping.
        """
        try:
            content = read_yaml(text)
        except ValueError as error:
            raise UserError(f'the {self.kind} "{origin}" is not YAML: {error}') from error
        if not isinstance(content, Mapping):
            raise UserError(f'the {self.kind} "{origin}" is not a mapping of fields to values; see {self.example}')
        return dict(content)
