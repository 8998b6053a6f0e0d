"""What was measured of the runs' trained adapters, in a folder for each run beside the runs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path, PurePosixPath

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from parbench.bench.record.deployment import Deployment
from parbench.bench.record.run_record import RunRecord
from parbench.bench.record.run_spec import digest
from parbench.bench.store.copies import copy_in
from parbench.bench.store.layout import ADAPTER, DEPLOYMENT
from parbench.bench.store.store import Store
from parbench.bench.util.files import explained, sha256_of_file, write_atomically

RESULT = "deployment.json"
# Of folders that are being written.
_STAGING = "."
_MOST_BYTES = 2**22


class Taken(Enum):
    """What became of another store's measurement of a run."""

    NEW = "copied"
    SAME = "already present"
    REPLACED = "copied, with ours moved aside"
    DIFFERS = "not copied, because ours differs"


def folder_of(store: Store, run_id: str) -> Path:
    """Return where the deployment of a run is kept."""
    return store.root / DEPLOYMENT / run_id


def adapter_digest(record: RunRecord) -> str:
    """Return a digest of the files of a run's adapter, which need not be there."""
    return digest({name: value for name, value in record.files.items() if PurePosixPath(name).parts[0] == ADAPTER})


@contextmanager
def new_folder(store: Store, run_id: str) -> Iterator[Path]:
    """Yield a folder for the files of a deployment; `write_deployment` puts it in its place, or it is gone after."""
    home = store.root / DEPLOYMENT
    with explained(home):
        home.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix=f"{_STAGING}{run_id}-", dir=home)
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def write_deployment(found: Deployment, store: Store, folder: Path) -> None:
    """Write a deployment beside its files, and put the folder in its place; it replaces an earlier one.

    Raises:
        UserError: the folder cannot be written to.
    """
    found = dataclasses.replace(found, files=_checksums(folder))
    target = folder_of(store, found.run_id)
    with explained(folder):
        folder.chmod(0o755)
        write_atomically(folder / RESULT, json.dumps(dataclasses.asdict(found), indent=1) + "\n")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(folder, target)


def read_deployments(store: Store) -> Iterator[Deployment | str]:
    """Yield what was measured, and a sentence for each folder that is not what was measured of a run of the store."""
    for path in sorted((store.root / DEPLOYMENT).glob("*/")):
        if path.name.startswith(_STAGING):
            continue
        record = store.load(path.name)
        if isinstance(record, RunRecord):
            found = read_deployment(store, record, adapters=False)
            if found is not None:
                yield found
        else:
            yield f"{DEPLOYMENT}/{path.name} is not of a run of the store"


def read_deployment(store: Store, record: RunRecord, adapters: bool = True) -> Deployment | str | None:
    """Return what was measured of a run, a sentence where that cannot be used, or ``None`` where nothing was.

    Args:
        store: what holds it.
        record: of the run.
        adapters: also check the converted adapters, as far as they are there.
    """
    folder = folder_of(store, record.run_id)
    place = f"{DEPLOYMENT}/{folder.name}"
    if not folder.exists():
        return None
    try:
        if (folder / RESULT).stat().st_size > _MOST_BYTES:
            return f"{place}/{RESULT} is too large to be a measurement"
        found = _adapter().validate_json((folder / RESULT).read_bytes())
        if found.run_id != record.run_id:
            return f"{place} is of another run"
        if found.adapter != adapter_digest(record):
            return f"{place} is of an earlier execution of the run; repeat bench adapter measure {record.run_id}"
        fault = _fault(folder, found, adapters)
    except (OSError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        return f"{place}/{RESULT} cannot be read ({reason})"
    return found if fault is None else f"{place} {fault}"


def is_of_adapter(name: str) -> bool:
    """Return whether a file of a deployment is of a converted adapter, which an export may leave out."""
    return len(PurePosixPath(name).parts) > 1


def take_deployment(theirs: Store, store: Store, record: RunRecord, replace: bool) -> Taken | str | None:
    """Copy what another store has measured of a run that both have.

    Args:
        theirs: the other store.
        store: ours.
        record: of the run, the same in both.
        replace: whether another measurement of ours is moved aside for theirs.

    Returns:
        What was done; a sentence where theirs cannot be used; ``None`` where there is none.

    Raises:
        UserError: the store cannot be written to.
    """
    found = read_deployment(theirs, record)
    if not isinstance(found, Deployment):
        return found
    source, target = folder_of(theirs, record.run_id), folder_of(store, record.run_id)
    ours = read_deployment(store, record)
    if ours == found:
        for name in found.files:
            if (source / name).exists() and not (target / name).exists():
                copy_in(source / name, target / name, store)
        return Taken.SAME
    if isinstance(ours, Deployment) and not replace:
        return Taken.DIFFERS
    copy_in(source, target, store, aside=f"{DEPLOYMENT}-{target.name}")
    return Taken.NEW if ours is None else Taken.REPLACED


def _checksums(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / RESULT)
    return {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files}


def _fault(folder: Path, found: Deployment, adapters: bool) -> str | None:
    """Return what is wrong with the files of a deployment, if anything; converted adapters may have been left out."""
    if link := next((path for path in folder.rglob("*") if path.is_symlink()), None):
        return f'holds a link, "{link.relative_to(folder)}"'
    rows = {conversion.rows for conversion in found.conversions if conversion.rows is not None}
    if bad := next((name for name in found.files if {"..", "/"} & set(PurePosixPath(name).parts)), None):
        return f'names "{bad}", which is outside of it'
    if unknown := {name for name in rows if is_of_adapter(name)} | (rows - found.files.keys()):
        return f'names the rows "{min(unknown)}", which are not among its files'
    if adapters and (unknown := _checksums(folder).keys() - found.files.keys()):
        return f'holds "{min(unknown)}", which was not measured'
    for name, value in found.files.items():
        if is_of_adapter(name) and (not adapters or not (folder / name).exists()):
            continue
        if not (folder / name).is_file():
            return f'lacks "{name}"'
        if sha256_of_file(folder / name) != value:
            return f'holds "{name}" changed (its checksum does not match)'
    return None


@cache
def _adapter() -> TypeAdapter[Deployment]:
    return TypeAdapter(with_config(ConfigDict(extra="forbid"))(Deployment))
