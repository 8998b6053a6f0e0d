"""Exports and imports records, as a file or from folder to folder, without loss.

An archive is a gzipped tar of ``runs/RUN_ID/...``, of ``deployment/RUN_ID/...`` where adapters were measured, and of
``declarations/...`` where runs were planned for claims. It contains only files and folders. Imports are not trusted:
every record and every file beside it is checked, and a link, or a path out of the folder, refuses the whole archive.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from parbench.bench.record.run_record import RunRecord
from parbench.bench.record.serialization import to_json
from parbench.bench.store.copies import copy_in
from parbench.bench.store.declarations import file_name, keep, read_declarations
from parbench.bench.store.deployments import RESULT, Taken, folder_of, is_of_adapter, read_deployment, take_deployment
from parbench.bench.store.layout import ADAPTER, DECLARATIONS, DEPLOYMENT, IMPORTING, LOGITS, RUNS
from parbench.bench.store.leases import Leases
from parbench.bench.store.store import Store, Unreadable, checksums
from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import writing
from parbench.bench.util.files import explained

_PIECE = 2**20
# What a file of which another is to lie inside gives, or a name that no disk has: the archive is wrong, not the disk.
_CLASHES = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG)
_RUN_ID = re.compile(r"[0-9a-f]{16}")
_DECLARATION = re.compile(r"[a-z0-9_]+-[0-9a-f]{16}\.json")

# Which of two records of one run is kept.
Take = Literal["ours", "theirs"]
# Parts of a run that an export may have left out.
_OPTIONAL = (ADAPTER, LOGITS)


@dataclass
class Exported:
    """The content of an archive.

    Attributes:
        runs: number of records.
        left_out: records that cannot be read, with the reason.
    """

    runs: int = 0
    left_out: list[str] = field(default_factory=list)


@dataclass
class Imported:
    """The outcome of an import, by run id or in words.

    Attributes:
        new: imported.
        same: already present.
        completed: already present, and given the adapter or the logits that ours lacked.
        replaced: imported, with our record moved aside, because it was requested or because ours cannot be read.
        kept: not imported, because keeping ours was requested.
        deployments: runs whose measured adapters were imported.
        conflicts: not imported, because ours differs and ``take`` was not given.
        refused: incomplete, or being executed here at the moment.
    """

    new: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    deployments: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def export(store: Store, file: Path, adapters: bool = True, logits: bool = True) -> Exported:
    """Write the records of a store, and the files beside them, into a file.

    Args:
        adapters: with the trained adapters, and what they were converted to.
        logits: with the files of logits, which no table needs.

    Raises:
        UserError: there are no records, or the file exists already or cannot be written.
    """
    store.require()
    if file.exists():
        raise UserError(f'"{file}" exists already; name another file, or delete it')
    done = Exported()
    left_out = {name for name, wanted in ((ADAPTER, adapters), (LOGITS, logits)) if not wanted}
    temporary = file.with_name(f".{file.name}-{uuid.uuid4().hex}")
    try:
        with writing(file), tarfile.open(temporary, "w:gz", compresslevel=6) as archive:
            for record in store.scan():
                if isinstance(record, Unreadable):
                    done.left_out.append(str(record))
                elif fault := _fault(store.runs / record.run_id, record):
                    done.left_out.append(f"{store.runs / record.run_id} {fault}")
                else:
                    _add(archive, store.runs / record.run_id, left_out)
                    _add_deployment(archive, store, record, adapters, done)
                    done.runs += 1
            for made in read_declarations(store):
                if isinstance(made, Unreadable):
                    done.left_out.append(str(made))
                else:
                    path = store.root / DECLARATIONS / file_name(made)
                    archive.add(path, f"{DECLARATIONS}/{path.name}", recursive=False, filter=_anonymous)
        with writing(file):
            os.replace(temporary, file)
    finally:
        # Does not exist if it could not be created.
        if temporary.exists():
            temporary.unlink()
    return done


def take_in(source: Path, store: Store, take: Take | None = None) -> Imported:
    """Copy the records of an archive, or of another store, into a store.

    Args:
        take: which of two different records of one run to keep; default: neither is changed, and the conflict is
            reported. A record of ours that cannot be read is always moved aside and replaced.

    Raises:
        UserError: the source is neither, is unsafe, or the store cannot be written to.
    """
    if source.is_dir():
        theirs = Store(source)
        theirs.require()
        store.prepare()
        return _merge(theirs, store, take)
    if not source.is_file():
        raise UserError(f'there is no "{source}"; name a file of bench export, or a store')
    store.prepare()
    with _unpacked(source, store) as theirs:
        return _merge(theirs, store, take)


def _add(archive: tarfile.TarFile, folder: Path, left_out: Collection[str]) -> None:
    for path in sorted(folder.rglob("*")):
        name = PurePosixPath(RUNS, folder.name, *path.relative_to(folder).parts)
        if path.is_file() and name.parts[2] not in left_out:
            archive.add(path, str(name), recursive=False, filter=_anonymous)


def _add_deployment(archive: tarfile.TarFile, store: Store, record: RunRecord, adapters: bool, done: Exported) -> None:
    found = read_deployment(store, record)
    if isinstance(found, str):
        done.left_out.append(f"{store.root}/{found}")
    elif found is not None:
        folder = folder_of(store, record.run_id)
        for name in sorted([RESULT, *found.files]):
            if (folder / name).exists() and (adapters or not is_of_adapter(name)):
                archive.add(folder / name, f"{DEPLOYMENT}/{folder.name}/{name}", recursive=False, filter=_anonymous)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Remove the owner of a file."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


@contextmanager
def _unpacked(file: Path, store: Store) -> Iterator[Store]:
    """Unpack a file beside the records, on the same file system; it is gone after the block."""
    staging = store.root / f"{IMPORTING}{uuid.uuid4().hex}"
    try:
        with explained(staging):
            (staging / RUNS).mkdir(parents=True)
            try:
                with gzip.open(file) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                    for entry in archive:
                        _check(entry, file)
                        archive.extract(entry, staging, filter="data")
                    while stream.read(_PIECE):  # to where the checksum of the whole is
                        pass
            except UserError:
                raise
            except (tarfile.TarError, EOFError, ValueError, OSError, zlib.error) as error:
                if isinstance(error, OSError) and error.errno not in (None, *_CLASHES):  # the disk's, not the file's
                    raise
                raise UserError(f'"{file}" is not a complete file of bench export: {error}') from error
        yield Store(staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _check(entry: tarfile.TarInfo, file: Path) -> None:
    parts = PurePosixPath(entry.name).parts
    plain = entry.isreg() or entry.isdir()
    of_a_run = parts[:1] in ((RUNS,), (DEPLOYMENT,)) and all(map(_RUN_ID.fullmatch, parts[1:2])) and ".." not in parts
    declared = parts[:1] == (DECLARATIONS,) and len(parts) == 2 and _DECLARATION.fullmatch(parts[1])
    home = of_a_run or (declared and entry.isreg())
    if not plain or not home:
        raise UserError(
            f'"{file}" holds "{entry.name}", which is {"not in the folder of a run" if plain else "no plain file"}; '
            "nothing was imported from it"
        )


def _merge(theirs: Store, store: Store, take: Take | None) -> Imported:
    done, leases = Imported(), Leases(store.root)
    for record in theirs.scan():
        if isinstance(record, Unreadable):
            done.refused.append(f"{record.path.relative_to(theirs.root)} {record.reason}")
            continue
        run_id, folder = record.run_id, theirs.runs / record.run_id
        if fault := _fault(folder, record):
            done.refused.append(f"{RUNS}/{run_id} {fault}")
        elif not leases.take(run_id):
            done.refused.append(
                f"{RUNS}/{run_id} is being executed here at the moment; import again when it has finished"
            )
        else:
            try:
                _take_one(folder, record, store, take, done)
                _take_deployment(theirs, record, store, take, done)
            finally:
                leases.release(run_id)
    for made in read_declarations(theirs):
        if isinstance(made, Unreadable):
            done.refused.append(f"{made.path.relative_to(theirs.root)} {made.reason}")
        else:
            keep(store, made)
    return done


def _take_one(folder: Path, record: RunRecord, store: Store, take: Take | None, done: Imported) -> None:
    run_id, ours = record.run_id, store.load(record.run_id)
    if ours is None:
        _copy(folder, store)
        done.new.append(run_id)
    elif isinstance(ours, Unreadable):
        _copy(folder, store)
        done.replaced.append(run_id)
    elif _is_same(ours, record):
        (done.completed if _complete(folder, store) else done.same).append(run_id)
    elif take == "theirs":
        _copy(folder, store)
        done.replaced.append(run_id)
    elif take == "ours":
        done.kept.append(run_id)
    else:
        done.conflicts.append(f"{run_id} {record.spec}: ours {_outcome(ours)}, theirs {_outcome(record)}")


def _is_same(ours: RunRecord, theirs: RunRecord) -> bool:
    return to_json(ours) == to_json(theirs)


def _complete(folder: Path, store: Store) -> bool:
    """Copy the optional parts that our folder of the run lacks; return whether there were any."""
    ours = store.runs / folder.name
    missing = [name for name in _OPTIONAL if (folder / name).exists() and not (ours / name).exists()]
    for name in missing:
        copy_in(folder / name, ours / name, store)
    return bool(missing)


def _outcome(record: RunRecord) -> str:
    what = f"{record.primary} {record.score:.4f}" if record.score is not None else record.status.replace("_", " ")
    return f"{what} of {record.provenance.finished}"


def _copy(folder: Path, store: Store) -> None:
    """Put a run's folder into a store, all of it or nothing; what is there is moved aside."""
    copy_in(folder, store.runs / folder.name, store, aside=folder.name)


