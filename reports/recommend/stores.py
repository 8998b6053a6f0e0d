"""The stores that a recommendation reads: the user's, and published studies."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from parbench.bench.store.archive import take_in
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading, writing
from parbench.tasks.data.package import cache_folder

# Each study's folder holds the export of its records.
STUDIES = Path(__file__).parents[1] / "studies"


def asked_stores(folders: Sequence[Path], default: Path) -> list[Store]:
    """Return the stores that have runs; the default one only where none is named, and where it exists.

    Raises:
        UserError: a folder that was named is not a store.
    """
    stores = [Store(folder) for folder in folders]
    for store in stores:
        if not store.runs.is_dir():
            raise UserError(f'"{store.root}" is not a store: it has no folder of runs; name the --out of bench run')
    if not stores and Store(default).runs.is_dir():
        stores = [Store(default)]
    return [store for store in stores if any(store.runs.iterdir())]


def published_stores() -> list[Store]:
    """Return the records of the published studies, unpacked into the user's cache.

    Raises:
        UserError: one cannot be read, or the cache cannot be written to.
    """
    return [_unpacked(archive) for archive in sorted(STUDIES.glob("*/*.tar.gz"))]


def _unpacked(archive: Path) -> Store:
    with reading(archive):
        name = hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
    folder = cache_folder() / "studies" / f"{archive.parent.name}-{name}"
    if not folder.is_dir():
        # Complete or not there: another command may do the same.
        temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        store = Store(temporary)
        with writing(folder, "another PARBENCH_CACHE"):
            try:
                store.prepare()
                take_in(archive, store)
                os.rename(temporary, folder)
            except OSError:
                # Another command was faster.
                if not folder.is_dir():
                    raise
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return Store(folder)
