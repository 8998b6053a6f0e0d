"""What a run was asked for by, and where its data is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.base import Task
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package import PackageSource
from parbench.tasks.data.source import Source
from parbench.tasks.retention import GeneralText, general_text

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class AskedNames:
    """What a run was asked for by, where the spec has only the name of what was found.

    Attributes:
        method: the method's expression.
        task: a registered name, or the path of a YAML file.
        base_model: a registered name, a local folder or a hub id.
        data_root: the folder of local data, if there is one.
        hub: whether data that is not local, nor the task's own, comes from the hub; else from packages.
        lock_file: where the revisions are that were resolved at first use.
    """

    method: str
    task: str
    base_model: str
    data_root: str | None
    hub: bool
    lock_file: str

    def absolute(self) -> AskedNames:
        """Return the same with whole paths, for a process that works in another folder."""

        def whole(name: str) -> str:
            return str(Path(name).absolute()) if Path(name).exists() else name

        root = None if self.data_root is None else whole(self.data_root)
        return AskedNames(
            self.method,
            whole(self.task),
            whole(self.base_model),
            root,
            self.hub,
            str(Path(self.lock_file).absolute()),
        )

    def general_text(self) -> GeneralText:
        """Return the text that forgetting is measured on."""
        root = None if self.data_root is None else Path(self.data_root)
        return general_text("hub" if self.hub else "package", RevisionLock(Path(self.lock_file)), root)

    def source(self, task: Task) -> Source:
        """Return where the data of a task comes from: the folder given, the task's own, or the suite's.

        A task that has data of its own (generated, say) needs none in the folder given, but what is there goes first.

        Raises:
            UserError: the folder given is none.
        """
        if self.data_root is not None:
            if not Path(self.data_root).is_dir():
                raise UserError(
                    f'the data root "{self.data_root}" is not a folder; give one that holds a folder a task'
                )
            folder = FolderSource(Path(self.data_root))
            if task.own_source is None or task.missing(folder) is None:
                return folder
        if task.own_source is not None:
            return task.own_source
        return HubSource(RevisionLock(Path(self.lock_file))) if self.hub else PackageSource()
