"""Tasks whose local files have names of their own, where those of others are named after the hub's splits."""

from __future__ import annotations

from parbench.tasks.base import Splits, Task
from parbench.tasks.data.files import TaskFiles
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.source import Source


class LocalFilesTask(Task):
    """A task whose files have names of its own: whatever folder it is given, it reads it as `TaskFiles`."""

    def missing(self, source: Source) -> str | None:
        """Return why the data cannot be had from ``source``, or ``None`` if it can."""
        return super().missing(_by_own_names(source))

    def describe(self, source: Source) -> str:
        """Return where the data comes from, in words for a table."""
        return super().describe(_by_own_names(source))

    def revision(self, source: Source) -> str:
        """Return the commit or content hash that fixes the data."""
        return super().revision(_by_own_names(source))

    def splits(self, source: Source, limit: int | None = None) -> Splits:
        """Load the data and cut it."""
        return super().splits(_by_own_names(source), limit)


def _by_own_names(source: Source) -> Source:
    return TaskFiles(source.root) if isinstance(source, FolderSource) else source
