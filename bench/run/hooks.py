"""How a run communicates with the code that supervises it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from parbench.bench.train.callbacks import OnStep


@dataclass(frozen=True)
class RunHooks:
    """Callbacks and options of one execution of a run; none of them changes its result.

    Attributes:
        on_step: called after every optimiser step.
        on_batch: called after every batch of an evaluation with its number of rows.
        stop: asked after every step whether to save a checkpoint and stop.
        may_retry: whether a failure that may be transient, such as a lost connection, raises `TransientError` instead
            of writing a record.
        shares: whether other runs use, or have used, the same accelerator.
        trackers: names of trackers that the training reports to, see `parbench.bench.run.trackers`.
        workers: number of runs that the command executes at the same time, this one included.
    """

    on_step: OnStep = lambda done, total, loss: None
    on_batch: Callable[[int], None] = lambda rows: None
    stop: Callable[[], bool] = lambda: False
    may_retry: bool = False
    shares: Callable[[], bool] = lambda: False
    trackers: tuple[str, ...] = ()
    workers: int = 1


NO_HOOKS = RunHooks()
