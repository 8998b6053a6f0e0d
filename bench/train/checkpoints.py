"""Checkpoints of a training."""

from __future__ import annotations

import shutil
from pathlib import Path

# The folders of checkpoints in a workspace.
CHECKPOINTS = "checkpoint-*"
# Written into a checkpoint last: a checkpoint without it is incomplete.
COMPLETE = "complete.json"
# The losses since the history was last written to, which go into its next entry.
UNLOGGED = "unlogged.json"


def last_checkpoint(workspace: Path) -> Path | None:
    """Return the newest complete checkpoint, and delete the incomplete ones."""
    complete: list[Path] = []
    for folder in workspace.glob(CHECKPOINTS):
        if (folder / COMPLETE).is_file():
            complete.append(folder)
        else:
            shutil.rmtree(folder)
    return max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
