"""Copies what came from elsewhere into a store, all of it or nothing."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

from parbench.bench.store.layout import IMPORTING
from parbench.bench.store.store import Store
from parbench.bench.util.files import explained


def copy_in(source: Path, target: Path, store: Store, aside: str | None = None) -> None:
    """Copy a file or a folder to its place in a store.

    Args:
        source: the file or folder.
        target: its place.
        store: where that is.
        aside: the beginning of a name; what is there is moved aside under it. ``None`` where nothing is.

    Raises:
        UserError: the store cannot be written to.
    """
    staging = store.root / f"{IMPORTING}{uuid.uuid4().hex}"
    with explained(staging):
        try:
            if source.is_dir():
                shutil.copytree(source, staging)
            else:
                shutil.copy(source, staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            if aside is not None and target.exists():
                store.put_aside(target, aside)
            os.replace(staging, target)
        finally:
            # Nothing is left of it where it could not be written.
            if staging.is_dir():
                shutil.rmtree(staging, ignore_errors=True)
            else:
                staging.unlink(missing_ok=True)
