"""A local data set in the folder structure in which its publishers distribute it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from parbench.bench.util.file_errors import reading
from parbench.tasks.data.source import DataRef


@dataclass(frozen=True)
class PublishedFolder(ABC):
    """One data set below a root of local files, in its folder `DataRef.folder`.

    Attributes:
        root: the root.
    """

    root: Path

    @abstractmethod
    def lacking(self, folder: Path) -> str | None:
        """Return what is not in the data set's folder, or ``None``."""

    def missing(self, data: DataRef) -> str | None:
        """Return what is not there.

        Raises:
            UserError: it cannot even be looked for.
        """
        folder = self.root / data.folder
        with reading(folder):
            if not folder.is_dir():
                return f'there is no folder "{data.folder}" in "{self.root}"'
            return self.lacking(folder)

    def describe(self, data: DataRef) -> str:
        """Return the folder's own name: a full path describes a machine more than the data."""
        return f"local folder {data.folder}, as published"
