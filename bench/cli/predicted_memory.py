"""The predicted memory of training, as `bench profile --predict` and `bench recommend` print it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from parbench.bench.cli.console import say
from parbench.bench.cli.grid import Grid
from parbench.bench.util.base_precision import QUANTISED
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.profile.prediction import PredictedMemory
    from parbench.bench.profile.workload import Candidate, Workload
    from parbench.bench.util.base_precision import BasePrecision

_PARTS = ("weights", "adapter", "head", "gradients", "optimiser", "activations")
_TITLES = ("method", "size", "batch", *_PARTS, "at once", "process")


def print_predicted(candidates: Sequence[Candidate], work: Workload, batches: Sequence[int], console: Console) -> None:
    """Print the predicted memory of training each candidate, in MiB.

    Raises:
        UserError: there is none of any of them.
    """
    from parbench.bench.profile.prediction import predicted_or_why

    rows: list[tuple[str, ...]] = []
    unknown: list[str] = []
    for batch in batches:
        for candidate in candidates:
            found = candidate.refusal or predicted_or_why(candidate, replace(work, batch_size=batch))
            if isinstance(found, str):
                unknown.append(f"{candidate.name}: not predicted ({found})")
                continue
            rows.append((candidate.name, candidate.size or "—", str(batch), *_cells(found)))
    if not rows:
        raise UserError(f"nothing was predicted: {'; '.join(dict.fromkeys(unknown))}")
    where = f"{work.base_model}, {work.length} tokens, {work.dtype}"
    title = f"predicted memory of training, MiB: {where}"
    console.print(Grid(_TITLES, rows, title=title, numbers=frozenset(_TITLES[2:])))
    say(
        "At once: the most bytes of tensors that are alive at any time, in loading and in a step. Process: resident "
        "memory on the CPU above that of a process that has only imported the libraries; it varies by 8 % or so from "
        "run to run.",
        console,
    )
    if work.dtype in QUANTISED:
        say(
            "On weights in nf4 a process took up to 22 % more than predicted, or 10 % less, and in int8 up to 40 % "
            "more; see bench/profile/PERFORMANCE.md.",
            console,
        )
    for sentence in dict.fromkeys(unknown):
        say(sentence, console)


def _cells(found: PredictedMemory) -> list[str]:
    sizes = [getattr(found.parts, part) for part in _PARTS]
    return [f"{size / 2**20:,.1f}" for size in (*sizes, found.peak, found.process)]


def print_predicted_of_runs(runs: Sequence[PlannedRun], model: str, limit: int | None, console: Console) -> None:
    """Print the predicted memory of each method of a plan, and which of them do not fit.

    Args:
        runs: of one base model.
        model: how the user named it.
        limit: bytes that training may take.
    """
    from parbench.bench.profile.prediction import predicted_or_why
    from parbench.bench.profile.workload import Candidate, Workload
    from parbench.bench.util.process_memory import resident_bytes
    from parbench.reports.recommend.options import size_text

    start = resident_bytes()
    for run in {run.spec.method: run for run in runs}.values():
        spec = run.spec
        workload = Workload.of_training(model, spec.training, cast("BasePrecision", spec.base_precision))
        found = predicted_or_why(Candidate(spec.method, spec.method, spec.setting, method=spec.method), workload)
        if isinstance(found, str):
            say(f"memory of {spec.method}: not known ({found})", console)
            continue
        whole = start + found.process
        over = "" if limit is None or whole <= limit else f", more than {size_text(limit)}: leave it out"
        say(f"memory of {spec.method} in training: {size_text(whole)}, predicted{over}", console)
