"""Where the data of tasks is found: a local folder, the hub or packages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

from parbench.bench.util.errors import UserError
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.data.source import DataSource


class HasData(Protocol):
    """What is asked of a task to find its data, see `parbench.tasks.base.Task`."""

    @property
    def own_source(self) -> DataSource | None:
        """Where the data is, if the task brings it along."""

    def missing(self, source: DataSource) -> str | None:
        """Return what a source lacks of the task's data, or ``None``."""

    def in_folder(self, root: Path) -> DataSource:
        """Return where its data is below a root of local files."""


@dataclass(frozen=True)
class DataLocation:
    """Where data is read from. All values are plain, so that a run can be sent to another process or machine.

    Attributes:
        remote: where data comes from that is neither local nor the task's own: the ``hub``, a ``package``, or ``any``
            of the two, a package first.
        lock_file: file of the revisions that were resolved at their first use.
        root: folder of local data, with one folder per task, if there is one.
    """

    remote: Literal["hub", "package", "any"]
    lock_file: str
    root: str | None = None

    def absolute(self) -> DataLocation:
        """Return the same location with absolute paths, for a process that works in another folder."""
        root = None if self.root is None else str(Path(self.root).absolute())
        return replace(self, lock_file=str(Path(self.lock_file).absolute()), root=root)

    def source(self, task: HasData) -> DataSource:
        """Return where the data of a task comes from: the root, the task's own source, or the remote one.

        A task with a source of its own (generated data, for example) is read from the root only if the root has it.

        Raises:
            UserError: the root is not a folder.
        """
        if self.root is not None:
            if not Path(self.root).is_dir():
                raise UserError(
                    f'the data root "{self.root}" is not a folder; give a folder that has one folder per task'
                )
            folder = task.in_folder(Path(self.root))
            if task.own_source is None or task.missing(folder) is None:
                return folder
        if task.own_source is not None:
            return task.own_source
        if self.remote == "package" or (self.remote == "any" and task.missing(PackageSource()) is None):
            return PackageSource()
        return HubSource(RevisionLock(Path(self.lock_file)))