def _take_deployment(theirs: Store, record: RunRecord, store: Store, take: Take | None, done: Imported) -> None:
    """Copy what was measured of a run's adapter, if the record here is the one that it was measured of."""
    ours = store.load(record.run_id)
    if not isinstance(ours, RunRecord) or not _is_same(ours, record):
        return
    taken = take_deployment(theirs, store, record, replace=take == "theirs")
    if isinstance(taken, str):
        done.refused.append(taken)
    elif taken in (Taken.NEW, Taken.REPLACED):
        done.deployments.append(record.run_id)
    elif taken is Taken.DIFFERS and take is None:
        done.conflicts.append(f"{DEPLOYMENT}/{record.run_id}, which was measured here, too, and differs")


def _fault(folder: Path, record: RunRecord) -> str | None:
    """Return what is wrong with the files beside a record, if anything; optional parts may have been left out."""
    if link := next((path for path in folder.rglob("*") if path.is_symlink()), None):
        return f'holds a link, "{link.relative_to(folder)}"'
    found = checksums(folder)
    for name in sorted({*found, *record.files}):
        if name not in record.files:
            return f'holds "{name}", which its record does not know'
        if name not in found and PurePosixPath(name).parts[0] not in _OPTIONAL:
            return f'lacks "{name}"'
        if name in found and found[name] != record.files[name]:
            return f'holds "{name}" changed (its checksum does not match)'
    return None
