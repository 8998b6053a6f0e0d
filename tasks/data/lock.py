"""Keeps the revisions that were resolved at the first download, so that later runs and tables hold to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading, writing
from parbench.bench.util.file_lock import file_lock
from parbench.bench.util.files import write_atomically


@dataclass(frozen=True)
class RevisionLock:
    """A JSON file of hub repositories and the commits first seen of them.

    Only what has no pinned revision is looked up here: a pin in the code wins, a lock is what stands in for one.
    """

    path: Path

    def get(self, kind: str, repository: str) -> str | None:
        """Return the locked commit of a ``dataset`` or ``model`` repository, if there is one.

        Raises:
            UserError: the lock file is damaged.
        """
        return self._read().get(f"{kind}:{repository}")

    def put(self, kind: str, repository: str, revision: str) -> str:
        """Lock a repository to a commit; return the commit that it is locked to.

        Where another process has locked it in the meantime, that is the other's. Several processes may lock at once.

        Raises:
            UserError: the lock file is damaged, or cannot be written.
        """
        name = f"{kind}:{repository}"
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(self.path.with_name(f".{self.path.name}.lock")):
                locked = {name: revision, **self._read()}
                write_atomically(self.path, json.dumps(locked, indent=1, sort_keys=True) + "\n")
        return locked[name]

    def _read(self) -> dict[str, str]:
        with reading(self.path):
            if not self.path.exists():
                return {}
        try:
            locked = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f'the lock file "{self.path}" cannot be read ({error}); restore it, or delete it to lock again'
            ) from error
        if not isinstance(locked, dict) or not all(isinstance(value, str) for value in locked.values()):
            raise UserError(
                f'the lock file "{self.path}" does not map names to commits; restore it, or delete it to lock again'
            )
        return locked
