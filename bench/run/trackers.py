"""Trackers that show a training while it runs: TensorBoard, Weights & Biases, MLflow.

The logging is done by transformers' callbacks for ``report_to``. Each run gets its own run in a tracker under a
descriptive name; it is closed when the training ends or fails, and continued when an interrupted training resumes.
Trackers change no result and appear in no spec and no record. The little time that they take counts as training.

TensorBoard's files are in the store under ``tensorboard/NAME``, beside the records and not among them: one
``tensorboard --logdir`` shows all runs, including unfinished ones. Records hold no checksums of these files, exports
leave them out, and ``bench gc`` keeps them. The other two trackers are configured by their own variables
(``WANDB_PROJECT``, ``WANDB_MODE``, ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``, ...).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.store.layout import TENSORBOARD
from parbench.bench.util.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from parbench.bench.record.run_spec import RunSpec
    from parbench.bench.store.store import Store

_PROJECT = "parbench"
# A file's name has 255 bytes at most, and a method's expression may be long.
_LONGEST = 160


@dataclass(frozen=True)
class Tracked:
    """A training that is about to begin.

    Attributes:
        name: name of the run in the tracker.
        store: the store of the run.
        workspace: workspace of the run; it holds the tracker's id of the run, by which a resumed training is continued.
        steps: optimiser steps done before, if the training is resumed.
    """

    name: str
    store: Store
    workspace: Path
    steps: int


def run_name(spec: RunSpec) -> str:
    """Return the name of a run in a tracker and of its folder: method, task, seed and id."""
    words = f"{spec.method}-{spec.task}"[:_LONGEST]
    return re.sub(r"[^\w.,=+()-]+", "-", f"{words}-seed{spec.seed}-{spec.run_id}", flags=re.ASCII)


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers exist and are installed.

    Raises:
        UserError: there is no such tracker, or its package is not installed.
    """
    for name in names:
        if name not in _TRACKERS:
            raise UserError(f'--report-to knows no tracker called "{name}"{did_you_mean(name, _TRACKERS)}')
        if not _is_installed(name):
            raise UserError(f"--report-to {name} needs the package {name}; install it with: pip install {name}")


def _is_installed(name: str) -> bool:
    from transformers import integrations

    if name == "tensorboard":
        # transformers also accepts tensorboardX, torch's writer does not.
        return find_spec("tensorboard") is not None
    return bool(integrations.is_wandb_available() if name == "wandb" else integrations.is_mlflow_available())


@contextmanager
def reporting(
    names: Sequence[str], spec: RunSpec, store: Store, checkpoint: Path | None
) -> Iterator[list[TrainerCallback]]:
    """Return a context for a training, with the callbacks that report it to trackers.

    Args:
        names: names of trackers, see `check_trackers`.
        spec: the run.
        store: the store of the run.
        checkpoint: the checkpoint from which the training resumes, if it does.
    """
    steps = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    tracked = Tracked(run_name(spec), store, store.workspace(spec.run_id), steps)
    with ExitStack() as stack:
        yield [stack.enter_context(_TRACKERS[name](tracked)) for name in dict.fromkeys(names)]


@contextmanager
def _tensorboard(tracked: Tracked) -> Iterator[TrainerCallback]:
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    # Hides what an earlier attempt has logged beyond the step of the checkpoint.
    writer = SummaryWriter(str(tracked.store.root / TENSORBOARD / tracked.name), purge_step=tracked.steps + 1)
    try:
        yield TensorBoardCallback(writer)
    finally:
        writer.close()


@contextmanager
def _wandb(tracked: Tracked) -> Iterator[TrainerCallback]:
    import wandb  # type: ignore[import-not-found,unused-ignore]
    from transformers.integrations import WandbCallback

    known = tracked.workspace / "wandb-run"
    earlier = known.read_text(encoding="utf-8") if known.is_file() else None
    project = os.environ.get("WANDB_PROJECT", _PROJECT)
    # Not left to the callback, which would continue any run that the process has open.
    run = wandb.init(project=project, name=tracked.name, id=earlier, resume="allow" if earlier else None)
    try:
        known.write_text(run.id, encoding="utf-8")
        yield WandbCallback()
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


@contextmanager
def _mlflow(tracked: Tracked) -> Iterator[TrainerCallback]:
    import mlflow  # type: ignore[import-not-found,unused-ignore]
    from transformers.integrations import MLflowCallback

    known = tracked.workspace / "mlflow-run"
    earlier = known.read_text(encoding="utf-8") if known.is_file() else None
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT))
    run = mlflow.start_run(run_id=earlier, run_name=tracked.name)
    try:
        known.write_text(run.info.run_id, encoding="utf-8")
        yield MLflowCallback()
    except BaseException:
        mlflow.end_run("FAILED")
        raise
    mlflow.end_run()


_TRACKERS: dict[str, Callable[[Tracked], AbstractContextManager[TrainerCallback]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
