"""The folder of records, from which every table is recomputed.

Its files and folders are listed in `parbench.bench.store.layout`.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.record.serialization import from_json, to_json
from parbench.bench.store.layout import ASIDE, ERROR, RECORD, REVISIONS, RUNS, WORK
from parbench.bench.store.log import close_log
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.bench.util.files import explained, sha256_of_file, sync, write_atomically
from parbench.bench.util.secrets import redact_file, redacted

_MOST_BYTES = 2**24
# Ids that a message lists.
_MOST_NAMED = 12


@dataclass(frozen=True)
class Unreadable:
    """A folder in the store that should contain a run and does not."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}; restore it, or move the folder away and run again"


class Store:
    """Reads and writes the records under one folder.

    Raises:
        UserError: the folder's name is not text in UTF-8, which the formats of its files need.
    """

    def __init__(self, root: Path) -> None:
        _check_name(root)
        self.root = root
        self.runs = root / RUNS
        self.work = root / WORK
        self.lock_file = root / REVISIONS

    def prepare(self) -> None:
        """Create the folders, and check that they can be written to.

        Raises:
            UserError: it is a file, is read-only, or the disk is full.
        """
        with explained(self.root):
            for folder in (self.runs, self.work):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{uuid.uuid4().hex}"
            probe.write_bytes(b"parbench")
            probe.unlink()

    def require(self) -> None:
        """Check that the store has runs.

        Raises:
            UserError: the folder does not exist or holds no runs.
        """
        if not self.runs.is_dir() or not any(self.runs.iterdir()):
            if self.work.is_dir() and any(self.work.iterdir()):
                raise UserError(
                    f'no run in "{self.root}" is done yet; the command that started them resumes them (see bench '
                    f'status --out "{self.root}")'
                )
            raise UserError(f'there are no runs in "{self.root}"; name the folder that was given to bench run --out')

    def require_folder(self) -> None:
        """Check that there is a store, possibly without records.

        Raises:
            UserError: there is not.
        """
        if not self.runs.is_dir():
            raise UserError(f'"{self.root}" is not a store; name the folder that was given to bench run --out')

    def load(self, run_id: str) -> RunRecord | Unreadable | None:
        """Return the record of a run, what is wrong with it, or ``None`` where there is none."""
        folder = self.runs / run_id
        if not folder.exists():
            return None
        try:
            found = (folder / RECORD).stat()
            # Checked before opening: reading a pipe would block, and a device may be endless.
            if not stat.S_ISREG(found.st_mode):
                return Unreadable(folder / RECORD, "is not a file")
            if found.st_size > _MOST_BYTES:
                return Unreadable(folder / RECORD, f"has {found.st_size} bytes, and a record has a few thousand")
            record = from_json((folder / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Unreadable(folder, f"has no {RECORD}")
        except OSError as error:
            return Unreadable(folder / RECORD, f"cannot be opened ({error.strerror})")
        except UnicodeDecodeError:
            return Unreadable(folder / RECORD, "is not text")
        except ValueError as error:
            return Unreadable(folder / RECORD, str(error))
        if record.run_id != run_id:
            return Unreadable(folder, f"holds the record of run {record.run_id}")
        return record

    def stamp(self, run_id: str) -> tuple[int, int] | None:
        """Return a value that changes whenever the record of a run is written, ``None`` where there is none."""
        try:
            found = (self.runs / run_id / RECORD).stat()
            return found.st_ino, found.st_mtime_ns
        except OSError:
            return None

    def has_record(self, run_id: str) -> bool:
        """Return whether a run has a complete record, of whatever status."""
        return isinstance(self.load(run_id), RunRecord)

    def is_done(self, run_id: str) -> bool:
        """Return whether a run has a complete record and need not be repeated, as a failed or unreadable one must."""
        found = self.load(run_id)
        return isinstance(found, RunRecord) and found.status in (Status.OK, Status.SKIPPED)

    def scan(self) -> Iterator[RunRecord | Unreadable]:
        """Yield every run in the order of their ids, the unreadable ones as such."""
        if not self.runs.is_dir():
            return
        for folder in sorted(self.runs.iterdir()):
            if folder.name.startswith("."):
                continue
            found = self.load(folder.name) if folder.is_dir() else Unreadable(folder, "is not a run's folder")
            if found is not None:
                yield found

    def find(self, prefix: str) -> RunRecord:
        """Return the run whose id begins with ``prefix``.

        Raises:
            UserError: none or several do, or its record is unreadable.
        """
        self.require()
        ids = [folder.name for folder in self.runs.iterdir() if not folder.name.startswith(".")]
        matches = [run_id for run_id in ids if run_id.startswith(prefix)] if prefix else []
        if len(matches) != 1:
            what = f"{len(matches)} runs begin" if matches else "no run begins"
            names = matches or ids
            known = did_you_mean(prefix, names) if len(names) <= _MOST_NAMED else f"; there are {len(names):,}"
            raise UserError(f'{what} with "{prefix}" in "{self.root}"{known}')
        found = self.load(matches[0])
        if not isinstance(found, RunRecord):
            raise UserError(str(found))
        return found

    def workspace(self, run_id: str) -> Path:
        """Return the folder where an unfinished run keeps its checkpoints."""
        folder = self.work / run_id
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def discard_workspace(self, run_id: str) -> None:
        """Delete the checkpoints of a run that is finished or starts from the beginning."""
        shutil.rmtree(self.work / run_id, ignore_errors=True)

    def commit(self, record: RunRecord, output: Path) -> RunRecord:
        """Make ``output``, a folder under `workspace`, the run's folder, its record written last; all or nothing.

        An earlier record of the same run (a failed one, an unreadable one) is moved aside, never deleted. The log of
        the workspace is included, and secrets of this process's environment are removed from every text.

        Returns:
            The record with the checksums of its files.
        """
        record = _without_secrets(record)
        with explained(output):
            close_log(output.parent, output, record)
            redact_file(output / ERROR)
            record = dataclasses.replace(record, files=checksums(output))
            for name in record.files:
                # A power cut must not leave a record of files that are empty.
                sync(output / name)
            write_atomically(output / RECORD, to_json(record))
            target = self.runs / record.run_id
            if target.exists():
                self.move_aside(record.run_id)
            os.replace(output, target)
            sync(self.runs)
        return record

    def move_aside(self, run_id: str) -> None:
        """Move the folder of a run out of the way; nothing is ever deleted."""
        self.put_aside(self.runs / run_id, run_id)

    def put_aside(self, folder: Path, name: str) -> None:
        """Move a folder of the store out of the way, under a name that begins with ``name``."""
        aside = self.root / ASIDE
        with explained(aside):
            aside.mkdir(exist_ok=True)
            os.replace(folder, aside / f"{name}-{uuid.uuid4().hex[:8]}")


def _check_name(root: Path) -> None:
    name = os.fsencode(root.absolute())
    try:
        is_text = str(root.absolute()).encode() == name
    except UnicodeEncodeError:
        is_text = False
    if not is_text:
        raise UserError(
            f'the folder "{name.decode("utf-8", "backslashreplace")}" of the records has a name that is not text in '
            "UTF-8; rename it, or give another --out"
        )


def checksums(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a run's folder but its record, by its path in the folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / RECORD)
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files}


def _without_secrets(record: RunRecord) -> RunRecord:
    made = record.provenance
    made = dataclasses.replace(made, command=_clean(made.command), notes=tuple(map(_clean, made.notes)))
    reason = None if record.reason is None else _clean(record.reason)
    return dataclasses.replace(record, reason=reason, provenance=made)


def _clean(text: str) -> str:
    """Return a text without secrets, and with bytes that are not UTF-8 (of a file's name, say) written as escapes."""
    return redacted(text).encode("utf-8", "backslashreplace").decode()
