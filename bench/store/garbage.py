"""Finds and removes what a store no longer needs: never a record, nor anything that was moved aside."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parbench.bench.store.layout import IMPORTING, LEASES, SLURM
from parbench.bench.store.leases import Leases
from parbench.bench.store.store import Store
from parbench.bench.util.files import explained

_RUN_ID = re.compile(r"[0-9a-f]{16}")
# Temporary files of interrupted atomic writes, see `parbench.bench.util.files.write_atomically`.
_TEMPORARY = re.compile(rf"\..+-[0-9a-f]{{32}}|{re.escape(IMPORTING)}[0-9a-f]{{32}}")
_OLD_SECONDS = 24 * 3600.0
_SLURM_DONE = "_0_result.pkl"


@dataclass(frozen=True)
class Garbage:
    """Something to remove.

    Attributes:
        path: a file or a folder.
        why: the reason, in words.
        size: in bytes, of all files in it.
        run_id: of the run that it belongs to, if any; it is removed only while no process executes that run.
    """

    path: Path
    why: str
    size: int
    run_id: str | None = None

    def __str__(self) -> str:
        size = f"{self.size / 2**20:,.1f} MiB" if self.size >= 2**20 else f"{self.size:,} bytes"
        return f"{self.path} ({size}): {self.why}"


def find_garbage(store: Store, unfinished: bool = False) -> Iterator[Garbage]:
    """Yield what can be removed.

    Args:
        unfinished: also the checkpoints of runs that were interrupted or timed out and that no process executes; such
            runs would start from the beginning.
    """
    leases = Leases(store.root)
    yield from _workspaces(store, leases, unfinished)
    for run_id in leases.stale():
        path = leases.path(run_id)
        yield Garbage(path, "the lease of a process that has ended", _size(path), run_id)
    for folder in (store.root, store.root / LEASES):
        for path in _entries(folder):
            if _TEMPORARY.fullmatch(path.name) and _is_old(path):
                yield Garbage(path, "left by an interrupted write", _size(path))
    for result in _entries(store.root / SLURM):
        if not result.name.endswith(_SLURM_DONE) or not _is_old(result):
            continue
        job = result.name.removesuffix(_SLURM_DONE)
        for name in (f"{job}_submitted.pkl", f"{job}_0_log.out", f"{job}_0_log.err", result.name):
            if (path := result.with_name(name)).is_file():
                yield Garbage(path, "of a Slurm job that has ended", _size(path))


def remove(waste: Garbage, store: Store) -> bool:
    """Remove a finding unless another process has begun to use it since; return whether it was removed.

    Raises:
        UserError: the store cannot be written to.
    """
    leases = Leases(store.root)
    with explained(waste.path):
        if waste.run_id is None:
            _delete(waste.path)
            return True
        if waste.path == leases.path(waste.run_id):
            return leases.drop_stale(waste.run_id)
        if not leases.take(waste.run_id):
            return False
        try:
            _delete(waste.path)
        finally:
            leases.release(waste.run_id)
    return True


def _workspaces(store: Store, leases: Leases, unfinished: bool) -> Iterator[Garbage]:
    for folder in _entries(store.work):
        # Unknown folders are not touched.
        if not _RUN_ID.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        done = store.is_done(folder.name)
        if not (done or unfinished) or leases.holder(folder.name) is not None:
            continue
        why = "its run is done" if done else "its run was interrupted and no process has a lease on it"
        yield Garbage(folder, f"checkpoints; {why}", _size(folder), folder.name)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_old(path: Path) -> bool:
    """Return whether a file is too old to be still written, even if the clocks of several machines differ."""
    return time.time() - path.lstat().st_mtime > _OLD_SECONDS


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; of a link, its own."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(found.lstat().st_size for found in files if found.is_symlink() or found.is_file())


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
